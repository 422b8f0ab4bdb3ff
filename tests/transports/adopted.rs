//! asyncio's `sock=`: sockets that somebody else made.

use std::future::IntoFuture;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use evloop::{
    Endpoint, PeerName, SockName, connect_accepted_socket, create_connection, create_server,
    create_unix_connection, create_unix_server, get_running_loop, open_connection,
};
use socket2::{Domain, SockRef, Socket, Type};

use crate::common::folder::Folder;
use crate::common::own_process::{self, descriptors, held};
use crate::common::trace::Trace;
use crate::common::{PATIENCE, Peer, listener, run, turns, within};
use crate::probe::{Call, Probe};
use crate::unix::{collecting, send_with_descriptor};

fn quiet() -> Probe {
    Probe::new(&Trace::default())
}

fn echoing() -> Probe {
    quiet().doing(|call, transport| {
        if let Call::Data(data) = call {
            transport.write(data);
        }
    })
}

fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    theirs.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    (ours, theirs)
}

/// A blocking pair over TCP.
fn tcp_pair() -> (TcpStream, Peer) {
    let (listener, address) = listener();
    let ours = TcpStream::connect(address).expect("to connect");
    (ours, Peer::accept(&listener))
}

/// Sends on one end of a connection whose other end is ours, and expects it back.
async fn echoed(mut peer: UnixStream) {
    let answer = crate::common::in_thread(move || {
        peer.write_all(b"hello").expect("to send");
        let mut answer = [0; 5];
        peer.read_exact(&mut answer).expect("an answer");
        (answer, peer)
    });
    assert_eq!(&answer.await.0, b"hello");
}

#[test]
fn a_connected_tcp_socket_becomes_a_transport() {
    run(async {
        let (ours, peer) = tcp_pair();
        assert!(!SockRef::from(&ours).nonblocking().unwrap());
        let copy = ours.try_clone().unwrap();
        let trace = Trace::default();
        let probe = Probe::new(&trace);
        let (transport, _) = create_connection(move || probe, ours).await.unwrap();
        assert!(SockRef::from(&copy).nonblocking().unwrap());
        assert!(copy.nodelay().unwrap());
        drop(copy);
        let name = transport.get_extra_info(PeerName).unwrap();
        assert_eq!(name.as_inet(), peer.0.local_addr().ok());
        let name = transport.get_extra_info(SockName).unwrap();
        assert_eq!(name.as_inet(), peer.0.peer_addr().ok());
        transport.write(b"hello");
        turns(1).await;
        assert_eq!(peer.receive(5), b"hello");
        peer.send(b"world");
        trace.until("data world").await;
        peer.finish();
        trace.until("lost").await;
        assert_eq!(peer.receive_all(), b"");
    });
}

#[test]
fn a_unix_socket_is_taken_by_both_names_and_as_a_descriptor() {
    run(async {
        let (ours, theirs) = pair();
        let (transport, _) = create_connection(echoing, ours).await.unwrap();
        echoed(theirs).await;
        transport.abort();
        let (ours, theirs) = pair();
        let (transport, _) = create_unix_connection(echoing, ours).await.unwrap();
        echoed(theirs).await;
        transport.abort();
        let (ours, theirs) = pair();
        let ours = OwnedFd::from(ours);
        let (transport, _) = connect_accepted_socket(echoing, ours).await.unwrap();
        echoed(theirs).await;
        transport.abort();
        let (ours, theirs) = pair();
        let handle = get_running_loop().unwrap();
        let connecting = handle.connect_accepted_socket(echoing, ours);
        let (transport, _) = connecting.await.unwrap();
        echoed(theirs).await;
        transport.abort();
    });
}

#[test]
fn bytes_and_the_end_that_came_before_the_adoption_are_read() {
    run(async {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"early").unwrap();
        drop(theirs);
        let (mut reader, writer) = open_connection(ours).await.unwrap();
        let data = within("the end", reader.read_to_end(100)).await.unwrap();
        assert_eq!(data, b"early");
        writer.close();
        let _ = writer.wait_closed().await;
    });
}

/// Urgent data ends a read early, and an adopted socket may have been told to keep it in line.
#[test]
fn bytes_behind_urgent_data_arrive_on_an_adopted_socket() {
    run(async {
        let (ours, peer) = tcp_pair();
        let trace = Trace::default();
        let probe = collecting(&trace);
        let (transport, _) = create_connection(move || probe, ours).await.unwrap();
        peer.send(b"abc");
        SockRef::from(&peer.0).send_out_of_band(b"!").unwrap();
        peer.send(b"def");
        trace.until("abcdef").await;
        transport.abort();
    });
}

#[test]
fn bytes_behind_a_passed_descriptor_arrive_on_an_adopted_socket() {
    run(async {
        let (ours, mut theirs) = pair();
        let trace = Trace::default();
        let probe = collecting(&trace);
        let (transport, _) = create_connection(move || probe, ours).await.unwrap();
        theirs.write_all(b"abc").unwrap();
        send_with_descriptor(&theirs, b"!");
        theirs.write_all(b"def").unwrap();
        trace.until("abc!def").await;
        transport.abort();
    });
}

#[test]
fn a_listener_is_served_and_its_path_stays() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        for both_names in [true, false] {
            let listener = UnixListener::bind(&path).unwrap();
            let server = if both_names {
                create_server(echoing, listener).await.unwrap()
            } else {
                create_unix_server(echoing, listener).await.unwrap()
            };
            assert_eq!(server.sockets()[0].to_string(), path.to_str().unwrap());
            let peer = UnixStream::connect(&path).unwrap();
            echoed(peer).await;
            server.close();
            within("the last connection", server.wait_closed())
                .await
                .unwrap();
            assert_eq!(folder.names(), ["a.sock"]);
            std::fs::remove_file(&path).unwrap();
        }
        let (listener, address) = listener();
        let server = create_server(echoing, listener).await.unwrap();
        assert_eq!(server.sockets()[0].as_inet(), Some(address));
        let peer = crate::common::in_thread(move || {
            let peer = Peer::connect(address);
            peer.send(b"hello");
            (peer.receive(5), peer)
        })
        .await;
        assert_eq!(peer.0, b"hello");
        server.close();
    });
}

#[test]
fn a_socket_that_is_only_bound_begins_to_listen_when_it_is_served() {
    run(async {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let server = create_server(quiet, OwnedFd::from(socket)).start_serving(false);
        let server = server.await.unwrap();
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        server.start_serving().await.unwrap();
        drop(TcpStream::connect(address).unwrap());
        server.close();
    });
}

#[test]
fn the_wrong_kind_of_socket_is_refused_in_words_and_closed() {
    if !own_process::enter("adopted::the_wrong_kind_of_socket_is_refused_in_words_and_closed") {
        return;
    }
    run(async {
        let folder = Folder::new();
        let before = descriptors();
        let refuse = |error: std::io::Error, text: &str| {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().starts_with(text), "{error}");
        };
        let connected = "A connected Stream Socket was expected";
        let listening = "A listening Stream Socket was expected, got a connected one";
        let stream = "A Stream Socket was expected";
        let unix = "A UNIX Domain Stream Socket was expected, got 127.0.0.1:";

        let error = create_connection(quiet, listener().0).await.map(drop);
        refuse(error.unwrap_err(), connected);
        let socket = UnixListener::bind(folder.path("a")).unwrap();
        let error = open_connection(socket).await.map(drop);
        refuse(error.unwrap_err(), connected);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let error = create_connection(quiet, OwnedFd::from(socket))
            .await
            .map(drop);
        refuse(error.unwrap_err(), connected);

        let error = create_server(quiet, tcp_pair().0).await.map(drop);
        refuse(error.unwrap_err(), listening);
        let error = create_unix_server(quiet, pair().0).await.map(drop);
        refuse(error.unwrap_err(), listening);

        let bound = "A bound Stream Socket was expected";
        for domain in [Domain::IPV4, Domain::UNIX] {
            let socket = OwnedFd::from(Socket::new(domain, Type::STREAM, None).unwrap());
            let error = create_server(quiet, socket).await.map(drop);
            refuse(error.unwrap_err(), bound);
        }

        let socket = OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let error = create_connection(quiet, socket).await.map(drop);
        refuse(error.unwrap_err(), stream);
        let socket = OwnedFd::from(UnixDatagram::bind(folder.path("b")).unwrap());
        let error = create_unix_server(quiet, socket).await.map(drop);
        refuse(error.unwrap_err(), stream);

        let (ours, peer) = tcp_pair();
        let error = create_unix_connection(quiet, OwnedFd::from(ours))
            .await
            .map(drop);
        refuse(error.unwrap_err(), unix);
        drop(peer);
        let (socket, _) = listener();
        let error = create_unix_server(quiet, OwnedFd::from(socket))
            .await
            .map(drop);
        refuse(error.unwrap_err(), unix);

        let file = OwnedFd::from(std::fs::File::open("/").unwrap());
        let error = create_connection(quiet, file).await.map(drop).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc_enotsock()), "{error}");
        assert_eq!(descriptors(), before);
        drop(folder);
    });
}

/// The system's number, without a dependency for one constant.
fn libc_enotsock() -> i32 {
    let file = std::fs::File::open("/").expect("the root");
    let socket = Socket::from(OwnedFd::from(file));
    let error = socket.local_addr().map(drop).unwrap_err();
    error.raw_os_error().expect("an error of the system")
}

#[test]
fn an_endpoint_may_be_cloned_with_its_socket() {
    run(async {
        let (ours, theirs) = pair();
        let endpoint = Endpoint::from(ours);
        let connecting = create_connection(quiet, endpoint.clone());
        let (transport, _) = connecting.await.unwrap();
        transport.abort();
        turns(2).await;
        let (transport, _) = create_connection(echoing, endpoint).await.unwrap();
        echoed(theirs).await;
        transport.abort();
    });
}

/// Closing a descriptor leaves its registration behind while a duplicate is open.
#[test]
fn a_duplicate_that_stays_open_is_no_concern_of_the_loop_any_more() {
    if !own_process::enter(
        "adopted::a_duplicate_that_stays_open_is_no_concern_of_the_loop_any_more",
    ) {
        return;
    }
    run(async {
        let before = held();
        let trace = Trace::default();
        let (ours, mut theirs) = pair();
        let mut copy = ours.try_clone().unwrap();
        let probe = Probe::new(&trace);
        let (transport, _) = create_connection(move || probe, ours).await.unwrap();
        transport.abort();
        trace.until("lost").await;
        assert_eq!(held(), (before.0 + 2, before.1));
        theirs.write_all(b"for the duplicate").unwrap();
        turns(10).await;
        let mut data = [0; 17];
        copy.read_exact(&mut data).unwrap();
        assert_eq!(&data, b"for the duplicate");
        // The same socket may come back, under whatever number.
        let probe = Probe::new(&trace).named("again ");
        let (transport, _) = create_connection(move || probe, copy).await.unwrap();
        theirs.write_all(b"x").unwrap();
        trace.until("again data x").await;
        transport.abort();
        trace.until("again lost").await;
        assert_eq!(
            trace,
            ["made", "lost", "again made", "again data x", "again lost"]
        );
    });
}

#[test]
fn an_adoption_that_is_given_up_before_connection_made_ends_what_it_took() {
    if !own_process::enter(
        "adopted::an_adoption_that_is_given_up_before_connection_made_ends_what_it_took",
    ) {
        return;
    }
    run(async {
        let before = held();
        let trace = Trace::default();
        let (ours, mut theirs) = pair();
        let copy = ours.try_clone().unwrap();
        let probe = Probe::new(&trace);
        let mut connecting = create_connection(move || probe, ours).into_future();
        assert!(futures::poll!(&mut connecting).is_pending());
        assert_eq!(trace, [""; 0]);
        drop(connecting);
        trace.until("lost").await;
        assert_eq!(trace, ["made", "lost"]);
        // Both ends of the pair that are still open, and nobody watches them.
        assert_eq!(held(), (before.0 + 2, before.1));
        drop(copy);
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_listener_may_be_shared_and_go_on_elsewhere() {
    run(async {
        let (listener, address) = listener();
        let copy: TcpListener = listener.try_clone().unwrap();
        let trace = Trace::default();
        let say = trace.clone();
        let server = create_server(move || Probe::new(&say), listener);
        let server = server.await.unwrap();
        drop(TcpStream::connect(address).unwrap());
        trace.until("lost").await;
        server.close();
        within("the end", server.wait_closed()).await.unwrap();
        let client = TcpStream::connect(address).unwrap();
        copy.set_nonblocking(false).unwrap();
        let (accepted, _) = copy.accept().unwrap();
        assert_eq!(accepted.peer_addr().ok(), client.local_addr().ok());
    });
}
