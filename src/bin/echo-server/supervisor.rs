//! What is done once, however many workers there are: the first thread's loop does it.
//!
//! It has no connections, so it is never busy. It is there before the first worker and until the
//! last one is over: no signal comes when nobody listens, and the numbers are told to the end.

use std::io;
use std::sync::Arc;

use evloop::{GroupError, LoopGroup, LoopHandle, get_running_loop};

use crate::activation;
use crate::arguments::{NAME, Options};
use crate::count::Count;
use crate::manager::Manager;
use crate::service::Service;
use crate::serving::{self, Listener};
use crate::signals;
use crate::tls;
use crate::worker::{repeat, work};

/// From the arguments to the last connection, on the running loop.
pub(crate) async fn supervise(options: Options) -> io::Result<()> {
    let handle = get_running_loop()?;
    let manager = Arc::new(Manager::from_env()?);
    // Before all that takes time: whoever says now that it should end is not to be missed.
    let signals = listen_to_signals(&handle, &manager)?;
    let hangups = tls::count_sighups(&handle, &options)?;
    let inherited = activation::inherited()?;
    let options = options.with_workers(!inherited.is_empty())?;
    let context = tls::context(&options)?;
    let listeners = serving::listeners(&options, inherited);
    let Some(listeners) = signals.or_output(listeners).await else {
        return Ok(());
    };
    let service = Arc::new(Service::new(options, context, manager, signals)?);
    drop(handle.create_task(tls::reload_at_sighup(Arc::clone(&service), hangups)));
    if let Some(interval) = service.heartbeat {
        let service = Arc::clone(&service);
        service.supervisor_beats();
        repeat(&handle, interval, move |_| service.supervisor_beats());
    }
    if let Some(interval) = service.options.stats {
        let service = Arc::clone(&service);
        repeat(&handle, interval, move |_| service.tell_interval());
    }
    let outcome = run_workers(&handle, &service, listeners?).await;
    service.tell_total();
    outcome
}

fn listen_to_signals(handle: &LoopHandle, manager: &Arc<Manager>) -> io::Result<Arc<Count>> {
    let (came, manager) = (Arc::<Count>::default(), Arc::clone(manager));
    signals::listen(handle, &came, move |number| match number {
        1 => {
            log::info!("stopping; a second signal aborts what is open");
            manager.stopping();
        }
        2 => log::info!("another signal: aborting"),
        // Nothing is left to ask for.
        _ => {}
    })?;
    Ok(came)
}

/// They end all together if one of them fails, so that nobody believes that all is well while a
/// part of it is gone.
async fn run_workers(
    handle: &LoopHandle,
    service: &Arc<Service>,
    listeners: Vec<Vec<Listener>>,
) -> io::Result<()> {
    let group = LoopGroup::new(listeners.len())?.thread_name(NAME);
    let service = Arc::clone(service);
    // It waits for its threads, and this one has other things to do.
    let workers = handle.run_in_executor(move || {
        group.run_with(listeners, |worker, listeners| {
            work(Arc::clone(&service), worker.index(), listeners)
        })
    });
    match workers.await? {
        Ok(_) => Ok(()),
        // Whatever one of them finds to complain of holds for all.
        Err(GroupError::Failed { error, .. }) => Err(error),
        Err(failure) => Err(failure.into()),
    }
}
