//! The certificate: read at the start, and again at each SIGHUP.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use evloop::signals::SIGHUP;
use evloop::{LoopHandle, Ssl, TlsServerContext};

use crate::arguments::Options;
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

/// Has a SIGHUP that comes while it starts wait for [`reload_at_sighup`], where it would end the
/// process else.
pub(crate) fn catch_sighup(handle: &LoopHandle, options: &Options) -> io::Result<()> {
    match options.tls_cert {
        Some(_) => handle.add_signal_handler(SIGHUP, || {}),
        None => Ok(()),
    }
}

/// Has the files read again at each SIGHUP.
pub(crate) fn reload_at_sighup(handle: &LoopHandle, service: &Arc<Service>) -> io::Result<()> {
    let reload = Rc::new(Reload {
        service: Arc::clone(service),
        handle: handle.clone(),
        is_wanted: Cell::new(false),
        is_running: Cell::new(false),
    });
    handle.add_signal_handler(SIGHUP, move || {
        reload.is_wanted.set(true);
        if !reload.is_running.replace(true) {
            drop(reload.handle.create_task(Rc::clone(&reload).run()));
        }
    })
}

/// Reading off the loop's thread, and once at a time: what counts is what is there after the last
/// signal.
struct Reload {
    service: Arc<Service>,
    handle: LoopHandle,
    is_wanted: Cell<bool>,
    is_running: Cell<bool>,
}

impl Reload {
    async fn run(self: Rc<Self>) {
        while self.is_wanted.take() {
            let Some(context) = self.service.context.clone() else {
                break;
            };
            self.service.manager.reloading();
            let reading = self.handle.run_in_executor(move || context.reload());
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
            self.service.manager.reloaded(&status);
        }
        self.is_running.set(false);
    }
}
