//! Who runs when.
//!
//! Owns: [`Run`], the loop over all loops. Why: loops that share a thread and a clock need somebody
//! who gives them turns and lets time pass. Invariants: loops run in turn and never within each
//! other; time passes when all of them sleep, and a little with each round; a job of an executor runs
//! on a thread of its own while the world stands still. asyncio's counterpart: none.

use std::rc::Rc;
use std::time::Duration;

use crate::event_loop::LoopHandle;
use crate::event_loop::cells::{Queue, Shared};
use crate::sys::run_elsewhere;
use crate::testing::error::{OpenSocket, SimulationError, Standstill, Waiting};
use crate::testing::ids::HostId;
use crate::testing::socket::Life;
use crate::testing::world::World;

/// One run of all loops.
pub(super) struct Run {
    pub(super) world: Rc<Shared<World>>,
    pub(super) reports: Rc<Queue<(HostId, String)>>,
    pub(super) loops: Vec<LoopHandle>,
    pub(super) main: HostId,
    pub(super) time_limit: Duration,
    /// How many rounds have gone by without a pause.
    pub(super) busy: u32,
}

impl Run {
    pub(super) fn run(&mut self, root: &mut dyn FnMut()) -> Result<(), SimulationError> {
        loop {
            let mut awake: Vec<HostId> = (0..self.loops.len())
                .map(HostId)
                .filter(|host| self.is_awake(*host))
                .collect();
            self.world.with(|world| world.random.shuffle(&mut awake));
            for host in awake {
                if self.turn(host, root)? {
                    return Ok(());
                }
            }
            self.let_time_pass(root)?;
            self.run_jobs();
        }
    }

    fn is_awake(&self, host: HostId) -> bool {
        self.loops[host.0].has_work() || self.world.with(|world| world.is_awake(host))
    }

    /// One turn of one loop. True if it was the main one's last.
    fn turn(&self, host: HostId, root: &mut dyn FnMut()) -> Result<bool, SimulationError> {
        self.world.with(|world| world.wake(host));
        let handle = &self.loops[host.0];
        let is_main = host == self.main;
        let stopped = if is_main {
            handle.turn(root)
        } else {
            handle.turn(&mut || {})
        };
        match self.reports.pop() {
            Some((host, message)) => Err(SimulationError::Panicked {
                host: self.name(host),
                message,
            }),
            None => Ok(stopped && is_main),
        }
    }

    /// A moment, if somebody has something to do; else until something happens.
    fn let_time_pass(&mut self, root: &mut dyn FnMut()) -> Result<(), SimulationError> {
        let busy = (0..self.loops.len()).any(|host| self.is_awake(HostId(host)));
        if busy {
            self.busy += 1;
            if self.busy > LONGEST_BUSY {
                return Err(SimulationError::Livelock(self.standstill(root)));
            }
            if self.world.with(|world| world.now) > self.time_limit {
                return Err(SimulationError::TimeLimit(self.standstill(root)));
            }
            self.world.with(|world| {
                let moment = world.random.duration(SHORTEST_ROUND..=LONGEST_ROUND);
                world.advance(world.now + moment);
            });
            return Ok(());
        }
        self.busy = 0;
        match self.world.with(|world| world.next()) {
            Some(next) if next <= self.time_limit => {
                self.world.with(|world| world.advance(next));
                Ok(())
            }
            Some(_) => Err(SimulationError::TimeLimit(self.standstill(root))),
            None => Err(self.deadlock(root)),
        }
    }

    fn deadlock(&self, root: &mut dyn FnMut()) -> SimulationError {
        // Whoever is polled without a reason has nothing to do, unless a reason was kept from them.
        let has_got_on = || {
            let awake = (0..self.loops.len()).any(|host| self.is_awake(HostId(host)));
            awake || self.world.with(|world| world.next().is_some())
        };
        for (number, handle) in self.loops.iter().enumerate() {
            let id = HostId(number);
            if let Some(task) = handle.overdue(self.root_of(id, root), has_got_on) {
                let host = self.name(id);
                return SimulationError::LostWakeUp { host, task };
            }
        }
        SimulationError::Deadlock(self.standstill(root))
    }

    fn standstill(&self, root: &mut dyn FnMut()) -> Standstill {
        let mut waiting = Vec::new();
        for (number, handle) in self.loops.iter().enumerate() {
            let id = HostId(number);
            let waits = handle.waits(self.root_of(id, root));
            waiting.extend(waits.into_iter().map(|wait| Waiting {
                host: self.name(id),
                task: wait.who,
                waits_for: wait.waits_for,
            }));
        }
        let parted = self.world.with(|world| {
            let partitions = world.partitions.iter();
            let parted =
                partitions.map(|((one, other), partition)| (*one, *other, partition.held.len()));
            parted.collect::<Vec<_>>()
        });
        let named = parted.into_iter();
        Standstill {
            after: self.world.with(|world| world.now),
            waiting,
            sockets: self.sockets(),
            partitions: named
                .map(|(one, other, held)| (self.name(one), self.name(other), held))
                .collect(),
        }
    }

    fn sockets(&self) -> Vec<OpenSocket> {
        self.world.with(|world| {
            let open = world
                .sockets
                .values()
                .filter(|socket| socket.life == Life::Open);
            open.map(|socket| OpenSocket {
                host: world.name(socket.host).to_owned(),
                local: socket.local.clone(),
                remote: socket.remote.clone(),
                unread: socket.received.len(),
                blocked: socket.blocked,
            })
            .collect()
        })
    }

    fn root_of<'a>(&self, host: HostId, root: &'a mut dyn FnMut()) -> Option<&'a mut dyn FnMut()> {
        if host == self.main { Some(root) } else { None }
    }

    fn name(&self, host: HostId) -> String {
        self.world.with(|world| world.name(host).to_owned())
    }

    /// Functions that were given to an executor, each on a thread of its own: it may not see which
    /// loop runs here.
    fn run_jobs(&self) {
        for (_, job) in self.world.with(World::due_jobs) {
            run_elsewhere(job);
        }
    }
}

/// So many rounds may go by without a pause.
const LONGEST_BUSY: u32 = 1_000_000;
/// What a round of turns takes.
const SHORTEST_ROUND: Duration = Duration::from_micros(1);
const LONGEST_ROUND: Duration = Duration::from_micros(20);
