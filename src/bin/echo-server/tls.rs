//! The certificate: read at the start, and again at each SIGHUP.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use evloop::signals::SIGHUP;
use evloop::{LoopHandle, Ssl, TlsServerContext, get_running_loop};

use crate::arguments::Options;
use crate::count::Count;
use crate::service::Service;

/// What the options say about TLS; `None` if that is nothing.
pub(crate) fn context(options: &Options) -> io::Result<Option<TlsServerContext>> {
    // The one is never given without the other.
    let (Some(cert), Some(key)) = (&options.tls_cert, &options.tls_key) else {
        return Ok(None);
    };
    let mut builder = TlsServerContext::builder(cert, key);
    if let Some(client_ca) = &options.tls_client_ca {
        builder = builder.client_ca(client_ca);
    }
    builder.build().map(Some)
}

/// The same as a server's argument.
pub(crate) fn argument(context: Option<&TlsServerContext>) -> Ssl<TlsServerContext> {
    context.map_or_else(|| false.into(), Ssl::from)
}

/// Counts each SIGHUP from now on, where it would end the process else, if there is something to
/// read again.
pub(crate) fn count_sighups(handle: &LoopHandle, options: &Options) -> io::Result<Rc<Count>> {
    let came = Rc::<Count>::default();
    if options.tls_cert.is_some() {
        let came = Rc::clone(&came);
        handle.add_signal_handler(SIGHUP, move || {
            came.raise();
        })?;
    }
    Ok(came)
}

/// Has the files read again at each SIGHUP. Those that come before all is served wait for that:
/// whoever hears of a reload believes that there is a server.
///
/// They are read off the loop's thread, and once at a time: what counts is what is there after the
/// last signal.
pub(crate) async fn reload_at_sighup(service: Arc<Service>, hangups: Rc<Count>) {
    let (Some(context), Ok(handle)) = (&service.context, get_running_loop()) else {
        return;
    };
    service.served.reached(1).await;
    let mut seen = 0;
    loop {
        seen = hangups.reached(seen + 1).await;
        service.manager.reloading();
        let context = context.clone();
        let reading = handle.run_in_executor(move || context.reload());
        let status = match reading.await.unwrap_or_else(|error| Err(error.into())) {
            Ok(()) => {
                log::info!("SIGHUP: new connections get the certificate as it is now");
                String::new()
            }
            Err(error) => {
                let status = format!("the certificate stays as it was: {error}");
                log::error!("SIGHUP: {status}");
                status
            }
        };
        service.manager.reloaded(&status);
    }
}
