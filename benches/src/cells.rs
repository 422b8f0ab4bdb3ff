//! The cells: what is measured over sockets, as data.

use evloop_benches::contract::{CHUNK, Transport};

const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;
/// What one receive may bring at most, whoever makes it.
pub const LARGEST_BUFFER: usize = 256 * KIB;

/// Bytes of a line, its end included.
pub const LINE: usize = 64;

/// Lines in flight on a connection.
pub const LINES: usize = 16;

/// Bytes of a message in the churn cells.
pub const CHURN: usize = 64;

/// One row of the tables.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cell {
    /// As `--cell` takes it and the tables show it.
    pub name: String,
    pub transport: Transport,
    pub connections: usize,
    pub shape: Shape,
    /// Whether `--quick` measures it.
    pub quick: bool,
}

/// What a connection does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// So many messages of so many bytes go out in one write; when all are back, the next.
    Echo { bytes: usize, pipelined: usize },
    /// The same with lines, each of which the server answers by itself.
    Lines,
    /// The client sends, half-closes, and is told how much it was.
    Upload,
    /// The client asks for so many bytes, and the server sends them, in writes of this size.
    Download { write: usize },
    /// The client sends and receives at once.
    BulkEcho,
    /// Connect, one echo, close.
    Churn,
    /// The same over TLS, going on with the session of an earlier connection.
    Resumed,
}

impl Shape {
    /// The server's `--work`.
    pub fn work(self) -> &'static str {
        match self {
            Self::Echo { .. } | Self::BulkEcho | Self::Churn | Self::Resumed => "echo",
            Self::Lines => "lines",
            Self::Upload => "upload",
            Self::Download { .. } => "download",
        }
    }

    /// A read buffer for one connection, the same for all who have one: more than what is in
    /// flight, within reason. Were it filled to the brim, everybody who reads until a short read
    /// would have to receive once more for nothing.
    pub fn buffer(self) -> usize {
        match self {
            Self::Echo { bytes, pipelined } => (bytes * pipelined + 1)
                .next_power_of_two()
                .clamp(4 * KIB, LARGEST_BUFFER),
            Self::Lines | Self::Churn | Self::Resumed => 4 * KIB,
            Self::Upload | Self::Download { .. } | Self::BulkEcho => LARGEST_BUFFER,
        }
    }
}

/// Those of every run and those of TLS.
pub fn all() -> Vec<Cell> {
    [without_tls(), over_tls()].concat()
}

/// Those of a whole run, in the tables' order.
pub fn without_tls() -> Vec<Cell> {
    let tcp = over_tcp();
    let unix: Vec<_> = UNIX
        .iter()
        .filter_map(|name| tcp.iter().find(|cell| cell.name == *name))
        .map(over_unix)
        .collect();
    tcp.into_iter().chain(unix).collect()
}

fn over_tcp() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (bytes, size) in [
        (64, "64"),
        (KIB, "1K"),
        (10 * KIB, "10K"),
        (64 * KIB, "64K"),
    ] {
        for connections in [1, 10, 100, 1_000] {
            cells.push(echo(connections, bytes, size, 1));
        }
    }
    cells.push(echo(10_000, 64, "64", 1));
    for (bytes, size) in [(100 * KIB, "100K"), (MIB, "1M")] {
        for connections in [1, 10, 100] {
            cells.push(echo(connections, bytes, size, 1));
        }
    }
    for connections in [1, 10, 100, 1_000] {
        cells.push(echo(connections, 64, "64", 16));
    }
    for connections in [1, 10, 100] {
        cells.push(echo(connections, KIB, "1K", 16));
    }
    for (prefix, shape, all_connections) in [
        ("lines", Shape::Lines, &[1, 10, 100][..]),
        ("upload", Shape::Upload, &[1, 10]),
        ("download", Shape::Download { write: CHUNK }, &[1, 10]),
        ("bulkecho", Shape::BulkEcho, &[1, 10]),
        ("churn", Shape::Churn, &[1, 10]),
    ] {
        for &connections in all_connections {
            cells.push(Cell {
                name: format!("{prefix}-c{connections}"),
                transport: Transport::Tcp,
                connections,
                shape,
                quick: connections == 10,
            });
        }
    }
    cells
}

fn echo(connections: usize, bytes: usize, size: &str, pipelined: usize) -> Cell {
    let suffix = match pipelined {
        1 => String::new(),
        depth => format!("-p{depth}"),
    };
    let name = format!("c{connections}-{size}{suffix}");
    Cell {
        quick: QUICK_ECHOES.contains(&name.as_str()),
        name,
        transport: Transport::Tcp,
        connections,
        shape: Shape::Echo { bytes, pipelined },
    }
}

/// Those of a run of their own: what an echo costs, what a handshake does, and what each byte.
pub fn over_tls() -> Vec<Cell> {
    let mut cells = Vec::new();
    for connections in [1, 10, 100] {
        cells.push(echo(connections, KIB, "1K", 1));
    }
    for (name, connections, shape) in [
        ("download-c1-16K", 1, Shape::Download { write: 16 * KIB }),
        ("download-c10-16K", 10, Shape::Download { write: 16 * KIB }),
        ("download-c1-1M", 1, Shape::Download { write: MIB }),
        ("download-c10-1M", 10, Shape::Download { write: MIB }),
        ("upload-c1", 1, Shape::Upload),
        ("upload-c10", 10, Shape::Upload),
        ("churn-c10", 10, Shape::Churn),
        ("resumed-c10", 10, Shape::Resumed),
    ] {
        cells.push(Cell {
            name: name.to_owned(),
            transport: Transport::Tls,
            connections,
            shape,
            quick: false,
        });
    }
    for cell in &mut cells {
        cell.name.insert_str(0, "tls-");
        cell.transport = Transport::Tls;
        cell.quick = true;
    }
    cells
}

/// The same cell over unix sockets.
fn over_unix(tcp: &Cell) -> Cell {
    Cell {
        name: format!("unix-{}", tcp.name),
        transport: Transport::Unix,
        quick: tcp.name == QUICK_UNIX,
        ..tcp.clone()
    }
}

/// A bit of everything.
const QUICK_ECHOES: [&str; 8] = [
    "c1-64",
    "c1-1K",
    "c10-1K",
    "c100-1K",
    "c100-64K",
    "c1000-64",
    "c10-100K",
    "c10-64-p16",
];

/// Those that are measured over unix sockets, too.
const UNIX: [&str; 5] = ["c1-1K", "c10-1K", "c100-1K", "c100-64-p16", "upload-c10"];

/// The one of them that `--quick` measures.
const QUICK_UNIX: &str = "c10-1K";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_there_once() {
        let mut names: Vec<_> = all().into_iter().map(|cell| cell.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(
            QUICK_ECHOES
                .iter()
                .all(|name| names.contains(&(*name).into()))
        );
        assert!(UNIX.contains(&QUICK_UNIX));
        let over_unix = names.iter().filter(|name| name.starts_with("unix-"));
        assert_eq!(over_unix.count(), UNIX.len());
    }

    #[test]
    fn buffers_hold_what_is_in_flight() {
        let buffer = |bytes, pipelined| Shape::Echo { bytes, pipelined }.buffer();
        assert_eq!(buffer(64, 1), 4 * KIB);
        assert_eq!(buffer(10 * KIB, 1), 16 * KIB);
        assert_eq!(buffer(KIB, 16), 32 * KIB);
        assert_eq!(buffer(MIB, 1), 256 * KIB);
    }
}
