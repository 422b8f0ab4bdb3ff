//! What all workers have in common: what was asked for, and where they stand.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evloop::{Address, ConnectionLimit, ServerMetrics, TlsServerContext};

use crate::arguments::Options;
use crate::count::Count;
use crate::manager::Manager;
use crate::stats::{Report, Tally};

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) options: Options,
    pub(crate) context: Option<TlsServerContext>,
    pub(crate) manager: Arc<Manager>,
    /// How often all loops say that they run, if the manager asks.
    pub(crate) heartbeat: Option<Duration>,
    /// How many of SIGINT and SIGTERM came.
    pub(crate) signals: Arc<Count>,
    /// Rises to one when all that is to be served is.
    pub(crate) served: Count,
    /// How many connections there may be, wherever they come.
    pub(crate) limit: Option<ConnectionLimit>,
    tallies: Vec<Arc<Tally>>,
    /// What the servers of all workers count.
    servers: Mutex<Vec<ServerMetrics>>,
    /// If there are to be numbers.
    report: Option<Mutex<Report>>,
    standing: Mutex<Standing>,
}

/// The workers, by their indices, and behind them the supervisor.
#[derive(Debug)]
struct Standing {
    /// Those that do not serve yet, and what the first one serves.
    starting: BTreeSet<usize>,
    addresses: Vec<Address>,
    /// Those that run, and of them those that the manager waits for.
    running: BTreeSet<usize>,
    silent: BTreeSet<usize>,
}

impl Service {
    pub(crate) fn new(
        options: Options,
        context: Option<TlsServerContext>,
        manager: Arc<Manager>,
        signals: Arc<Count>,
    ) -> io::Result<Self> {
        let report = options.stats.map(Report::new).transpose()?;
        Ok(Self {
            context,
            // So three quarters of its patience are left to a loop that is busy.
            heartbeat: manager.watchdog()?.map(|patience| patience / 4),
            manager,
            signals,
            served: Count::default(),
            limit: options.max_connections.map(ConnectionLimit::new),
            servers: Mutex::default(),
            tallies: (0..options.workers).map(|_| Arc::default()).collect(),
            report: report.map(Mutex::new),
            standing: Mutex::new(Standing::new(options.workers)),
            options,
        })
    }

    pub(crate) fn tally(&self, worker: usize) -> &Arc<Tally> {
        &self.tallies[worker]
    }

    /// There is a server with these numbers.
    pub(crate) fn counts(&self, server: ServerMetrics) {
        lock(&self.servers).push(server);
    }

    /// A worker serves. When the last one does, so does the service.
    pub(crate) fn serves(&self, worker: usize, addresses: Vec<Address>) {
        let all = {
            let mut standing = lock(&self.standing);
            standing.starting.remove(&worker);
            if worker == 0 {
                standing.addresses = addresses;
            }
            standing
                .starting
                .is_empty()
                .then(|| std::mem::take(&mut standing.addresses))
        };
        if let Some(addresses) = all {
            announce(&addresses);
            self.manager.ready();
            self.served.raise();
        }
    }

    /// The supervisor's loop runs: all signals come to it.
    pub(crate) fn supervisor_beats(&self) {
        self.beats(self.options.workers);
    }

    /// A worker's loop runs. When all have said so, the manager is told.
    pub(crate) fn beats(&self, worker: usize) {
        let are_all_heard = lock(&self.standing).hear(worker);
        if are_all_heard {
            self.manager.is_alive();
        }
    }

    /// A worker is over, and will say nothing any more.
    pub(crate) fn is_over(&self, worker: usize) {
        let are_all_heard = lock(&self.standing).leave(worker);
        if are_all_heard {
            self.manager.is_alive();
        }
    }

    pub(crate) fn tell_interval(&self) {
        if let Some(report) = &self.report {
            lock(report).tell_interval(&self.tallies, &lock(&self.servers));
        }
    }

    /// If there was ever something to tell.
    pub(crate) fn tell_total(&self) {
        let has_served = lock(&self.standing).starting.is_empty();
        if let Some(report) = self.report.as_ref().filter(|_| has_served) {
            lock(report).tell_total(&self.tallies, &lock(&self.servers));
        }
    }
}

impl Standing {
    fn new(workers: usize) -> Self {
        let all: BTreeSet<usize> = (0..=workers).collect();
        Self {
            starting: (0..workers).collect(),
            addresses: Vec::new(),
            running: all.clone(),
            silent: all,
        }
    }

    /// Whether all that run have said something now; then it begins anew.
    fn hear(&mut self, worker: usize) -> bool {
        self.silent.remove(&worker);
        let are_all_heard = self.silent.is_empty();
        if are_all_heard {
            self.silent.clone_from(&self.running);
        }
        are_all_heard
    }

    /// It is over. Whether the others had waited for this one alone.
    fn leave(&mut self, worker: usize) -> bool {
        self.running.remove(&worker);
        let are_all_heard = self.hear(worker);
        are_all_heard && !self.running.is_empty()
    }
}

/// What is guarded is whole at each moment.
fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line for each socket. A stdout that nobody reads is no reason to stop serving.
fn announce(addresses: &[Address]) {
    let mut stdout = io::stdout().lock();
    for address in addresses {
        if let Err(error) = writeln!(stdout, "Serving on {address}").and_then(|()| stdout.flush()) {
            log::warn!("stdout: {error}");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Standing;

    #[test]
    fn the_manager_hears_of_all_loops_or_of_none() {
        let mut standing = Standing::new(2);
        for _ in 0..2 {
            let heard = [0, 1, 0, 1, 2].map(|worker| standing.hear(worker));
            assert_eq!(heard, [false, false, false, false, true]);
        }
        // One that is over is not waited for.
        assert!(!standing.leave(1));
        assert!(!standing.hear(0));
        assert!(standing.hear(2));
        assert!(!standing.hear(2));
        // All that are left had said so: it is told when the last silent one goes.
        assert!(standing.leave(0));
        assert!(standing.hear(2));
        // Of nobody there is nothing to tell.
        assert!(!standing.leave(2));
    }
}
