//! A bad day on real sockets.
//!
//! Owns: [`chaotic_loop`], and how a [`Chaos`] becomes a loop. Why: a simulation has no system below
//! it; what a program does with real sockets, descriptors and other processes can be tried under worse
//! conditions than a quiet machine has, too. Invariants: a loop like any other, above its driver.
//! asyncio's counterpart: none.

use std::future::Future;
use std::io;

use crate::event_loop::EventLoop;
use crate::sys::MioDriver;
use crate::tasks::timeout;
use crate::testing::chaos::Chaos;
use crate::testing::chaos_driver::ChaosDriver;
use crate::testing::random::Random;
use crate::testing::seeds::for_each_seed;

/// A loop on the system's sockets that does everything in the worst way that is still allowed, by
/// choices that follow from the seed: [`Chaos::new`]. It is for tests, and an
/// [`EventLoop`] like any other.
///
/// # Errors
///
/// The system's, when it has no descriptor to give.
///
/// ```
/// use evloop::testing::chaotic_loop;
/// use evloop::{open_connection, start_server, StreamReader, StreamWriter};
///
/// async fn echo(mut reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
///     loop {
///         // This may give one byte, and it may give all of them.
///         let data = reader.read(100).await?;
///         if data.is_empty() {
///             return Ok(());
///         }
///         writer.write(data);
///         writer.drain().await?;
///     }
/// }
///
/// chaotic_loop(7)?.run_until_complete(async {
///     let server = start_server(echo, ("127.0.0.1", 0)).await?;
///     let port = server.sockets()[0].port().unwrap();
///     let (mut reader, writer) = open_connection(("127.0.0.1", port)).await?;
///     writer.write(b"hello\n");
///     writer.write_eof()?;
///     assert_eq!(reader.read_to_end(None).await?, b"hello\n");
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn chaotic_loop(seed: u64) -> io::Result<EventLoop> {
    Chaos::new().event_loop(seed)
}

impl Chaos {
    /// A loop of this kind.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the settings make no sense, else the system's, when it has no descriptor to
    /// give.
    pub fn event_loop(&self, seed: u64) -> io::Result<EventLoop> {
        self.check()?;
        let driver = ChaosDriver::new(MioDriver::new()?, self, seed);
        Ok(EventLoop::with_driver(Box::new(driver)))
    }

    /// Runs `scenario` on a loop of its own for each of these seeds, and fails with the first of them
    /// that fails. What it is given are numbers that follow from the seed.
    ///
    /// With the environment variable `SEED` only that one is run: the failing one is printed so that it
    /// can be copied. It makes the same choices again, as far as the system does the same.
    ///
    /// # Panics
    ///
    /// If a run returns an error or does not end within the [time limit](Self::time_limit), after
    /// having printed its seed; if the settings make no sense; if `SEED` is no number; if there are no
    /// seeds; if a loop is running on this thread. A panic of the scenario passes through, after its
    /// seed was printed.
    ///
    /// ```
    /// use std::os::unix::net::UnixStream;
    ///
    /// use evloop::open_connection;
    /// use evloop::testing::Chaos;
    ///
    /// Chaos::new().explore(0..10, |mut random| async move {
    ///     let (one, other) = UnixStream::pair()?;
    ///     let (_reader, writer) = open_connection(one).await?;
    ///     let (mut theirs, _their_writer) = open_connection(other).await?;
    ///     let message = random.bytes(10_000);
    ///     writer.write(&message);
    ///     assert!(theirs.readexactly(10_000).await? == message);
    ///     Ok(())
    /// });
    /// ```
    #[track_caller]
    pub fn explore<F>(
        &self,
        seeds: impl IntoIterator<Item = u64>,
        mut scenario: impl FnMut(Random) -> F,
    ) where
        F: Future<Output = io::Result<()>>,
    {
        if let Err(error) = self.check() {
            panic!("{error}");
        }
        for_each_seed(seeds, |seed| {
            let mut event_loop = self.event_loop(seed)?;
            let scenario = scenario(Random::new(seed).fork());
            match event_loop.run_until_complete(timeout(self.time_limit, scenario)) {
                Ok(outcome) => outcome,
                Err(_) => Err(self.hangs()),
            }
        });
    }

    fn hangs(&self) -> io::Error {
        let limit = self.time_limit;
        let why =
            format!("the run has not ended within {limit:?}: what it waits for does not come");
        io::Error::new(io::ErrorKind::TimedOut, why)
    }
}
