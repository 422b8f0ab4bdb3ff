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

use rustix::net::SocketAddrAny;

use crate::cells::{Cell, Shape};
use crate::load::wire::Target;

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
pub const ROUND_TRIPS: u64 = 10;

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

/// The load of `cell` on `server`. A bulk cell moves `bulk` bytes in a batch, all its connections
/// together.
pub fn of(cell: &Cell, server: &SocketAddrAny, bulk: usize) -> io::Result<Box<dyn Load>> {
    let connections = cell.connections;
    let share = bulk / connections;
    let server = Target::new(server, cell)?;
    Ok(match cell.shape {
        Shape::Echo { bytes, pipelined } => Box::new(exchange::Exchange::messages(
            server,
            connections,
            bytes,
            pipelined,
        )?),
        Shape::Lines => Box::new(exchange::Exchange::lines(server, connections)?),
        Shape::BulkEcho => Box::new(exchange::Exchange::bulk(server, connections, share)?),
        Shape::Upload => Box::new(one_way::OneWay::upload(server, connections, share)?),
        Shape::Download { .. } => Box::new(one_way::OneWay::download(server, connections, share)?),
        Shape::Churn | Shape::Resumed => Box::new(churn::Churn::new(server, connections)?),
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use evloop_benches::folder::Folder;
    use evloop_benches::socket;

    use super::*;
    use crate::cells;

    /// What a cell's load says about a server that serves each connection with `serve`.
    fn verdict(
        cell: &str,
        check: Check,
        serve: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Result<u64, String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().into();
        let cell = named(cell);
        let connections = cell.connections;
        let server = thread::spawn(move || {
            thread::scope(|scope| {
                for _ in 0..connections {
                    let (stream, _) = listener.accept().unwrap();
                    scope.spawn(|| serve(stream));
                }
            });
        });
        let mut load = of(&cell, &address, 1 << 20).unwrap();
        let result = load.open().and_then(|()| load.run(Until::Batch, check));
        drop(load);
        server.join().unwrap();
        result.map_err(|error| {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            error.to_string()
        })
    }

    fn named(name: &str) -> Cell {
        let cell = cells::all().into_iter().find(|known| known.name == name);
        cell.expect("a cell of this name")
    }

    /// Sends back what `change` makes of each piece, until it is sent nothing or cannot send.
    fn echo_with(change: fn(&mut Vec<u8>)) -> impl Fn(TcpStream) {
        move |mut stream| {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let mut answer = buffer[..count].to_vec();
                change(&mut answer);
                if answer.is_empty() || stream.write_all(&answer).is_err() {
                    return;
                }
            }
        }
    }

    #[test]
    fn right_answers_are_counted() {
        assert_eq!(
            verdict("c10-1K", Check::Contents, echo_with(|_| ())),
            Ok(10)
        );
        assert_eq!(
            verdict("lines-c1", Check::Contents, echo_with(|_| ())),
            Ok(16)
        );
        assert_eq!(
            verdict("churn-c10", Check::Contents, echo_with(|_| ())),
            Ok(10)
        );
    }

    #[test]
    fn a_unix_socket_is_reached_by_its_path() {
        let folder = Folder::new().unwrap();
        let path = folder.path().join("server");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut reader, _) = listener.accept().unwrap();
            let mut writer = reader.try_clone().unwrap();
            io::copy(&mut reader, &mut writer).unwrap()
        });
        let address = socket::address(path.to_str().unwrap()).unwrap();
        let mut load = of(&named("unix-c1-1K"), &address, 0).unwrap();
        load.open().unwrap();
        assert_eq!(load.run(Until::Batch, Check::Contents).unwrap(), 1);
        drop(load);
        // The one that opening sends, and the batch.
        assert_eq!(server.join().unwrap(), 2 * 1024);
    }

    #[test]
    fn another_byte_is_refused() {
        for cell in ["c10-1K", "c10-64-p16", "lines-c10", "churn-c10"] {
            let refused = verdict(cell, Check::Contents, echo_with(|answer| answer[0] ^= 1));
            assert_eq!(
                refused.unwrap_err(),
                "an answer is not what was sent",
                "{cell}"
            );
        }
    }

    #[test]
    fn a_byte_too_many_is_refused_where_contents_are_not_looked_at_too() {
        for cell in ["c1-64", "churn-c1"] {
            let refused = verdict(cell, Check::Lengths, echo_with(|answer| answer.push(0)));
            let refused = refused.unwrap_err();
            // The first exchange of every connection is looked at in any case.
            assert!(
                refused == "an answer is longer than what was sent"
                    || refused == "an answer is not what was sent",
                "{cell}: {refused}"
            );
        }
    }

    #[test]
    fn a_server_that_closes_is_refused() {
        let refused = verdict("c10-1K", Check::Contents, echo_with(Vec::clear));
        assert_eq!(refused.unwrap_err(), "the server closed a connection");
        let refused = verdict("churn-c1", Check::Contents, echo_with(Vec::clear));
        assert_eq!(refused.unwrap_err(), "the server closed a connection first");
    }

    #[test]
    fn a_transfer_has_to_be_whole() {
        let wrong = "a transfer came to an end with bytes missing or too many";
        let receive_all = |stream: &mut TcpStream| io::copy(stream, &mut io::sink()).unwrap();
        let right = verdict("upload-c1", Check::Lengths, move |mut stream| {
            let count = receive_all(&mut stream);
            stream.write_all(&count.to_le_bytes()).unwrap();
        });
        assert_eq!(right, Ok(1 << 20));
        let miscounted = verdict("upload-c1", Check::Lengths, move |mut stream| {
            let count = receive_all(&mut stream);
            stream.write_all(&(count - 1).to_le_bytes()).unwrap();
        });
        assert_eq!(miscounted.unwrap_err(), wrong);
        let short = verdict("download-c1", Check::Lengths, |mut stream| {
            let mut count = [0; 8];
            stream.read_exact(&mut count).unwrap();
            let count = u64::from_le_bytes(count) as usize;
            stream.write_all(&vec![0; count - 1]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        assert_eq!(short.unwrap_err(), wrong);
    }
}
