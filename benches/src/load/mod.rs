//! The load generator: one thread, one epoll instance for each server, every byte accounted for.
//!
//! It runs in the command's own process, on a core of its own. A slice of load ends after whole
//! batches, so the operations in it are counted exactly. Lengths are checked always and contents
//! where asked for: a server that is wrong is not measured.

mod churn;
mod exchange;
mod histogram;
mod one_way;
mod pattern;
mod wire;

use std::io;
use std::time::{Duration, Instant};

use crate::cells::{Cell, Shape};

pub use histogram::Histogram;

/// Bytes that one receive of the client takes at most.
const SCRATCH: usize = 256 * 1024;

/// How long a piece of load goes on.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// Each connection begins anew as soon as it is done, until the time is up and there were
    /// [`ROUND_TRIPS`] for each connection.
    Elapsed(Duration),
    /// Each connection begins once: the same for every server, however fast it is.
    Batch,
}

/// Round trips for each connection that a slice has at least, be it longer for that: with ten
/// thousand connections a fifth of a second is three of them, and what is measured would be the
/// beginning and the end.
pub const ROUND_TRIPS: u64 = 20;

/// How much is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Check {
    Lengths,
    Contents,
}

/// The load of one cell on one server.
pub trait Load {
    /// Makes the connections that are not part of the slice, where they are not there already.
    fn open(&mut self) -> io::Result<()>;

    /// Makes load and returns the number of operations: echoes, lines, connections, or bytes
    /// where the cell is a bulk cell.
    fn run(&mut self, until: Until, check: Check) -> io::Result<u64>;

    /// Closes the connections.
    fn close(&mut self);

    /// Round-trip times so far, of the cells that have round trips.
    fn times(&mut self) -> Option<&mut Histogram>;
}

/// The load of `cell` on the server at `port`. A bulk cell moves `bulk` bytes in a batch, all its
/// connections together.
pub fn of(cell: &Cell, port: u16, bulk: usize) -> io::Result<Box<dyn Load>> {
    let share = bulk / cell.connections;
    Ok(match cell.shape {
        Shape::Echo { bytes, pipelined } => Box::new(exchange::Exchange::messages(
            port,
            cell.connections,
            bytes,
            pipelined,
        )?),
        Shape::Lines => Box::new(exchange::Exchange::lines(port, cell.connections)?),
        Shape::BulkEcho => Box::new(exchange::Exchange::bulk(port, cell.connections, share)?),
        Shape::Upload => Box::new(one_way::OneWay::upload(port, cell.connections, share)?),
        Shape::Download => Box::new(one_way::OneWay::download(port, cell.connections, share)?),
        Shape::Churn => Box::new(churn::Churn::new(port, cell.connections)?),
    })
}

/// Batches one after another until the time is up: at least one, and only whole ones.
fn again_until(time: Duration, mut batch: impl FnMut() -> io::Result<u64>) -> io::Result<u64> {
    let deadline = Instant::now() + time;
    let mut operations = batch()?;
    while Instant::now() < deadline {
        operations += batch()?;
    }
    Ok(operations)
}

/// What a wrong answer is reported as.
fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
