//! The library on real sockets that behave badly: every byte, every end, for many seeds.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evloop::testing::{Chaos, Random, chaotic_loop};
use evloop::{
    BufferedProtocol, LoopHandle, Protocol, Server, StreamReader, StreamWriter, Transport,
    connect_accepted_socket, create_connection, create_server, get_running_loop, open_connection,
    open_unix_connection, sendfile, signals, sleep, start_server, start_unix_server,
};

use crate::common::folder::Folder;
use crate::common::{pattern, turns};
use crate::support::{echo, exchange};

const SEEDS: Range<u64> = 0..60;

fn handle() -> LoopHandle {
    get_running_loop().unwrap()
}

fn port(server: &Server) -> u16 {
    server.sockets()[0].port().unwrap()
}

async fn end(server: Server) -> io::Result<()> {
    server.close();
    server.wait_closed().await
}

/// Connected sockets of the system, each on a transport.
async fn streams() -> io::Result<[(StreamReader, StreamWriter); 2]> {
    let (one, other) = UnixStream::pair()?;
    Ok([open_connection(one).await?, open_connection(other).await?])
}

#[test]
fn a_crowd_gets_back_what_it_sent() {
    Chaos::new().explore(SEEDS, |mut random| async move {
        let server = start_server(echo, ("localhost", 0)).await?;
        let port = port(&server);
        let mut clients = Vec::new();
        for _ in 0..5 {
            let size = random.within(0..=20_000);
            let message = random.bytes(size);
            clients.push(handle().create_task(async move {
                let streams = open_connection(("localhost", port)).await?;
                let answer = exchange(streams, message.clone()).await?;
                assert!(answer == message, "{} of {size} bytes", answer.len());
                io::Result::Ok(())
            }));
        }
        for client in clients {
            client.await.unwrap()?;
        }
        end(server).await
    });
}

#[test]
fn so_it_is_over_unix_sockets() {
    let folder = Folder::new();
    let path = folder.path("echo");
    Chaos::new().explore(SEEDS, |mut random| {
        let path = path.clone();
        async move {
            let server = start_unix_server(echo, &path).await?;
            let message = random.bytes(30_000);
            let streams = open_unix_connection(&path).await?;
            assert!(exchange(streams, message.clone()).await? == message);
            end(server).await
        }
    });
}

#[cfg(feature = "tls")]
#[test]
fn so_it_is_over_tls_from_the_beginning_and_later() {
    use crate::support::cert;
    use evloop::{TlsClientContext, TlsServerContext};

    let context = TlsServerContext::from_pem_files(cert("server.pem"), cert("server.key")).unwrap();
    let client = TlsClientContext::builder().root_file(cert("ca.pem"));
    let client = client.build().unwrap();
    Chaos::new().explore(SEEDS, |mut random| {
        let (context, client) = (context.clone(), client.clone());
        async move {
            let server = start_server(echo, ("127.0.0.1", 0))
                .ssl(context.clone())
                .await?;
            let message = random.bytes(30_000);
            let encrypted = open_connection(("127.0.0.1", port(&server)))
                .ssl(client.clone())
                .server_hostname("localhost")
                .await?;
            assert!(exchange(encrypted, message.clone()).await? == message);
            end(server).await?;

            let [(mut reader, mut writer), (mut theirs, mut their_writer)] = streams().await?;
            drop(handle().create_task(async move {
                theirs.readline().await?;
                their_writer.write(b"go\n");
                their_writer.start_tls(context).await?;
                echo(theirs, their_writer).await
            }));
            writer.write(b"starttls\n");
            assert_eq!(reader.readline().await?, b"go\n");
            writer
                .start_tls(client)
                .server_hostname("localhost")
                .await?;
            assert!(exchange((reader, writer), message.clone()).await? == message);
            Ok(())
        }
    });
}

#[test]
fn a_file_arrives_as_it_is_between_what_was_written() {
    let (folder, content) = (Folder::new(), pattern(300_000));
    std::fs::write(folder.path("file"), &content).unwrap();
    let file = Rc::new(File::open(folder.path("file")).unwrap());
    Chaos::new().explore(SEEDS, |mut random| {
        let (file, content) = (Rc::clone(&file), &content);
        async move {
            let [(mut reader, _writer), (_theirs, their_writer)] = streams().await?;
            let (from, to) = (random.within(0..=100_000), random.within(100_000..=300_000));
            let sending = handle().create_task(async move {
                their_writer.write(b"before");
                let count = (to - from) as u64;
                let sent = sendfile(their_writer.transport(), &file)
                    .offset(from as u64)
                    .count(count)
                    .await?;
                assert_eq!(sent, count);
                their_writer.write(b"behind");
                io::Result::Ok(())
            });
            let received = reader.read_to_end(None).await?;
            assert!(received == [b"before", &content[from..to], b"behind"].concat());
            sending.await.unwrap()
        }
    });
}

#[test]
fn one_direction_may_end_long_before_the_other() {
    Chaos::new().explore(SEEDS, |mut random| async move {
        let server = start_server(
            |mut reader: StreamReader, writer: StreamWriter| async move {
                // Ends first, and reads on.
                writer.write(b"welcome\n");
                writer.write_eof()?;
                let rest = reader.read_to_end(None).await?;
                assert!(rest == pattern(50_000));
                io::Result::Ok(())
            },
            ("127.0.0.1", 0),
        )
        .await?;
        let (mut reader, writer) = open_connection(("127.0.0.1", port(&server))).await?;
        assert_eq!(reader.read_to_end(None).await?, b"welcome\n");
        for piece in pattern(50_000).chunks(random.within(1_000..=20_000)) {
            writer.write(piece);
            writer.drain().await?;
        }
        writer.close();
        writer.wait_closed().await?;
        end(server).await
    });
}

#[test]
fn who_drains_is_held_up_and_let_go() {
    Chaos::new().explore(SEEDS, |mut random| async move {
        let (one, other) = UnixStream::pair()?;
        let (_reader, writer) = open_connection(one).await?;
        let (mut theirs, _their_writer) = open_connection(other).limit(2000).await?;
        let transport = writer.transport().clone();
        transport.set_write_buffer_limits(3000, 1000)?;
        let size = random.within(300_000..=600_000);
        let writing = handle().create_task(async move {
            for piece in pattern(size).chunks(2500) {
                writer.write(piece);
                writer.drain().await?;
                let unsent = transport.get_write_buffer_size();
                assert!(unsent <= 3000, "{unsent}");
            }
            io::Result::Ok(())
        });
        let mut received = Vec::new();
        loop {
            let data = theirs.read(random.within(1..=20_000)).await?;
            if data.is_empty() {
                break;
            }
            received.extend(data);
            if random.chance(0.2) {
                turns(random.within(1..=5)).await;
            }
        }
        assert!(received == pattern(size));
        writing.await.unwrap()
    });
}

/// What a protocol was told, in order, with its bytes in one place.
#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    calls: Vec<&'static str>,
    pieces: usize,
}

/// Pauses its reading now and then, and checks the order of what it is told.
struct Checking {
    transport: Option<Transport>,
    seen: Rc<RefCell<Seen>>,
    random: Random,
}

impl Protocol for Checking {
    fn connection_made(&mut self, transport: Transport) {
        transport.set_write_buffer_limits(5000, 100).unwrap();
        transport.write(pattern(20_000));
        assert!(self.transport.replace(transport).is_none());
    }

    fn data_received(&mut self, data: &[u8]) {
        let transport = self.transport.clone().expect("made before");
        assert!(!data.is_empty() && transport.is_reading());
        let mut seen = self.seen.borrow_mut();
        assert!(!seen.calls.contains(&"eof"));
        seen.bytes.extend(data);
        seen.pieces += 1;
        if self.random.chance(0.1) {
            transport.pause_reading();
            let delay = self
                .random
                .duration(Duration::ZERO..=Duration::from_micros(300));
            handle().call_later(delay, move || transport.resume_reading());
        }
    }

    fn eof_received(&mut self) -> bool {
        self.seen.borrow_mut().calls.push("eof");
        true
    }

    fn pause_writing(&mut self) {
        self.seen.borrow_mut().calls.push("pause");
    }

    fn resume_writing(&mut self) {
        self.seen.borrow_mut().calls.push("resume");
    }

    fn connection_lost(&mut self, error: Option<Arc<io::Error>>) {
        assert!(error.is_none(), "{error:?}");
        self.seen.borrow_mut().calls.push("lost");
    }
}

/// These alternate.
const FLOW: [&str; 2] = ["pause", "resume"];

#[test]
fn a_protocol_is_told_everything_once_and_in_order() {
    let total = Cell::new((0, 0));
    Chaos::new().explore(SEEDS, |mut random| {
        let total = &total;
        async move {
            let seen: [Rc<RefCell<Seen>>; 2] = Default::default();
            let checking = |seen: &Rc<RefCell<Seen>>, random: &mut Random| Checking {
                transport: None,
                seen: Rc::clone(seen),
                random: random.fork(),
            };
            let (served, mut numbers) = (Rc::clone(&seen[0]), random.fork());
            let factory = move || checking(&served, &mut numbers);
            let server = create_server(factory, ("127.0.0.1", 0)).await?;
            let mut numbers = random.fork();
            let client = checking(&seen[1], &mut numbers);
            let (transport, _) = create_connection(|| client, ("127.0.0.1", port(&server))).await?;
            until(|| seen.iter().all(|seen| seen.borrow().bytes.len() == 20_000)).await;
            transport.write_eof()?;
            until(|| seen[0].borrow().calls.contains(&"eof")).await;
            server.close();
            server.close_clients();
            server.wait_closed().await?;
            until(|| seen[1].borrow().calls.contains(&"eof")).await;
            transport.close();
            until(|| seen[1].borrow().calls.contains(&"lost")).await;
            for seen in seen {
                let seen = seen.borrow();
                assert!(seen.bytes == pattern(20_000));
                total.set((total.get().0 + 1, total.get().1 + seen.pieces));
                let (flow, ends): (Vec<&str>, Vec<&str>) = seen
                    .calls
                    .iter()
                    .copied()
                    .partition(|call| FLOW.contains(call));
                assert_eq!(ends, ["eof", "lost"]);
                assert!(
                    flow.iter()
                        .zip(FLOW.iter().cycle())
                        .all(|(call, expected)| call == expected)
                );
            }
            Ok(())
        }
    });
    let (protocols, pieces) = total.get();
    assert!(pieces > 4 * protocols, "{pieces} pieces for {protocols}");
}

/// Receives into its own buffer, of which it lends a little at a time.
struct Collecting {
    buffer: [u8; 64],
    bytes: Rc<RefCell<Vec<u8>>>,
    over: Rc<Cell<bool>>,
}

impl BufferedProtocol for Collecting {
    fn get_buffer(&mut self, _: Option<usize>) -> &mut [u8] {
        &mut self.buffer
    }

    fn buffer_updated(&mut self, size: usize) {
        self.bytes.borrow_mut().extend(&self.buffer[..size]);
    }

    fn connection_lost(&mut self, _: Option<Arc<io::Error>>) {
        self.over.set(true);
    }
}

#[test]
fn a_buffered_protocol_gets_every_byte() {
    Chaos::new().explore(SEEDS, |mut random| async move {
        let (one, other) = UnixStream::pair()?;
        let (bytes, over) = (Rc::default(), Rc::new(Cell::new(false)));
        let collecting = Collecting {
            buffer: [0; 64],
            bytes: Rc::clone(&bytes),
            over: Rc::clone(&over),
        };
        connect_accepted_socket(|| collecting, one).await?;
        let (_theirs, writer) = open_connection(other).await?;
        let message = random.bytes(20_000);
        writer.write(&message);
        drop(writer);
        until(|| over.get()).await;
        assert!(*bytes.borrow() == message);
        Ok(())
    });
}

#[test]
fn a_reset_is_told_behind_what_came_before_it() {
    Chaos::new().explore(SEEDS, |mut random| async move {
        let [(mut reader, writer), (_theirs, their_writer)] = streams().await?;
        their_writer.transport().pause_reading();
        writer.write(b"nobody reads this");
        // In the socket of the other end.
        until(|| writer.transport().get_write_buffer_size() == 0).await;
        let size = random.within(0..=5000);
        their_writer.write(pattern(size));
        until(|| their_writer.transport().get_write_buffer_size() == 0).await;
        their_writer.transport().abort();
        let mut received = Vec::new();
        let error = loop {
            match reader.read(1000).await {
                Ok(data) => {
                    assert!(!data.is_empty(), "a reset is no end");
                    received.extend(data);
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(received == pattern(size));
        let closed = writer.wait_closed().await.unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::ConnectionReset);
        Ok(())
    });
}

#[test]
fn a_socket_that_is_taken_out_has_lost_nothing() {
    Chaos::new().explore(SEEDS, |mut random| async move {
        let (one, mut other) = UnixStream::pair()?;
        let (mut reader, writer) = open_connection(one).await?;
        let message = random.bytes(3000);
        other.write_all(&message)?;
        let mut received = reader.readexactly(random.within(1..=2000)).await?;
        writer.write(&message);
        let detached = writer.detach(reader)?;
        received.extend(detached.unread);
        let mut socket = UnixStream::from(detached.socket);
        socket.set_nonblocking(false)?;
        socket.write_all(&detached.unsent)?;
        let mut rest = vec![0; message.len() - received.len()];
        socket.read_exact(&mut rest)?;
        received.extend(rest);
        assert!(received == message);
        let mut theirs = vec![0; message.len()];
        other.read_exact(&mut theirs)?;
        assert!(theirs == message);
        Ok(())
    });
}

#[test]
fn nobody_who_wakes_the_loop_is_overheard() {
    Chaos::new()
        .delays(0.9)
        .explore(SEEDS, |mut random| async move {
            // Another thread, while the loop sleeps for ever.
            let answer = handle().run_in_executor(|| 42).await?;
            assert_eq!(answer, 42);
            // A signal.
            let count = Rc::new(Cell::new(0));
            let counter = Rc::clone(&count);
            handle()
                .add_signal_handler(signals::SIGUSR1, move || counter.set(counter.get() + 1))?;
            signal_hook::low_level::raise(signals::SIGUSR1)?;
            until(|| count.get() == 1).await;
            assert!(handle().remove_signal_handler(signals::SIGUSR1));
            // A descriptor that blocks whoever is called without a reason.
            let (ours, mut theirs) = UnixStream::pair()?;
            let (ours, count) = (Rc::new(ours), Rc::new(Cell::new(0)));
            let (reader, counter) = (Rc::clone(&ours), Rc::clone(&count));
            handle().add_reader(&ours, move || {
                (&*reader).read_exact(&mut [0]).unwrap();
                counter.set(counter.get() + 1);
            })?;
            let size = random.within(1..=100);
            theirs.write_all(&pattern(size))?;
            until(|| count.get() == size).await;
            handle().remove_reader(&ours);
            // Time.
            sleep(Duration::from_micros(100)).await?;
            Ok(())
        });
}

#[test]
fn a_connect_that_fails_says_so() {
    Chaos::new().explore(SEEDS, |_| async move {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        drop(listener);
        // Whoever has got the same port meanwhile is no matter of ours.
        let outcome = open_connection(address).await;
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
        Ok(())
    });
}

#[test]
fn a_seed_that_fails_is_named() {
    let outcome = std::panic::catch_unwind(|| {
        let chaos = Chaos::new().time_limit(Duration::from_millis(20));
        chaos.explore([9], |_| std::future::pending());
    });
    let payload = outcome.unwrap_err();
    let message = payload.downcast_ref::<String>().unwrap();
    // Another seed, if somebody has asked for that one.
    let (seed, why) = message.split_once(": ").unwrap();
    assert!(seed.starts_with("seed "), "{message}");
    assert_eq!(
        why,
        "the run has not ended within 20ms: what it waits for does not come"
    );
}

#[test]
fn a_loop_that_is_dropped_leaves_nothing() {
    for seed in 0..20 {
        let mut event_loop = chaotic_loop(seed).unwrap();
        let alive = Rc::new(());
        let theirs = Rc::clone(&alive);
        event_loop.run_until_complete(async move {
            let [(mut reader, writer), other] = streams().await.unwrap();
            writer.write(pattern(1_000_000));
            drop(handle().create_task(async move {
                let (_theirs, _other) = (theirs, other);
                reader.read(1).await
            }));
            turns(3).await;
        });
        drop(event_loop);
        assert_eq!(Rc::strong_count(&alive), 1);
    }
}

/// Looks again after each turn in which something may have happened.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        sleep(Duration::from_micros(50)).await.unwrap();
    }
}
