//! Writing, draining and closing.

use std::io::ErrorKind;
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use evloop::{
    ReadError, StreamReader, StreamWriter, Transport, connect_accepted_socket, get_running_loop,
    open_connection, sleep, start_server,
};

use crate::common::trace::Trace;
use crate::common::{Peer, in_thread, listener, pattern, run, turns, within};
use crate::probe::{self, Call, Probe};
use crate::support::{block, connected, kind, now, poll_once};

/// Ends with the error of a loop that writes and drains.
async fn write_until_it_fails(writer: &StreamWriter) -> std::io::Error {
    loop {
        writer.write(b"x");
        if let Err(error) = writer.drain().await {
            return error;
        }
    }
}

fn is_loss(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// A `drain` that never gives way never sees the loss.
#[test]
fn asyncio_263_write_and_drain_to_a_peer_that_closed() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        drop(peer);
        let error = within("the loss", write_until_it_fails(&writer)).await;
        assert!(is_loss(error.kind()), "{error}");
    });
}

/// What is written to a lost connection went unnoticed.
#[test]
fn asyncio_95_a_loss_is_reported_by_every_drain() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        peer.reset();
        let first = within("the loss", write_until_it_fails(&writer)).await;
        assert!(writer.is_closing());
        for _ in 0..7 {
            writer.write(b"too late");
            assert_eq!(kind(writer.drain().await), first.kind());
        }
    });
}

/// One who had taken the error left nothing for those who waited for the end.
#[test]
fn cpython_83939_wait_closed_after_the_error_was_seen() {
    run(async {
        let (mut reader, writer, peer) = connected().await;
        peer.reset();
        assert_eq!(
            kind(within("the loss", reader.read(1)).await),
            ErrorKind::ConnectionReset
        );
        assert_eq!(kind(writer.drain().await), ErrorKind::ConnectionReset);
        for _ in 0..3 {
            let end = within("the end", writer.wait_closed()).await;
            assert_eq!(kind(end), ErrorKind::ConnectionReset);
        }
    });
}

/// What came later replaced the cause.
#[test]
fn zuvloop_16_the_first_cause_stays() {
    run(async {
        let (mut reader, writer, peer) = connected().await;
        block(&writer);
        peer.reset();
        let end = within("the end", writer.wait_closed()).await;
        assert_eq!(kind(end), ErrorKind::ConnectionReset);
        writer.close();
        writer.transport().abort();
        turns(2).await;
        assert_eq!(kind(writer.wait_closed().await), ErrorKind::ConnectionReset);
        assert_eq!(kind(writer.drain().await), ErrorKind::ConnectionReset);
        assert_eq!(kind(reader.read(1).await), ErrorKind::ConnectionReset);
    });
}

/// Each state has one answer to a write, also while a close is on its way.
#[test]
fn zuvloop_17_a_write_beside_close_and_write_eof() {
    run(async {
        // With bytes pending it still leaves.
        let (_reader, writer, peer) = connected().await;
        block(&writer);
        writer.close();
        writer.write(b"tail");
        let received = in_thread(move || peer.receive_all()).await;
        assert!(received.ends_with(b"-tail"));
        // Without, it is ignored, and `drain` says so.
        let (_reader, writer, peer) = connected().await;
        writer.close();
        writer.write(b"tail");
        assert_eq!(kind(writer.drain().await), ErrorKind::ConnectionReset);
        assert_eq!(in_thread(move || peer.receive_all()).await, b"");
        // After `write_eof` it is a mistake.
        let (_reader, writer, peer) = connected().await;
        writer.write_eof().unwrap();
        let error = writer.transport().try_write(b"tail").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(peer.receive_all(), b"");
    });
}

/// `close` does not wait, so a program that ended then lost the tail.
#[test]
fn asyncio_141_the_end_of_the_program_right_after_close() {
    let (listener, address) = listener();
    let peer = run(async move {
        let (_reader, writer) = open_connection(address).await.unwrap();
        let peer = Peer::accept(&listener);
        writer.write(pattern(50_000));
        writer.close();
        peer
    });
    assert!(peer.receive_all() == pattern(50_000));
    // More than the system takes at once needs somebody who waits.
    let (listener, address) = crate::common::listener();
    let received = run(async move {
        let (_reader, writer) = open_connection(address).await.unwrap();
        let peer = Peer::accept(&listener);
        writer.write(pattern(16 << 20));
        writer.close();
        let received = std::thread::spawn(move || peer.receive_all());
        within("the flush", writer.wait_closed()).await.unwrap();
        received
    });
    assert!(received.join().unwrap() == pattern(16 << 20));
}

/// A dropped writer closes the connection: at least nothing of what it had written is lost, and
/// the reader is told an end, not an error.
#[test]
fn cpython_109986_a_dropped_writer() {
    run(async {
        let (mut reader, writer, peer) = connected().await;
        writer.write(b"last words");
        drop(writer);
        assert_eq!(in_thread(move || peer.receive_all()).await, b"last words");
        assert_eq!(within("the end", reader.read(1)).await.unwrap(), b"");
    });
}

/// A handler that forgot its writer kept the connection, and with it the server.
#[test]
fn cpython_114914_a_handler_that_forgets_its_writer() {
    run(async {
        async fn forgetful(
            mut reader: StreamReader,
            _writer: StreamWriter,
        ) -> Result<(), ReadError> {
            reader.readline().await.map(drop)
        }
        let server = start_server(forgetful, ("127.0.0.1", 0)).await.unwrap();
        let peer = Peer::connect(server.sockets()[0].as_inet().unwrap());
        peer.send(b"hello\n");
        let received = in_thread(move || peer.receive_all()).await;
        assert_eq!(received, b"");
        server.close();
        within("the end", server.wait_closed()).await.unwrap();
    });
}

/// `writelines` did not look at the marks.
#[test]
fn cpython_127656_writelines_above_the_mark_holds_drain_up() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        let chunk = vec![b'x'; 1 << 20];
        writer.writelines([chunk.as_slice(); 64]);
        {
            let mut drain = std::pin::pin!(writer.drain());
            assert!(poll_once(&mut drain).await.is_none());
            let received = in_thread(move || peer.receive(64 << 20));
            let received = get_running_loop().unwrap().create_task(received);
            within("room", drain).await.unwrap();
            assert_eq!(received.await.unwrap().len(), 64 << 20);
        }
    });
}

/// A protocol that was paused under a low mark stayed so under a high one.
#[test]
fn asyncio_329_a_raised_mark_resumes() {
    run(async {
        let trace = Trace::default();
        let (transport, _peer) = probe::connected(Probe::new(&trace)).await;
        let size = probe::block(&transport);
        transport.set_write_buffer_limits(size - 1, 0).unwrap();
        trace.until("pause").await;
        transport
            .set_write_buffer_limits(4 * size, 2 * size)
            .unwrap();
        trace.until("resume").await;
        assert_eq!(trace, ["made", "pause", "resume"]);
    });
}

/// A high mark of zero locked `drain`.
#[test]
fn cpython_90645_drain_with_a_high_mark_of_zero() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        writer.transport().set_write_buffer_limits(0, None).unwrap();
        let received = in_thread(move || peer.receive_all());
        let received = get_running_loop().unwrap().create_task(received);
        for chunk in pattern(8 << 20).chunks(100_000) {
            writer.write(chunk);
            within("room", writer.drain()).await.unwrap();
            assert_eq!(writer.transport().get_write_buffer_size(), 0);
        }
        writer.close();
        assert!(received.await.unwrap() == pattern(8 << 20));
    });
}

/// Nobody stops those who never drain; those who do are bounded.
#[test]
fn cpython_116279_a_writer_that_drains_is_bounded_by_the_mark() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        let high = writer.transport().get_write_buffer_limits().1;
        let chunk = [b'x'; 8 * 1024];
        // The peer reads nothing, so this ends in a drain that waits.
        loop {
            writer.write(&chunk);
            assert!(writer.transport().get_write_buffer_size() <= high + chunk.len());
            if now(writer.drain()).await.is_none() {
                break;
            }
        }
        drop(peer);
    });
}

/// `connection_lost` came twice.
#[test]
fn cpython_156512_resume_writing_that_closes() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let probe = Probe::new(&trace).doing(|call, transport: &Transport| {
            if let Call::Resume = call {
                transport.close();
            }
        });
        let (transport, peer) = probe::connected(probe).await;
        probe::block(&transport);
        transport.set_write_buffer_limits(0, None).unwrap();
        trace.until("pause").await;
        drop(in_thread(move || peer.receive_all()).await);
        trace.until("lost").await;
        turns(3).await;
        assert_eq!(trace, ["made", "pause", "resume", "lost"]);
    });
}

/// One event that says both must serve both: the edge does not come again.
#[test]
fn rloop_readable_and_writable_in_one_event() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = probe::connected(Probe::new(&trace)).await;
        transport.set_write_buffer_limits(16 << 20, 0).unwrap();
        transport.write(pattern(8 << 20));
        assert!(transport.get_write_buffer_size() > 0);
        let (sender, receiver) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            peer.send(b"x");
            let mut all = peer.receive(1 << 20);
            sender.send(()).unwrap();
            all.extend(peer.receive_all());
            all
        });
        // The loop is busy until there are both a byte and room.
        receiver.recv().unwrap();
        trace.until("data x").await;
        transport.close();
        trace.until("lost").await;
        assert!(reader.join().unwrap() == pattern(8 << 20));
    });
}

/// Writers that several tasks share: the connection lives as long as one of them.
#[test]
fn cpython_109986_a_writer_that_is_shared() {
    run(async {
        let (_reader, writer, peer) = connected().await;
        let one = Rc::new(writer);
        let two = Rc::clone(&one);
        drop(one);
        turns(2).await;
        assert!(!two.is_closing());
        two.write(b"still here");
        drop(two);
        assert_eq!(in_thread(move || peer.receive_all()).await, b"still here");
    });
}

/// A send that can only fail, on a socket that the system calls writable: tried for ever.
#[test]
fn bun_34510_a_send_that_fails_is_the_end_of_the_connection() {
    run(async {
        let trace = Trace::default();
        let (listener, address) = listener();
        let ours = TcpStream::connect(address).unwrap();
        let _peer = Peer::accept(&listener);
        let copy = ours.try_clone().unwrap();
        let probe = Probe::new(&trace);
        let (transport, _) = connect_accepted_socket(|| probe, ours).await.unwrap();
        copy.shutdown(Shutdown::Write).unwrap();
        transport.write(b"x");
        let handle = get_running_loop().unwrap();
        trace.until("lost BrokenPipe").await;
        assert_eq!(transport.get_write_buffer_size(), 0);
        // And the loop has peace.
        handle.take_metrics();
        sleep(Duration::from_millis(20)).await.unwrap();
        assert!(handle.metrics().polls < 10, "{:?}", handle.metrics());
    });
}
