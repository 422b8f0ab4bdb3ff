//! One worker: a loop, from its first socket to its last connection.

use std::future::IntoFuture;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use evloop::{LoopHandle, Server, get_running_loop, sleep};

use crate::service::Service;
use crate::serving::{Listener, start};
use crate::tls;

/// Serves on the running loop until a signal comes, and until the last connection is over.
pub(crate) async fn work(
    service: Arc<Service>,
    worker: usize,
    listeners: Vec<Listener>,
) -> io::Result<()> {
    let handle = get_running_loop()?;
    let tally = Arc::clone(service.tally(worker));
    // The level decides alone, also when it is `off`.
    handle.set_exception_handler(move |_, context| {
        tally.add_error();
        log::error!("{context}");
    });
    let ssl = tls::argument(service.context.as_ref());
    let mut servers = Vec::new();
    for listener in listeners {
        let tally = service.tally(worker);
        servers.push(start(&service.options, &ssl, tally, listener).await?);
    }
    listen_to_signals(&handle, &service)?;
    // All workers have the same context, and one of them reads it again.
    if worker == 0 && service.context.is_some() {
        tls::reload_at_sighup(&handle, &service)?;
    }
    keep_telling(&handle, &service, worker);
    service.serves(worker, servers.iter().flat_map(Server::sockets).collect());

    service.signals.reached(1).await;
    end(&handle, &service, &servers).await?;
    service.tally(worker).look_at(&handle);
    service.is_over(worker);
    Ok(())
}

fn listen_to_signals(handle: &LoopHandle, service: &Arc<Service>) -> io::Result<()> {
    let told = Arc::clone(service);
    service.signals.listen(handle, move |number| match number {
        1 => {
            log::info!("stopping; a second signal aborts what is open");
            told.manager.stopping();
        }
        2 => log::info!("another signal: aborting"),
        // Nothing is left to ask for.
        _ => {}
    })
}

/// What is said every so often, for as long as the loop runs.
fn keep_telling(handle: &LoopHandle, service: &Arc<Service>, worker: usize) {
    if let Some(interval) = service.heartbeat {
        let service = Arc::clone(service);
        service.beats(worker);
        repeat(handle, interval, move |_| service.beats(worker));
    }
    if let Some(interval) = service.options.stats {
        // What takes longer is logged, and without a limit nothing is timed.
        handle.set_slow_callback_duration(SLOW);
        let service = Arc::clone(service);
        repeat(handle, interval, move |handle| {
            service.tally(worker).look_at(handle);
            if worker == 0 {
                service.tell_interval();
            }
        });
    }
}

fn repeat(handle: &LoopHandle, interval: Duration, mut job: impl FnMut(&LoopHandle) + 'static) {
    let its = handle.clone();
    drop(handle.create_task(async move {
        while sleep(interval).await.is_ok() {
            job(&its);
        }
    }));
}

/// From the first signal on.
async fn end(handle: &LoopHandle, service: &Arc<Service>, servers: &[Server]) -> io::Result<()> {
    let (signals, aborted) = (Arc::clone(&service.signals), servers.to_vec());
    drop(handle.create_task(async move {
        signals.reached(2).await;
        aborted.iter().for_each(Server::abort_clients);
    }));
    let endings: Vec<_> = servers
        .iter()
        .map(|server| {
            let shutdown = server.shutdown().drain(service.options.shutdown_timeout);
            handle.create_task(shutdown.close(FLUSH_TIMEOUT).into_future())
        })
        .collect();
    for ending in endings {
        log::info!("connections: {}", ending.await??);
    }
    Ok(())
}

/// After the shutdown timeout: for what was echoed and is not sent yet.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// asyncio's `slow_callback_duration`.
const SLOW: Duration = Duration::from_millis(100);
