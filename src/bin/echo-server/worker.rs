//! One worker: a loop, from its first socket to its last connection.

use std::future::IntoFuture;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use evloop::{LoopHandle, Server, get_running_loop, sleep};

use crate::service::Service;
use crate::serving::{Listener, start};

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
    keep_telling(&handle, &service, worker);
    let starting = start_all(&service, worker, listeners);
    // It may end before it has begun.
    if let Some(servers) = service.signals.or_output(starting).await {
        let servers = servers?;
        service.serves(worker, servers.iter().flat_map(Server::sockets).collect());
        service.signals.reached(1).await;
        end(&handle, &service, &servers).await?;
    }
    service.tally(worker).look_last_at(&handle);
    service.is_over(worker);
    Ok(())
}

async fn start_all(
    service: &Arc<Service>,
    worker: usize,
    listeners: Vec<Listener>,
) -> io::Result<Vec<Server>> {
    let mut servers = Vec::new();
    for listener in listeners {
        let server = start(service, worker, listener).await?;
        service.counts(server.metrics());
        servers.push(server);
    }
    Ok(servers)
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
        let tally = Arc::clone(service.tally(worker));
        tally.look_at(handle);
        repeat(handle, interval, move |handle| tally.look_at(handle));
    }
}

/// Does it again and again, after each interval, as long as the loop runs.
pub(crate) fn repeat(
    handle: &LoopHandle,
    interval: Duration,
    mut job: impl FnMut(&LoopHandle) + 'static,
) {
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
