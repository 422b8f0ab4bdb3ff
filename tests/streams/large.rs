//! Large pieces, which are not copied on their way but change hands: no byte is lost, doubled or
//! out of place.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use evloop::{
    BufferedProtocol, EventLoop, Protocol, StreamReader, StreamReaderProtocol, StreamWriter,
    Transport, create_connection, get_running_loop, open_connection, start_server,
};

use crate::common::{Peer, in_thread, listener, pattern, run};

/// Sizes on both sides of every limit, in no order.
const SIZES: [usize; 16] = [
    1, 70_000, 16_383, 16_384, 16_385, 5, 65_536, 65_537, 200_000, 511, 512, 513, 40_000, 3,
    262_144, 130_000,
];

/// Reads a stream of `expected` in pieces of changing sizes, by each kind of read in its turn.
async fn compare(reader: &mut StreamReader, expected: &[u8]) {
    let mut rest = expected;
    for (turn, size) in SIZES.iter().rev().cycle().enumerate() {
        if rest.is_empty() {
            return;
        }
        let size = (*size).min(rest.len());
        let piece = match turn % 3 {
            0 => reader.read(size).await.unwrap(),
            1 => reader.readexactly(size).await.unwrap(),
            _ => {
                let mut buffer = vec![0; size];
                let received = reader.read_into(&mut buffer).await.unwrap();
                buffer.truncate(received);
                buffer
            }
        };
        assert!(!piece.is_empty());
        let (now, later) = rest.split_at(piece.len());
        assert!(piece == now, "{} bytes before the end", rest.len());
        rest = later;
    }
}

fn send_in_pieces(peer: &Peer, data: &[u8]) {
    let mut rest = data;
    for size in SIZES.iter().cycle() {
        let (now, later) = rest.split_at((*size).min(rest.len()));
        peer.send(now);
        rest = later;
        if rest.is_empty() {
            return;
        }
    }
}

#[test]
fn what_comes_in_pieces_of_all_sizes_is_read_in_pieces_of_all_sizes() {
    run(async {
        let (listener, address) = listener();
        let data: Arc<[u8]> = pattern(8 << 20).into();
        for limit in [1000, 65_536, 1 << 20] {
            let (mut reader, _writer) = open_connection(address).limit(limit).await.unwrap();
            let peer = Peer::accept(&listener);
            let sent = Arc::clone(&data);
            let sending = in_thread(move || {
                send_in_pieces(&peer, &sent);
                peer.finish();
            });
            let handle = get_running_loop().unwrap();
            let sending = handle.create_task(sending);
            compare(&mut reader, &data).await;
            sending.await.unwrap();
            assert_eq!(reader.read(1).await.unwrap(), b"");
        }
    });
}

#[test]
fn vectors_of_all_sizes_that_are_given_away_arrive_in_order() {
    run(async {
        let (listener, address) = listener();
        let (_reader, writer) = open_connection(address).await.unwrap();
        let peer = Peer::accept(&listener);
        let data = pattern(SIZES.iter().sum::<usize>() * 3);
        let expected = data.clone();
        let handle = get_running_loop().unwrap();
        let equal = handle.create_task(in_thread(move || peer.receive(expected.len()) == expected));
        let mut rest = data.as_slice();
        for (turn, size) in SIZES.iter().cycle().enumerate() {
            let (now, later) = rest.split_at((*size).min(rest.len()));
            match turn % 3 {
                0 => writer.write(now),
                _ => writer.write(now.to_vec()),
            }
            if turn % 5 == 0 {
                writer.drain().await.unwrap();
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        assert!(equal.await.unwrap());
    });
}

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
    loop {
        let data = reader.read(1 << 17).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write(data);
        writer.drain().await?;
    }
}

#[test]
fn many_streams_at_once_are_all_answered() {
    const STREAMS: usize = 40;
    const SIZE: usize = 100_000;

    run(async {
        let server = start_server(echo, ("127.0.0.1", 0)).await.unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        let all = in_thread(move || {
            let peers: Vec<Peer> = (0..STREAMS).map(|_| Peer::connect(address)).collect();
            let data = pattern(SIZE);
            for peer in &peers {
                peer.send(&data);
            }
            peers.iter().all(|peer| peer.receive(SIZE) == data)
        });
        assert!(all.await);
    });
}

/// What one turn leaves for the next is there in the next run as well.
#[test]
fn many_streams_are_answered_by_short_runs_of_the_loop() {
    const STREAMS: usize = 20;
    const SIZE: usize = 100_000;

    let mut event_loop = EventLoop::new().unwrap();
    let serving = start_server(echo, ("127.0.0.1", 0));
    let server = event_loop.run_until_complete(serving).unwrap();
    let address = server.sockets()[0].as_inet().unwrap();
    let clients = thread::spawn(move || {
        let peers: Vec<Peer> = (0..STREAMS).map(|_| Peer::connect(address)).collect();
        let data = pattern(SIZE);
        for peer in &peers {
            peer.send(&data);
        }
        peers.iter().all(|peer| peer.receive(SIZE) == data)
    });
    while !clients.is_finished() {
        event_loop.run_until_complete(async {});
    }
    assert!(clients.join().unwrap());
}

/// What became of the bytes after the stream.
#[derive(Clone, Default)]
struct Collected(Rc<RefCell<Vec<u8>>>);

impl Protocol for Collected {
    fn data_received(&mut self, data: &[u8]) {
        self.0.borrow_mut().extend_from_slice(data);
    }
}

#[test]
fn a_protocol_that_follows_a_stream_is_told_of_what_comes_as_any_other() {
    run(async {
        let (listener, address) = listener();
        let (mut reader, writer) = open_connection(address).await.unwrap();
        let peer = Peer::accept(&listener);
        let data = pattern(600_000);
        let (first, second) = data.split_at(300_000);
        let sent = first.to_vec();
        let peer = in_thread(move || {
            peer.send(&sent);
            peer
        });
        let handle = get_running_loop().unwrap();
        let peer = handle.create_task(peer);
        assert_eq!(reader.readexactly(first.len()).await.unwrap(), first);
        let collected = Collected::default();
        let next = Rc::new(RefCell::new(collected.clone()));
        writer.transport().set_protocol(next);
        let peer = peer.await.unwrap();
        let sent = second.to_vec();
        in_thread(move || peer.send(&sent)).await;
        while collected.0.borrow().len() < second.len() {
            crate::common::turns(1).await;
        }
        assert!(*collected.0.borrow() == second);
    });
}

/// A protocol of a user's around that of a stream, which hands on what it knows of.
struct Wrapped(StreamReaderProtocol);

impl Protocol for Wrapped {
    fn connection_made(&mut self, transport: Transport) {
        self.0.connection_made(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        self.0.data_received(data);
    }

    fn eof_received(&mut self) -> bool {
        self.0.eof_received()
    }
}

#[test]
fn a_stream_behind_a_protocol_of_the_users_gets_everything() {
    run(async {
        let (listener, address) = listener();
        let factory = || Wrapped(StreamReaderProtocol::new(StreamReader::new(), None));
        let (_transport, protocol) = create_connection(factory, address).await.unwrap();
        let peer = Peer::accept(&listener);
        let mut reader = protocol.borrow_mut().0.take_reader().unwrap();
        let data = pattern(1 << 20);
        let sent = data.clone();
        let sending = in_thread(move || {
            send_in_pieces(&peer, &sent);
            peer.finish();
        });
        let handle = get_running_loop().unwrap();
        drop(handle.create_task(sending));
        compare(&mut reader, &data).await;
        assert_eq!(reader.read(1).await.unwrap(), b"");
    });
}

/// A buffer of a user's own.
struct Buffered {
    buffer: Vec<u8>,
    received: Rc<RefCell<Vec<u8>>>,
}

impl BufferedProtocol for Buffered {
    fn get_buffer(&mut self, _: Option<usize>) -> &mut [u8] {
        &mut self.buffer
    }

    fn buffer_updated(&mut self, bytes: usize) {
        self.received.borrow_mut().extend(&self.buffer[..bytes]);
    }
}

#[test]
fn a_buffered_protocol_that_follows_a_stream_gets_everything_in_its_own_buffer() {
    run(async {
        let (listener, address) = listener();
        let (mut reader, writer) = open_connection(address).await.unwrap();
        let peer = Peer::accept(&listener);
        let data = pattern(200_000);
        let sent = data.clone();
        let handle = get_running_loop().unwrap();
        let peer = handle.create_task(in_thread(move || {
            peer.send(&sent);
            peer
        }));
        assert!(reader.readexactly(data.len()).await.unwrap() == data);
        let received = Rc::default();
        let next = Buffered {
            buffer: vec![0; 1000],
            received: Rc::clone(&received),
        };
        writer.transport().set_protocol(Rc::new(RefCell::new(next)));
        let peer = peer.await.unwrap();
        let sent = data.clone();
        in_thread(move || peer.send(&sent)).await;
        while received.borrow().len() < data.len() {
            crate::common::turns(1).await;
        }
        assert!(*received.borrow() == data);
    });
}
