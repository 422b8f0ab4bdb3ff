//! 64 MiB each way at once, through readers that take their time: every byte arrives, and no more
//! of them are in memory than the limits allow.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use evloop::{StreamReader, StreamWriter, get_running_loop, open_connection, start_server};

use crate::common::own_process::{enter, peak_resident_kib};
use crate::common::peers::{require, script};
use crate::common::{pattern, turns, within};
use crate::quiet::run_quietly;
use crate::support::{cert, client_context, server_context};
use crate::talk::Talk;

const SIZE: usize = 64 << 20;
/// The bytes come again after so many, which is prime: what is lost or doubled shows.
const PERIOD: usize = 1_048_573;
const MOST: usize = 200_000;
/// What a reader and a writer on either side, two engines and the system's allocator may hold
/// between them. Without limits it would be twice [`SIZE`].
const MEMORY_KIB: usize = 16 << 10;

/// An endless row of bytes.
struct Row(Vec<u8>);

impl Row {
    fn new() -> Rc<Self> {
        let mut bytes = pattern(PERIOD);
        bytes.extend_from_within(..MOST);
        Rc::new(Self(bytes))
    }

    /// `size` of them, from this one on.
    fn at(&self, offset: usize, size: usize) -> &[u8] {
        let start = offset % PERIOD;
        &self.0[start..start + size]
    }
}

/// Sends everything, in pieces of changing sizes, as fast as it is allowed to, and then the end.
async fn send(writer: Rc<StreamWriter>, row: Rc<Row>, sent: Rc<Cell<usize>>) {
    for size in [1, 100_000, 16_384, 16_385, 65_536, MOST, 70_001]
        .into_iter()
        .cycle()
    {
        let size = size.min(SIZE - sent.get());
        if size == 0 {
            break;
        }
        writer.write(row.at(sent.get(), size));
        sent.set(sent.get() + size);
        writer.drain().await.unwrap();
    }
    writer.write_eof().unwrap();
}

/// Reads everything, a little now and then.
async fn receive(mut reader: StreamReader, row: Rc<Row>) {
    let mut received = 0;
    for size in [10_000, 1, 65_536, 16_384, 30_000].into_iter().cycle() {
        let data = within("more", reader.read(size)).await.unwrap();
        if data.is_empty() {
            break;
        }
        assert!(data == row.at(received, data.len()), "behind {received}");
        received += data.len();
        turns(3).await;
    }
    assert_eq!(received, SIZE);
}

/// Waits until nobody who sends gets any further.
async fn until_stuck(sent: &[Rc<Cell<usize>>; 2]) {
    let mut before = [0; 2];
    let mut same = 0;
    while same < 100 {
        turns(1).await;
        let now = [sent[0].get(), sent[1].get()];
        same = if now == before && !now.contains(&0) {
            same + 1
        } else {
            0
        };
        before = now;
    }
}

#[test]
fn both_directions_at_once_through_slow_readers_arrive_whole_in_bounded_memory() {
    let name = "bulk::both_directions_at_once_through_slow_readers_arrive_whole_in_bounded_memory";
    if !enter(name) {
        return;
    }
    run_quietly(async {
        let handle = get_running_loop().unwrap();
        let row = Row::new();
        let sent = [Rc::<Cell<usize>>::default(), Rc::default()];
        let (sender, accepted) = futures::channel::oneshot::channel();
        let sender = Cell::new(Some(sender));
        let handler = move |reader: StreamReader, writer: StreamWriter| {
            let sender = sender.take().expect("one connection");
            assert!(sender.send((reader, writer)).is_ok());
        };
        let server = start_server(handler, ("127.0.0.1", 0)).ssl(server_context("server"));
        let server = server.await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        let connecting = open_connection(("localhost", port)).ssl(client_context());
        let ours = connecting.await.unwrap();
        let theirs = within("a connection", accepted).await.unwrap();
        let before = peak_resident_kib();

        let mut readers = Vec::new();
        let mut writers = Vec::new();
        let mut tasks = Vec::new();
        for ((reader, writer), sent) in [ours, theirs].into_iter().zip(&sent) {
            let writer = Rc::new(writer);
            let sending = send(Rc::clone(&writer), Rc::clone(&row), Rc::clone(sent));
            tasks.push(handle.create_task(sending));
            readers.push(reader);
            writers.push(writer);
        }
        // Nobody reads yet.
        until_stuck(&sent).await;
        for sent in &sent {
            assert!(sent.get() < SIZE / 2, "{} were taken unread", sent.get());
        }
        for reader in readers {
            tasks.push(handle.create_task(receive(reader, Rc::clone(&row))));
        }
        for task in tasks {
            task.await.unwrap();
        }
        for writer in writers {
            writer.close();
            within("the end", writer.wait_closed()).await.unwrap();
        }
        let grown = peak_resident_kib() - before;
        assert!(grown < MEMORY_KIB, "{grown} KiB");
    });
}

#[test]
fn asyncio_gets_everything_back_at_once_through_slow_readers_in_bounded_memory() {
    let name = "bulk::asyncio_gets_everything_back_at_once_through_slow_readers_in_bounded_memory";
    if !require("python3", "python3") || !enter(name) {
        return;
    }
    async fn slow_echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
        loop {
            let data = reader.read(10_000).await?;
            if data.is_empty() {
                return Ok(());
            }
            writer.write(data);
            writer.drain().await?;
            turns(1).await;
        }
    }
    run_quietly(async {
        let server = start_server(slow_echo, ("127.0.0.1", 0)).ssl(server_context("server"));
        let server = server.await.unwrap();
        let port = server.sockets()[0].port().unwrap().to_string();
        let before = peak_resident_kib();
        for version in ["TLSv1_2", "TLSv1_3"] {
            let (script, roots) = (script("tls_client.py"), cert("ca.pem"));
            let (script, roots) = (script.to_str().unwrap(), roots.to_str().unwrap());
            let client = Talk::start("python3", &["-B", script, &port, version, roots, "bulk"]);
            let (code, transcript) = client.end().await;
            assert_eq!(
                (code, transcript.trim_end()),
                (Some(0), "same"),
                "{version}"
            );
        }
        server.close();
        within("its end", server.wait_closed()).await.unwrap();
        let grown = peak_resident_kib() - before;
        assert!(grown < MEMORY_KIB, "{grown} KiB");
    });
}
