//! Two ends in memory: what a socket does they do, which a pair of unix sockets shows.

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use evloop::testing::{Simulation, SimulationError, stream_pair};
use evloop::{
    ClosedBecause, EventLoop, LoopHandle, PeerName, ReadError, StreamReader, StreamWriter,
    UnixAddress, get_running_loop, open_connection, sleep, timeout,
};

use crate::common::{pattern, run};
use crate::support::{echo, exchange};

type Streams = (StreamReader, StreamWriter);

fn handle() -> LoopHandle {
    get_running_loop().unwrap()
}

#[test]
fn every_byte_arrives_whatever_the_buffer() {
    for buffer in [1, 2, 100, 4096, 1 << 20] {
        let size = buffer.min(1000) * 300;
        run(async {
            let (ours, theirs) = stream_pair().buffer(buffer).limit(500).await.unwrap();
            drop(handle().create_task(echo(theirs.0, theirs.1)));
            assert!(exchange(ours, pattern(size)).await.unwrap() == pattern(size));
        });
    }
}

#[test]
fn a_simulated_host_has_them_too() -> Result<(), SimulationError> {
    let mut simulation = Simulation::new(1);
    let host = simulation.host("only");
    simulation.run_until_complete(&host, async {
        let (ours, theirs) = stream_pair().buffer(100).await.unwrap();
        drop(handle().create_task(echo(theirs.0, theirs.1)));
        assert!(exchange(ours, pattern(10_000)).await.unwrap() == pattern(10_000));
    })?;
    let ends = simulation
        .run_until_complete(&host, stream_pair())?
        .unwrap();
    let ((mut reader, _writer), _theirs) = ends;
    let stuck = simulation.run_until_complete(&host, reader.read(1));
    let error = stuck.unwrap_err().to_string();
    assert!(error.contains("waits for bytes from (unnamed)"), "{error}");
    Ok(())
}

#[test]
fn both_ends_may_be_in_one_task() {
    run(async {
        let ((mut reader, writer), (mut theirs, their_writer)) = stream_pair().await.unwrap();
        for n in 0..100_u8 {
            writer.write(&[n; 3]);
            their_writer.write(&[n]);
            assert_eq!(theirs.readexactly(3).await.unwrap(), [n; 3]);
            assert_eq!(reader.readexactly(1).await.unwrap(), [n]);
        }
        assert_eq!(
            writer.get_extra_info(PeerName),
            Some(UnixAddress::Unnamed.into())
        );
        assert_eq!(
            writer.detach(reader).unwrap_err().kind(),
            io::ErrorKind::Unsupported
        );
        // That has dropped it.
        assert_eq!(theirs.read(1).await.unwrap(), b"");
    });
}

#[test]
fn drain_waits_for_whoever_does_not_read() {
    run(async {
        let pair = stream_pair().buffer(1000).limit(100).await.unwrap();
        let ((_reader, writer), (mut theirs, _their_writer)) = pair;
        let transport = writer.transport().clone();
        transport.set_write_buffer_limits(5000, 1000).unwrap();
        writer.write(pattern(100_000));
        let drain = timeout(Duration::from_millis(20), writer.drain()).await;
        assert!(drain.is_err(), "the mark is far behind");
        // What is under way, and what a reader takes in before it pauses.
        let unsent = transport.get_write_buffer_size();
        assert!((97_000..=99_000).contains(&unsent), "{unsent}");
        assert_eq!(theirs.readexactly(90_000).await.unwrap(), pattern(90_000));
        assert!(transport.get_write_buffer_size() > 1000);
        theirs.readexactly(9_000).await.unwrap();
        writer.drain().await.unwrap();
        assert!(transport.get_write_buffer_size() <= 1000);
    });
}

#[test]
fn a_limit_is_a_limit() {
    run(async {
        let ((mut reader, _writer), (_theirs, their_writer)) =
            stream_pair().limit(10).await.unwrap();
        their_writer.write(b"0123456789abcdef\n");
        let outcome = reader.readline().await;
        assert!(
            matches!(outcome, Err(ReadError::LimitOverrun(_))),
            "{outcome:?}"
        );
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    run(async {
        for (pair, words) in [
            (stream_pair().limit(0), "Limit cannot be <= 0"),
            (
                stream_pair().buffer(0),
                "buffer(0): nothing could ever be written",
            ),
        ] {
            let error = pair.await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), words);
        }
    });
    let outcome = futures::executor::block_on(stream_pair().into_future());
    let error = outcome.unwrap_err();
    assert!(error.get_ref().unwrap().is::<evloop::NoRunningLoop>());
}

#[test]
fn a_pair_that_nobody_waits_for_any_more_leaves_nothing() {
    for polls in 0..4 {
        run(async {
            let mut pair = stream_pair().into_future();
            for _ in 0..polls {
                drop(futures::poll!(&mut pair));
            }
            drop(pair);
            // A loop with something left in it would still be told of it.
            sleep(Duration::from_millis(1)).await.unwrap();
        });
    }
}

#[test]
fn the_loop_may_end_in_the_middle() {
    let mut event_loop = EventLoop::new().unwrap();
    let alive = Rc::new(());
    let kept = event_loop.run_until_complete(async {
        let (ours, theirs) = stream_pair().buffer(100).await.unwrap();
        let (writing, reading) = (Rc::clone(&alive), Rc::clone(&alive));
        drop(handle().create_task(async move {
            let _alive = writing;
            ours.1.write(pattern(10_000));
            ours.1.drain().await
        }));
        drop(handle().create_task(async move {
            let _alive = reading;
            let (mut reader, _writer) = theirs;
            let read = reader.readexactly(1_000_000).await;
            read.map(drop)
        }));
        sleep(Duration::from_millis(1)).await.unwrap();
        stream_pair().await.unwrap()
    });
    event_loop.close();
    assert_eq!(Rc::strong_count(&alive), 1);
    let ((_reader, writer), _theirs) = kept;
    assert!(writer.is_closing());
    writer.write(b"ignored");
}

#[test]
fn a_reader_that_is_dropped_holds_nobody_up() {
    run(async {
        let ((reader, writer), (_theirs, their_writer)) =
            stream_pair().buffer(100).limit(100).await.unwrap();
        drop(reader);
        their_writer.write(pattern(100_000));
        their_writer.drain().await.unwrap();
        their_writer.close();
        their_writer.wait_closed().await.unwrap();
        drop(writer);
    });
}

#[test]
fn a_file_goes_through_memory() {
    run(async {
        let ((_reader, writer), (mut theirs, _their_writer)) =
            stream_pair().buffer(1000).await.unwrap();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let file = std::fs::File::open(path).unwrap();
        let sending = handle().create_task(async move {
            evloop::sendfile(writer.transport(), &file).await.unwrap();
            drop(writer);
        });
        let text = theirs.read_to_end(None).await.unwrap();
        assert!(text == std::fs::read(path).unwrap());
        sending.await.unwrap();
    });
}

#[cfg(feature = "tls")]
#[test]
fn it_can_be_encrypted() {
    use crate::support::cert;
    use evloop::{TlsClientContext, TlsServerContext};

    run(async {
        let server = TlsServerContext::from_pem_files(cert("server.pem"), cert("server.key"));
        let client = TlsClientContext::builder().root_file(cert("ca.pem"));
        let client = client.build().unwrap();
        let (mut ours, theirs) = stream_pair().buffer(3000).await.unwrap();
        drop(handle().create_task(async move {
            let (reader, mut writer) = theirs;
            writer.start_tls(server?).await?;
            echo(reader, writer).await
        }));
        ours.1
            .start_tls(client)
            .server_hostname("localhost")
            .await
            .unwrap();
        let answer = exchange(ours, pattern(100_000)).await.unwrap();
        assert!(answer == pattern(100_000));
    });
}

// What a pair of unix sockets does.

type Scenario = fn(Streams, Streams) -> Pin<Box<dyn Future<Output = String>>>;

/// Runs it with either kind of pair.
#[track_caller]
fn the_same_with_sockets(scenario: Scenario) -> String {
    let in_memory = run(async move {
        let (ours, theirs) = stream_pair().await.unwrap();
        scenario(ours, theirs).await
    });
    let with_sockets = run(async move {
        let (one, other) = UnixStream::pair().unwrap();
        let ours = open_connection(one).await.unwrap();
        scenario(ours, open_connection(other).await.unwrap()).await
    });
    assert_eq!(in_memory, with_sockets);
    in_memory
}

fn kind<T>(outcome: io::Result<T>) -> String {
    match outcome {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// How this end is over.
async fn end_of(mut reader: StreamReader, writer: StreamWriter) -> String {
    let mut read = Vec::new();
    let end = loop {
        match reader.read(3).await {
            Ok(bytes) if bytes.is_empty() => break "an end".to_owned(),
            Ok(bytes) => read.extend(bytes),
            Err(error) => break format!("{:?}", error.kind()),
        }
    };
    let read = String::from_utf8(read).unwrap();
    let closed = kind(writer.wait_closed().await);
    let (drained, because) = (
        kind(writer.drain().await),
        writer.get_extra_info(ClosedBecause),
    );
    format!("{read:?}, {end}, wait_closed {closed}, drain {drained}, {because:?}")
}

#[test]
fn a_half_closed_pair_still_answers() {
    let seen = the_same_with_sockets(|(mut reader, writer), (mut theirs, their_writer)| {
        Box::pin(async move {
            writer.write(b"question");
            writer.write_eof().unwrap();
            let question = theirs.read_to_end(None).await.unwrap();
            their_writer.write(&question);
            their_writer.write(b" answered");
            their_writer.close();
            let closed = kind(their_writer.wait_closed().await);
            let answer = reader.read_to_end(None).await.unwrap();
            writer.close();
            format!("{answer:?} {closed} {}", end_of(reader, writer).await)
        })
    });
    assert!(
        seen.ends_with("an end, wait_closed ok, drain ConnectionReset, Some(PeerEof)"),
        "{seen}"
    );
}

#[test]
fn who_writes_to_a_closed_end_learns_it() {
    let seen = the_same_with_sockets(|(mut reader, writer), (_theirs, their_writer)| {
        Box::pin(async move {
            their_writer.write(b"goodbye");
            their_writer.close();
            assert_eq!(reader.read_to_end(None).await.unwrap(), b"goodbye");
            while !writer.is_closing() {
                writer.write(b"?");
                let _ = writer.drain().await;
            }
            end_of(reader, writer).await
        })
    });
    assert!(seen.contains("wait_closed BrokenPipe"), "{seen}");
}

#[test]
fn an_abort_without_anything_unread_is_an_end() {
    let seen = the_same_with_sockets(|(reader, writer), (_theirs, their_writer)| {
        Box::pin(async move {
            their_writer.write(b"goodbye");
            their_writer.transport().abort();
            let handle = handle();
            let transport = writer.transport().clone();
            let end = handle.create_task(end_of(reader, writer));
            sleep(Duration::from_millis(20)).await.unwrap();
            transport.close();
            end.await.unwrap()
        })
    });
    assert!(
        seen.starts_with("\"goodbye\", an end, wait_closed ok"),
        "{seen}"
    );
}

#[test]
fn an_abort_with_something_unread_resets() {
    let seen = the_same_with_sockets(|(reader, writer), (_theirs, their_writer)| {
        Box::pin(async move {
            their_writer.transport().pause_reading();
            writer.write(b"nobody reads this");
            their_writer.write(b"goodbye");
            sleep(Duration::from_millis(5)).await.unwrap();
            their_writer.transport().abort();
            end_of(reader, writer).await
        })
    });
    assert_eq!(
        seen,
        "\"goodbye\", ConnectionReset, wait_closed ConnectionReset, drain ConnectionReset, Some(Reset)"
    );
}

#[test]
fn who_waits_for_room_learns_that_there_will_be_none() {
    the_same_with_sockets(|(reader, writer), (_theirs, their_writer)| {
        Box::pin(async move {
            their_writer.transport().pause_reading();
            writer.write(vec![0; 4 << 20]);
            let ending = handle().create_task(async move {
                sleep(Duration::from_millis(5)).await.unwrap();
                their_writer.transport().abort();
            });
            let drained = kind(writer.drain().await);
            ending.await.unwrap();
            format!("{drained} {}", end_of(reader, writer).await)
        })
    });
}

#[test]
fn a_reset_behind_the_end_is_noticed() {
    let seen = the_same_with_sockets(|(mut reader, writer), (_theirs, their_writer)| {
        Box::pin(async move {
            their_writer.transport().pause_reading();
            their_writer.write(b"goodbye");
            their_writer.write_eof().unwrap();
            assert_eq!(reader.read_to_end(None).await.unwrap(), b"goodbye");
            writer.write(b"nobody reads this");
            sleep(Duration::from_millis(5)).await.unwrap();
            their_writer.transport().abort();
            end_of(reader, writer).await
        })
    });
    assert!(seen.contains("wait_closed ConnectionReset"), "{seen}");
}
