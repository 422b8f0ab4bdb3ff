//! Taking a socket out again: nothing that was on its way is lost, and nothing stays behind.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use evloop::{
    CloseReason, ClosedBecause, Detached, Endpoint, EventLoop, StreamReader, StreamWriter,
    create_unix_connection, get_running_loop, open_connection, open_unix_connection, start_server,
};
use futures::channel::oneshot;

use crate::common::trace::Trace;
use crate::common::{PATIENCE, Peer, in_thread, listener, pattern, run, turns, within};
use crate::probe::{Call, Probe, block, connected};

/// As a blocking socket, every call of which has a limit.
fn blocking(detached: Detached) -> TcpStream {
    let socket = TcpStream::from(detached.socket);
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn a_protocol_s_socket_goes_on_elsewhere() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        transport.write(b"from the loop, ");
        let detached = transport.detach().unwrap();
        assert!(detached.unread.is_empty() && detached.unsent.is_empty());
        assert!(transport.is_closing());
        // For the protocol it is over, in an entry of its own as ever.
        assert_eq!(trace, ["made"]);
        trace.until("lost").await;
        assert_eq!(trace, ["made", "lost"]);
        let reason = transport.get_extra_info(ClosedBecause);
        assert_eq!(reason, Some(CloseReason::Detached));
        // What comes now is for others.
        peer.send(b"hello");
        turns(5).await;
        assert_eq!(trace, ["made", "lost"]);
        let mut socket = blocking(detached);
        socket.write_all(b"from outside").unwrap();
        let mut received = [0; 5];
        socket.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"hello");
        drop(socket);
        assert_eq!(peer.receive_all(), b"from the loop, from outside");
    });
}

#[test]
fn what_the_system_has_not_taken_comes_with_the_socket() {
    run(async {
        let (transport, peer) = connected(Probe::new(&Trace::default())).await;
        let sent = pattern(32 * 1024 * 1024);
        transport.write(&sent);
        let detached = transport.detach().unwrap();
        assert!(!detached.unsent.is_empty());
        assert!(sent.ends_with(&detached.unsent));
        let received = in_thread(move || {
            let rest = detached.unsent.clone();
            let mut socket = blocking(detached);
            let writer = std::thread::spawn(move || socket.write_all(&rest).unwrap());
            let received = peer.receive_all();
            writer.join().unwrap();
            received
        });
        assert!(received.await == sent);
    });
}

/// In whatever callback it happens, it is the last but `connection_lost`.
#[test]
fn it_may_happen_in_any_callback() {
    type Wanted = fn(&Call<'_>) -> bool;
    let callbacks: [Wanted; 3] = [
        |call| matches!(call, Call::Made),
        |call| matches!(call, Call::Data(_)),
        |call| matches!(call, Call::Eof),
    ];
    run(async move {
        for (n, wanted) in callbacks.into_iter().enumerate() {
            let trace = Trace::default();
            let (give, take) = oneshot::channel();
            let mut give = Some(give);
            let probe = Probe::new(&trace).doing(move |call, transport| {
                if wanted(call) {
                    transport.write(b"bye");
                    drop(give.take().unwrap().send(transport.detach().unwrap()));
                }
            });
            let (listener, address) = listener();
            let accepted = in_thread(move || {
                let peer = Peer::accept(&listener);
                peer.send(b"hello");
                peer.finish();
                peer
            });
            let connecting = evloop::create_connection(move || probe, address);
            let (peer, _connection) = (accepted, connecting.await);
            let peer = peer.await;
            let detached = within("the socket", take).await.unwrap();
            trace.until("lost").await;
            assert_eq!(trace.lines().len(), n + 2, "{:?}", trace.lines());
            let mut rest = Vec::new();
            blocking(detached).read_to_end(&mut rest).unwrap();
            assert_eq!(rest, if n == 0 { &b"hello"[..] } else { b"" });
            assert_eq!(peer.receive_all(), b"bye");
        }
    });
}

/// The end that was asked for is still owed, behind what is unsent.
#[test]
fn an_end_that_waits_comes_with_the_socket() {
    run(async {
        let (transport, _peer) = connected(Probe::new(&Trace::default())).await;
        transport.write_eof().unwrap();
        assert!(!transport.detach().unwrap().eof_pending);
        let (transport, _peer) = connected(Probe::new(&Trace::default())).await;
        block(&transport);
        transport.write_eof().unwrap();
        let detached = transport.detach().unwrap();
        assert!(detached.eof_pending && !detached.unsent.is_empty());
    });
}

#[test]
fn a_transport_that_closes_keeps_its_socket() {
    run(async {
        let (transport, peer) = connected(Probe::new(&Trace::default())).await;
        block(&transport);
        transport.close();
        let error = transport.detach().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        let (gone, _peer) = connected(Probe::new(&Trace::default())).await;
        gone.abort();
        turns(2).await;
        assert_eq!(gone.detach().unwrap_err().kind(), ErrorKind::NotConnected);
        drop(peer);
    });
}

/// A line is read here; what follows it, another loop reads.
#[test]
fn a_stream_moves_to_another_loop_with_what_nobody_has_read() {
    run(async {
        let (give, take) = oneshot::channel();
        let mut give = Some(give);
        let handler = move |mut reader: StreamReader, writer: StreamWriter| {
            let give = give.take();
            async move {
                assert_eq!(reader.readline().await.unwrap(), b"mine\n");
                // The rest of it may have come already, or not yet.
                let detached = writer.detach(reader).unwrap();
                drop(give.unwrap().send(detached));
            }
        };
        let server = start_server(handler, ("127.0.0.1", 0)).await.unwrap();
        let peer = Peer::connect(server.sockets()[0].as_inet().unwrap());
        peer.send(b"mine\nyours\n");
        let detached = within("the socket", take).await.unwrap();
        let other = in_thread(move || {
            let mut other = EventLoop::new().unwrap();
            other.run_until_complete(async move {
                let Detached { socket, unread, .. } = detached;
                let (mut reader, writer) = open_connection(Endpoint::from(socket)).await.unwrap();
                let mut line = unread;
                if !line.ends_with(b"\n") {
                    line.extend(within("the rest", reader.readline()).await.unwrap());
                }
                writer.write(b"from the other loop");
                line
            })
        });
        assert_eq!(other.await, b"yours\n");
        let answer = in_thread(move || peer.receive_all());
        assert_eq!(answer.await, b"from the other loop");
        // The server counts it no more.
        server.close();
        within("the server", server.wait_closed()).await.unwrap();
    });
}

#[test]
fn halves_of_two_streams_are_not_taken_apart() {
    run(async {
        let (one, _peer) = UnixStream::pair().unwrap();
        let (other, _other_peer) = UnixStream::pair().unwrap();
        let (reader, _writer) = open_unix_connection(one).await.unwrap();
        let (_reader, writer) = open_unix_connection(other).await.unwrap();
        let error = writer.detach(reader).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

/// A socket that somebody else made leaves the poller as well: its number may be watched again.
#[test]
fn a_detached_socket_may_be_watched_and_adopted_again() {
    run(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let trace = Trace::default();
        let probe = Probe::new(&trace);
        let connected = create_unix_connection(move || probe, ours).await;
        let (transport, _) = connected.unwrap();
        let detached = transport.detach().unwrap();
        let fd = detached.socket.as_raw_fd();
        let handle = get_running_loop().unwrap();
        let inner = trace.clone();
        handle
            .add_reader(&fd, move || inner.say("readable"))
            .unwrap();
        (&theirs).write_all(b"x").unwrap();
        trace.until("readable").await;
        assert!(handle.remove_reader(&fd));
        let again = open_unix_connection(UnixStream::from(detached.socket)).await;
        let (mut reader, _writer) = again.unwrap();
        assert_eq!(within("the byte", reader.read(9)).await.unwrap(), b"x");
    });
}
