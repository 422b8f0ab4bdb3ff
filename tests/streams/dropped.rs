//! Every read and every drain, dropped at every poll, over generated streams: what the stream
//! holds is the same as if none had been dropped.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use evloop::{
    Protocol, ReadError, StreamReader, StreamReaderProtocol, StreamWriter, get_running_loop,
    start_server,
};

use crate::common::{Peer, in_thread, run, turns, within};
use crate::support::{Random, connected, now, reset};

// ------------------------------------------------------------------------------------ by hand

/// A call of a reader.
#[derive(Clone, Copy, Debug)]
enum Call {
    Read(usize),
    ReadInto(usize),
    ReadExactly(usize),
    ReadLine,
    NextLine,
    ReadUntil(&'static str),
    ReadUntilOneOf(&'static [&'static str]),
    ReadToEnd(Option<usize>),
    SkipLine,
}

type Outcome<'a> = Pin<Box<dyn Future<Output = String> + 'a>>;

impl Call {
    fn any(random: &mut Random) -> Self {
        let n = random.below(20);
        match random.below(18) {
            0 | 1 => Self::Read(n),
            2 | 3 => Self::ReadInto(n),
            4 | 5 => Self::ReadExactly(2 * n),
            6 | 7 => Self::ReadLine,
            8 | 9 => Self::NextLine,
            10..12 => Self::ReadUntil(["\n", "\r\n", "ab", "abab"][n % 4]),
            12..15 => Self::ReadUntilOneOf([&["\r\n", "\n"], &["bab", "aa", "ba\r"][..]][n % 2]),
            15 => Self::ReadToEnd((n % 2 == 0).then_some(5 * n)),
            _ => Self::SkipLine,
        }
    }

    fn name(&self) -> String {
        let text = format!("{self:?}");
        text.split('(').next().unwrap().to_owned()
    }

    fn begin<'a>(&self, reader: &'a mut StreamReader) -> Outcome<'a> {
        match *self {
            Self::Read(n) => Box::pin(async move { told(reader.read(n).await) }),
            Self::ReadInto(n) => Box::pin(async move {
                let mut buffer = vec![b'.'; n];
                let outcome = reader.read_into(&mut buffer).await;
                told(outcome.map(|n| buffer[..n].to_vec()))
            }),
            Self::ReadExactly(n) => Box::pin(async move { told(reader.readexactly(n).await) }),
            Self::ReadLine => Box::pin(async { told(reader.readline().await) }),
            Self::NextLine => Box::pin(async {
                let line = reader.lines().next().await;
                told(line.map(Option::unwrap_or_default))
            }),
            Self::ReadUntil(one) => Box::pin(async move { told(reader.readuntil(one).await) }),
            Self::ReadUntilOneOf(several) => {
                Box::pin(async move { told(reader.readuntil(several).await) })
            }
            Self::ReadToEnd(cap) => Box::pin(async move { told(reader.read_to_end(cap).await) }),
            // How much a dropped one has skipped it can tell nobody; what follows shows it.
            Self::SkipLine => {
                Box::pin(async { told(reader.skip_line().await.map(|_| b"skipped".to_vec())) })
            }
        }
    }
}

/// With all fields of an error.
fn told(outcome: Result<Vec<u8>, impl Into<ReadError>>) -> String {
    match outcome.map_err(Into::into) {
        Ok(bytes) => bytes.escape_ascii().to_string(),
        Err(ReadError::Io(error)) => format!("{:?}", error.kind()),
        Err(error) => format!("{error:?}"),
    }
}

/// What is fed, how it ends, and how it is read.
#[derive(Debug)]
struct Script {
    limit: usize,
    chunks: Vec<Vec<u8>>,
    is_reset: bool,
    calls: Vec<Call>,
}

impl Script {
    fn generated(seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        let letters = b"abab\r\n";
        let chunks = (0..random.below(25))
            .map(|_| {
                let n = 1 + random.below(9);
                (0..n).map(|_| letters[random.below(6)]).collect()
            })
            .collect();
        Self {
            limit: 1 + random.below(64),
            chunks,
            is_reset: random.below(3) == 0,
            calls: (0..30).map(|_| Call::any(&mut random)).collect(),
        }
    }
}

/// When a read that waits is dropped.
#[derive(Clone, Copy, Debug)]
enum Dropping {
    Never,
    Always,
    /// Only at the n-th wait of the script.
    Once(usize),
    /// By the toss of a coin; and other reads are begun and dropped in between.
    Wildly(u64),
}

/// How often each method was dropped while it waited.
type Drops = BTreeMap<String, usize>;

/// Feeds one chunk, and at last the end, whenever a read waits. Gives what the calls gave and how
/// often one waited.
async fn play(script: &Script, dropping: Dropping, drops: &mut Drops) -> (Vec<String>, usize) {
    let reader = StreamReader::with_limit(script.limit).unwrap();
    let mut protocol = StreamReaderProtocol::new(reader, None);
    let mut reader = protocol.take_reader().unwrap();
    let mut chunks = script.chunks.iter();
    let mut ended = false;
    let mut feed = |ended: &mut bool| match chunks.next() {
        Some(chunk) => protocol.data_received(chunk),
        None => {
            *ended = true;
            protocol.connection_lost(script.is_reset.then(|| Arc::new(reset())));
        }
    };
    let mut random = Random::seeded(match dropping {
        Dropping::Wildly(seed) => seed,
        Dropping::Never | Dropping::Always | Dropping::Once(_) => 1,
    });
    let mut outcomes = Vec::new();
    let mut waits = 0;
    // The last ones take what is left, and see the end.
    for call in script.calls.iter().chain(&[Call::Read(1000); 30]) {
        'begun: loop {
            let mut future = call.begin(&mut reader);
            loop {
                // A task that awaits too much in one turn would be made to give way.
                turns(1).await;
                if let Some(outcome) = now(&mut future).await {
                    outcomes.push(outcome);
                    break 'begun;
                }
                assert!(!ended, "{call:?} waits after the end");
                waits += 1;
                let is_dropped = match dropping {
                    Dropping::Never => false,
                    Dropping::Always => true,
                    Dropping::Once(n) => n == waits,
                    Dropping::Wildly(_) => random.below(2) == 0,
                };
                if is_dropped {
                    break;
                }
                feed(&mut ended);
            }
            *drops.entry(call.name()).or_default() += 1;
            if random.below(2) == 0 {
                // Woken, and not polled again.
                feed(&mut ended);
                drop(future);
            } else {
                drop(future);
                if let Dropping::Wildly(_) = dropping {
                    // None of these can be completed before the end.
                    now(reader.readexactly(usize::MAX)).await;
                    now(reader.readuntil(("no such", "\0"))).await;
                    now(reader.read_to_end(None)).await;
                }
                feed(&mut ended);
            }
        }
    }
    assert!(ended, "the script was not read to its end");
    (outcomes, waits)
}

#[test]
fn a_read_of_any_kind_dropped_at_any_poll_leaves_the_stream_as_it_was() {
    let mut drops = Drops::new();
    for seed in 0..SCRIPTS {
        run(async {
            let script = Script::generated(seed);
            let (expected, waits) = play(&script, Dropping::Never, &mut drops).await;
            let each = (1..=waits).map(Dropping::Once);
            let wildly = (0..5).map(|n| Dropping::Wildly(1000 * n + seed));
            for dropping in each.chain(wildly).chain([Dropping::Always]) {
                let (outcomes, as_often) = play(&script, dropping, &mut drops).await;
                assert_eq!(outcomes, expected, "seed {seed}, {dropping:?}: {script:?}");
                assert_eq!(as_often, waits, "seed {seed}, {dropping:?}: {script:?}");
            }
        });
    }
    // Every method had its share: else this test would have shown nothing of it.
    assert_eq!(drops.len(), 9, "{drops:?}");
    assert!(drops.values().all(|n| *n > 100), "{drops:?}");
}

const SCRIPTS: u64 = 150;

// -------------------------------------------------------------------------- over a connection

/// A method that a stream is read with from beginning to end, whatever comes.
type Method = for<'a> fn(&'a mut StreamReader) -> Part<'a>;
type Part<'a> = Pin<Box<dyn Future<Output = Vec<u8>> + 'a>>;

/// The bytes of an outcome, also those of an error; what is over the limit is taken by a read.
async fn taken(
    reader: &mut StreamReader,
    how: impl AsyncFnOnce(&mut StreamReader) -> Result<Vec<u8>, ReadError>,
) -> Vec<u8> {
    match how(reader).await {
        Ok(bytes) => bytes,
        Err(ReadError::Incomplete(error)) => error.partial,
        Err(ReadError::LimitOverrun(error)) => reader.readexactly(error.consumed).await.unwrap(),
        Err(error) => panic!("{error}"),
    }
}

const METHODS: [(&str, Method); 6] = [
    ("read", |reader| {
        Box::pin(async { reader.read(700).await.unwrap() })
    }),
    ("read_into", |reader| {
        Box::pin(async {
            let mut buffer = [0; 700];
            let n = reader.read_into(&mut buffer).await.unwrap();
            buffer[..n].to_vec()
        })
    }),
    ("readexactly", |reader| {
        Box::pin(taken(reader, async |r| r.readexactly(9000).await))
    }),
    ("readline", |reader| {
        Box::pin(taken(reader, async |r| r.readline().await))
    }),
    ("readuntil", |reader| {
        Box::pin(taken(reader, async |r| r.readuntil((b"\r\n", b"ab")).await))
    }),
    ("read_to_end", |reader| {
        Box::pin(taken(reader, async |r| r.read_to_end(None).await))
    }),
];

/// Here the transport is paused and resumed as well, by reads that are not there any more.
#[test]
fn reads_dropped_at_every_poll_take_a_connection_s_bytes_in_order() {
    for (seed, (name, method)) in (0..).zip(METHODS) {
        run(async {
            let mut random = Random::seeded(seed);
            let text: Vec<u8> = (0..100_000)
                .map(|_| b"abcdefghijklmnopqrstuvwxyz\r\n"[random.below(28)])
                .collect();
            let sent = text.clone();
            let (mut reader, writer, peer) = connected_with_limit(1000).await;
            let sending = get_running_loop().unwrap().create_task(in_thread(move || {
                let mut rest = sent.as_slice();
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(rest.len().min(1 + random.below(5000)));
                    peer.send(now);
                    rest = later;
                }
                peer.finish();
                peer
            }));
            let mut received = Vec::new();
            let read = async {
                while !reader.at_eof() {
                    match now(method(&mut reader)).await {
                        Some(bytes) => received.extend(bytes),
                        // It was dropped after one poll.
                        None => turns(1).await,
                    }
                }
            };
            within("the end of the stream", read).await;
            assert!(received == text, "{name}");
            drop((writer, sending.await));
        });
    }
}

async fn connected_with_limit(limit: usize) -> (StreamReader, StreamWriter, Peer) {
    let (listener, address) = crate::common::listener();
    let (reader, writer) = evloop::open_connection(address).limit(limit).await.unwrap();
    (reader, writer, Peer::accept(&listener))
}

// ------------------------------------------------------------------------------------- drains

/// Several drains wait, and each is dropped at a poll of its own, but for one: that one goes on to
/// its end, and so does every byte.
#[test]
fn drains_dropped_at_every_poll_lose_no_byte_and_no_wake() {
    for seed in 0..8 {
        run(async {
            let mut random = Random::seeded(seed);
            let (_reader, writer, mut peer) = connected().await;
            let transport = writer.transport();
            let high = [0, 1, 1000, 64 * 1024][random.below(4)];
            let low = random.below(high + 1);
            transport.set_write_buffer_limits(high, low).unwrap();
            for _ in 0..3 {
                let mut written = Vec::new();
                let mut write = |most: usize, random: &mut Random| {
                    let chunk = vec![b'a' + random.below(26) as u8; random.below(most)];
                    writer.write(&chunk);
                    written.extend(chunk);
                };
                while transport.get_write_buffer_size() <= high {
                    write(300_000, &mut random);
                }
                let mut drains: Vec<_> = (0..4).map(|_| Box::pin(writer.drain())).collect();
                while drains.len() > 1 {
                    for drain in &mut drains {
                        assert!(now(drain).await.is_none(), "there is no room");
                    }
                    drop(drains.swap_remove(random.below(drains.len())));
                    write(1000, &mut random);
                    turns(random.below(3)).await;
                }
                let count = written.len();
                let receiving = in_thread(move || (peer.receive(count), peer));
                let receiving = get_running_loop().unwrap().create_task(receiving);
                for drain in drains {
                    within("room", drain).await.unwrap();
                }
                let received = within("the peer", receiving).await.unwrap();
                peer = received.1;
                assert!(received.0 == written, "seed {seed}");
            }
        });
    }
}

/// A handler that gives up its reads and drains all the time, by a limit on each.
#[test]
fn an_echo_whose_every_await_is_cut_short_again_and_again_echoes_everything() {
    run(async {
        let server = start_server(
            async |mut reader: StreamReader, writer: StreamWriter| {
                while !reader.at_eof() {
                    let Some(line) = now(reader.readline()).await else {
                        turns(1).await;
                        continue;
                    };
                    writer.write(line.unwrap());
                    while now(writer.drain()).await.is_none() {
                        turns(1).await;
                    }
                }
            },
            ("127.0.0.1", 0),
        );
        let server = Rc::new(server.await.unwrap());
        let peer = Peer::connect(server.sockets()[0].as_inet().unwrap());
        let (sent, received) = in_thread(move || {
            let lines = (0..20_000).map(|n| format!("line {n}\n"));
            let text = lines.collect::<String>().into_bytes();
            let reading = Peer(peer.0.try_clone().unwrap());
            let reading = std::thread::spawn(move || reading.receive_all());
            peer.send(&text);
            peer.finish();
            (text, reading.join().unwrap())
        })
        .await;
        assert!(sent == received);
        server.close();
        server.wait_closed().await.unwrap();
    });
}
