//! The simulation, for its users.
//!
//! Owns: [`Simulation`]: the hosts' loops and the world that they share. Why: a program of several
//! hosts is to run as it is, on one thread, the same for the same seed. Invariants: the loops end
//! before the world does. asyncio's counterpart: none.

use std::error::Error;
use std::fmt;
use std::future::IntoFuture;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::event_loop::cells::{Queue, Shared};
use crate::event_loop::{EventLoop, PanicError};
use crate::testing::driver::SimDriver;
use crate::testing::error::SimulationError;
use crate::testing::host::Host;
use crate::testing::ids::HostId;
use crate::testing::network::Network;
use crate::testing::random::Random;
use crate::testing::resolver::SimResolver;
use crate::testing::run::Run;
use crate::testing::tally::Tally;
use crate::testing::world::World;

/// A world of hosts and a network between them, in which everything follows from a seed.
///
/// Each [host](Self::host) has an event loop of its own, a real one, on a simulated clock and a
/// simulated network; what runs on it is your own code, unchanged. Time jumps to the next deadline
/// when nobody has anything to do, so an hour of waiting takes no time.
///
/// ```
/// use evloop::testing::Simulation;
/// use evloop::{open_connection, start_server, StreamReader, StreamWriter};
///
/// async fn echo(mut reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
///     let line = reader.readline().await?;
///     writer.write(line);
///     writer.drain().await
/// }
///
/// let mut simulation = Simulation::new(42);
/// let (server, client) = (simulation.host("server"), simulation.host("client"));
/// drop(server.create_task(async {
///     start_server(echo, ("server", 7)).await.unwrap().serve_forever().await
/// }));
/// let answer = simulation.run_until_complete(&client, async {
///     // The server may not listen yet.
///     let (mut reader, writer) = loop {
///         match open_connection(("server", 7)).await {
///             Ok(streams) => break streams,
///             Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
///             Err(error) => return Err(error),
///         }
///     };
///     writer.write(b"hello\n");
///     Ok(reader.readline().await?)
/// })??;
/// assert_eq!(answer, b"hello\n");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Simulation {
    seed: u64,
    // Before the world, which they speak to as they end.
    loops: Vec<EventLoop>,
    world: Rc<Shared<World>>,
    reports: Rc<Queue<(HostId, String)>>,
    time_limit: Duration,
}

impl Simulation {
    /// A world without a host, on a good day.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::with_random(Random::new(seed))
        }
    }

    /// The same with numbers from elsewhere, such as a fuzzer's bytes.
    pub fn with_random(random: Random) -> Self {
        Self {
            seed: 0,
            loops: Vec::new(),
            world: Rc::new(Shared::new(World::new(random))),
            reports: Rc::new(Queue::new()),
            time_limit: TIME_LIMIT,
        }
    }

    /// The number from which everything follows; 0 if it does not follow from one.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The host of this name, which is made if there is none yet. Its addresses are 10.0.0.*n* and
    /// fd00::*n*, *n* counting the hosts from 1 (behind 255 in two bytes), and its own 127.0.0.1 and
    /// ::1.
    ///
    /// A panic that its loop reports ends the simulation, unless the loop gets another exception
    /// handler. Other reports, such as that of a handler whose client is gone, are logged for
    /// debugging: in a storm there are many.
    ///
    /// # Panics
    ///
    /// If the name is empty, `localhost` or an address, and beyond 65,534 hosts.
    pub fn host(&mut self, name: &str) -> Host {
        let is_taken = name.is_empty() || name == "localhost" || name.parse::<IpAddr>().is_ok();
        assert!(!is_taken, "{name:?} means something else than a host");
        let known = self
            .world
            .with(|world| world.hosts.iter().position(|host| host.name == name));
        let id = match known {
            Some(number) => HostId(number),
            None => self.add_host(name),
        };
        Host {
            world: Rc::clone(&self.world),
            id,
            handle: self.loops[id.0].handle(),
        }
    }

    fn add_host(&mut self, name: &str) -> HostId {
        let id = self.world.with(|world| world.add_host(name));
        let event_loop = EventLoop::with_driver(Box::new(SimDriver::new(&self.world, id)));
        event_loop.set_resolver(SimResolver {
            world: Rc::clone(&self.world),
            host: id,
        });
        let reports = Rc::clone(&self.reports);
        event_loop.set_exception_handler(move |_, context| {
            let panicked = context
                .exception()
                .is_some_and(<dyn Error>::is::<PanicError>);
            if panicked {
                reports.push((id, context.to_string()));
            } else {
                log::debug!("{context}");
            }
        });
        self.loops.push(event_loop);
        id
    }

    /// The network between the hosts.
    pub fn network(&self) -> Network {
        Network(Rc::clone(&self.world))
    }

    /// Ends the simulation with an error when so much of its time has passed: an hour, unless told
    /// otherwise.
    pub fn set_time_limit(&mut self, limit: Duration) {
        self.time_limit = limit;
    }

    /// Numbers that follow from the seed, for whoever wants to make something up.
    pub fn random(&mut self) -> Random {
        self.world.with(|world| world.random.fork())
    }

    /// How much time has passed.
    pub fn now(&self) -> Duration {
        self.world.with(|world| world.now)
    }

    /// What has happened so far.
    pub fn tally(&self) -> Tally {
        self.world.with(|world| world.tally)
    }

    /// A number that stands for everything that has happened on the network, every byte and its
    /// time: two runs that are the same have the same. (Keys and signatures of TLS are not the
    /// seed's, so a run with TLS is the same only in its outcome.)
    pub fn fingerprint(&self) -> u64 {
        self.world.with(|world| world.digest())
    }

    /// Runs all hosts until `future` is complete, which runs on `host`; it may borrow from the
    /// caller. What other tasks do then waits for the next run.
    ///
    /// # Errors
    ///
    /// [`SimulationError`] if it cannot come to its end, and if something panicked that nobody
    /// waits for.
    ///
    /// # Panics
    ///
    /// If a loop is running on this thread, and if the host is of another simulation. A panic of the
    /// future passes through.
    #[track_caller]
    pub fn run_until_complete<F: IntoFuture>(
        &mut self,
        host: &Host,
        future: F,
    ) -> Result<F::Output, SimulationError> {
        assert!(
            Rc::ptr_eq(&host.world, &self.world),
            "this host is of another simulation"
        );
        // Those of an earlier run have failed that.
        drop(self.reports.take_all());
        let mut run = Run {
            world: Rc::clone(&self.world),
            reports: Rc::clone(&self.reports),
            loops: self.loops.iter().map(EventLoop::handle).collect(),
            main: host.id,
            time_limit: self.time_limit,
            busy: 0,
        };
        let mut failure = None;
        let outcome = self.loops[host.id.0].complete(future, |_, root| {
            failure = run.run(root).err();
        });
        match (failure, outcome) {
            (Some(failure), _) => Err(failure),
            (None, Ok(output)) => Ok(output),
            (None, Err(_)) => Err(SimulationError::Stopped),
        }
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("seed", &self.seed)
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

/// How long a simulation may take, in its own time.
const TIME_LIMIT: Duration = Duration::from_secs(3600);
