//! Sockets of the standard library, used with `await`.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use evloop::{
    AddrInfo, Destination, EndpointError, Family, NoRunningLoop, Query, Resolver, ResolverFuture,
    Service, SocketType, TaskError, UnixAddress, get_running_loop, sleep, timeout,
};
use futures::executor::block_on;
use futures::future::join;
use futures::poll;
use socket2::{Domain, SockRef, Socket, Type};

use crate::support::{Trace, deadline};

/// A socket that is not connected yet, as `sock_connect` wants it.
fn unconnected() -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    (ours, theirs)
}

/// Lets the loop do a turn.
async fn turn() {
    sleep(Duration::ZERO).await.unwrap();
}

#[track_caller]
fn run<F: Future>(scene: F) -> F::Output {
    let _deadline = deadline();
    evloop::run(scene).unwrap()
}

#[test]
fn a_client_connects_sends_and_receives() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (listener, address) = listener();
        let client = unconnected();
        let accepting = handle.sock_accept(&listener);
        let (connected, accepted) = join(handle.sock_connect(&client, address), accepting).await;
        connected.unwrap();
        let (server, peer) = accepted.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(SockRef::from(&server).nonblocking().unwrap());

        handle.sock_sendall(&client, b"hello").await.unwrap();
        assert_eq!(handle.sock_recv(&server, 2).await.unwrap(), b"he");
        let mut buffer = [0; 16];
        let received = handle.sock_recv_into(&server, &mut buffer).await.unwrap();
        assert_eq!(&buffer[..received], b"llo");
        // The receive waits, and the end comes while it does.
        let (received, ()) = join(handle.sock_recv(&server, 16), async {
            turn().await;
            drop(client);
        })
        .await;
        assert_eq!(received.unwrap(), b"");
        // It is as at the beginning: nobody watches it.
        assert!(!handle.remove_reader(&server) && !handle.remove_writer(&server));
    });
}

#[test]
fn a_unix_socket_is_connected_and_accepted_and_both_talk() {
    let path = std::env::temp_dir().join(format!("evloop-sock-{}", std::process::id()));
    // From a run that was killed and had our number.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    run(async {
        let handle = get_running_loop().unwrap();
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        let connecting = async {
            turn().await;
            let address = UnixAddress::from(&path);
            handle.sock_connect(&client, address).await.unwrap();
        };
        let (accepted, ()) = join(handle.sock_accept(&listener), connecting).await;
        let (server, _) = accepted.unwrap();
        let (sent, received) = join(
            handle.sock_sendall(&client, b"hello"),
            handle.sock_recv(&server, 16),
        )
        .await;
        sent.unwrap();
        assert_eq!(received.unwrap(), b"hello");
    });
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_blocking_socket_is_refused() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (listener, address) = listener();
        listener.set_nonblocking(false).unwrap();
        let client = unconnected();
        client.set_nonblocking(false).unwrap();
        let outcomes = [
            handle.sock_recv(&ours, 1).await.map(drop),
            handle.sock_recv_into(&ours, &mut [0]).await.map(drop),
            handle.sock_sendall(&ours, b"x").await,
            handle.sock_accept(&listener).await.map(drop),
            handle.sock_connect(&client, address).await,
        ];
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), "the socket must be non-blocking");
        }
    });
}

#[test]
fn a_megabyte_arrives_in_order() {
    run(async {
        let handle = get_running_loop().unwrap();
        for into in [false, true] {
            let (ours, theirs) = pair();
            let sent: Vec<u8> = (0..1024 * 1024_u32).map(|n| (n % 251) as u8).collect();
            let receive = async {
                let mut received = Vec::new();
                let mut buffer = vec![0; 64 * 1024];
                while received.len() < sent.len() {
                    if into {
                        let n = handle.sock_recv_into(&ours, &mut buffer).await.unwrap();
                        received.extend_from_slice(&buffer[..n]);
                    } else {
                        received.extend(handle.sock_recv(&ours, 64 * 1024).await.unwrap());
                    }
                }
                received
            };
            let (received, outcome) = join(receive, handle.sock_sendall(&theirs, &sent)).await;
            outcome.unwrap();
            assert!(received == sent);
        }
    });
}

#[test]
fn a_cancelled_receive_loses_nothing_and_another_may_begin_at_once() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (ours, theirs) = pair();
        let ours = Rc::new(ours);
        for data in [&b"one"[..], b"two"] {
            let (inner, own) = (handle.clone(), Rc::clone(&ours));
            let first = handle.create_task(async move { inner.sock_recv(&*own, 16).await });
            turn().await;
            // It is gone in the next turn only: the second one takes its place before.
            first.cancel();
            let late = async {
                turn().await;
                turn().await;
                handle.sock_sendall(&theirs, data).await.unwrap();
            };
            let (received, ()) = join(handle.sock_recv(&*ours, 16), late).await;
            assert_eq!(received.unwrap(), data);
            assert_eq!(first.await.unwrap_err(), TaskError::Cancelled);
        }
        // One that is dropped is watched no more.
        let dropped = timeout(Duration::from_millis(1), handle.sock_recv(&*ours, 16)).await;
        assert!(dropped.is_err());
        assert!(!handle.remove_reader(&*ours));
    });
}

#[test]
fn a_cancelled_send_may_be_followed_by_another_at_once() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (ours, theirs) = pair();
        while (&ours).write(&[b'x'; 4096]).is_ok() {}
        let ours = Rc::new(ours);
        let (inner, own) = (handle.clone(), Rc::clone(&ours));
        let first = handle.create_task(async move { inner.sock_sendall(&*own, b"first").await });
        turn().await;
        first.cancel();
        let late = async {
            turn().await;
            turn().await;
            let mut received = Vec::new();
            while !received.ends_with(b"second") {
                received.extend(handle.sock_recv(&theirs, 64 * 1024).await.unwrap());
            }
            received
        };
        let (sent, received) = join(handle.sock_sendall(&*ours, b"second"), late).await;
        sent.unwrap();
        assert!(received.ends_with(b"xsecond"));
    });
}

#[test]
fn a_cancelled_connect_can_be_repeated() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (listener, address) = listener();
        let client = Rc::new(unconnected());
        let (inner, own) = (handle.clone(), Rc::clone(&client));
        let first = handle.create_task(async move { inner.sock_connect(&*own, address).await });
        // The connect has begun, and its socket is watched.
        turn().await;
        first.cancel();
        handle.sock_connect(&*client, address).await.unwrap();
        assert_eq!(first.await.unwrap_err(), TaskError::Cancelled);
        let (server, _) = handle.sock_accept(&listener).await.unwrap();
        handle.sock_sendall(&server, b"x").await.unwrap();
        assert_eq!(handle.sock_recv(&*client, 1).await.unwrap(), b"x");
    });
}

/// Fills the listener's queue: who has a place in it, and one whose connect hangs.
#[cfg(target_os = "linux")]
async fn fill(listener: &TcpListener) -> (Vec<TcpStream>, TcpStream) {
    let handle = get_running_loop().unwrap();
    SockRef::from(listener).listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    loop {
        let client = unconnected();
        let connect = handle.sock_connect(&client, address);
        match timeout(Duration::from_millis(200), connect).await {
            Ok(outcome) => outcome.unwrap(),
            Err(_) => return (queued, client),
        }
        queued.push(client);
    }
}

/// The system calls a socket hung up that was never connected. That is no answer to its connect.
#[test]
#[cfg(target_os = "linux")]
fn a_socket_that_was_watched_before_its_connect_waits_for_its_answer() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (listener, address) = listener();
        let (queued, hanging) = fill(&listener).await;
        // Nobody stands in line before the one that this is about.
        drop(hanging);
        let client = unconnected();
        let calls = Rc::new(Cell::new(0));
        let count = Rc::clone(&calls);
        let call = move || count.set(count.get() + 1);
        handle.add_writer(&client, call).unwrap();
        while calls.get() == 0 {
            turn().await;
        }
        {
            let mut connect = pin!(handle.sock_connect(&client, address));
            for _ in 0..5 {
                assert!(poll!(&mut connect).is_pending());
                turn().await;
            }
            for _ in &queued {
                handle.sock_accept(&listener).await.unwrap();
            }
            connect.await.unwrap();
        }
        assert_eq!(client.peer_addr().unwrap(), address);
    });
}

/// Where the listener's queue is full a connect hangs, and goes on when there is room.
#[test]
#[cfg(target_os = "linux")]
fn a_connect_that_hangs_can_be_cancelled_and_waited_for_again() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (listener, address) = listener();
        let (queued, hanging) = fill(&listener).await;
        assert!(!handle.remove_writer(&hanging));
        let (outcome, ()) = join(handle.sock_connect(&hanging, address), async {
            // Room for it, which the system's next try finds.
            for _ in &queued {
                handle.sock_accept(&listener).await.unwrap();
            }
        })
        .await;
        outcome.unwrap();
        assert_eq!(hanging.peer_addr().unwrap(), address);
    });
}

#[test]
fn a_refused_connect_names_the_address() {
    run(async {
        let handle = get_running_loop().unwrap();
        // Bound and not listening: nobody else gets the port.
        let kept = unconnected();
        SockRef::from(&kept)
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let address = kept.local_addr().unwrap();
        let error = handle.sock_connect(&unconnected(), address).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let error: EndpointError = error.downcast().unwrap();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    });
}

/// Answers every query with the same addresses, and keeps the queries.
#[derive(Clone, Default)]
struct Script {
    answers: Vec<SocketAddr>,
    asked: Rc<RefCell<Vec<Query>>>,
}

impl Resolver for Script {
    fn getaddrinfo(&self, query: Query) -> ResolverFuture<Vec<AddrInfo>> {
        self.asked.borrow_mut().push(query);
        let answers = self.answers.iter().copied().map(AddrInfo::from).collect();
        Box::pin(async { Ok(answers) })
    }
}

#[test]
fn a_host_is_looked_up_for_the_family_and_the_kind_of_the_socket() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (_listener, address) = listener();
        let port = address.port();
        let script = Script {
            // The first one is not for a socket of IPv4.
            answers: vec![(Ipv6Addr::LOCALHOST, port).into(), address],
            ..Script::default()
        };
        handle.set_resolver(script.clone());
        let datagrams = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        let stream = unconnected();
        let host = ("server.example", port);
        handle.sock_connect(&stream, host).await.unwrap();
        handle.sock_connect(&datagrams, host).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        assert_eq!(datagrams.peer_addr().unwrap(), address);
        let asked = script.asked.take();
        assert_eq!(asked.len(), 2);
        for (query, kind) in asked.iter().zip([SocketType::Stream, SocketType::Datagram]) {
            assert_eq!(query.host.as_deref(), Some("server.example"));
            assert_eq!(query.port, Service::Port(port));
            assert_eq!((query.family, query.socket_type), (Family::Inet, kind));
        }

        // A literal needs nobody.
        let stream = unconnected();
        let literal = ("127.0.0.1".to_owned(), port);
        handle.sock_connect(&stream, literal).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        assert!(script.asked.take().is_empty());
    });
}

#[test]
fn a_host_without_an_address_for_the_socket_is_named() {
    run(async {
        let handle = get_running_loop().unwrap();
        handle.set_resolver(Script {
            answers: vec![(Ipv6Addr::LOCALHOST, 80).into()],
            ..Script::default()
        });
        for (host, kind) in [
            ("server.example", ErrorKind::NotFound),
            ("::1", ErrorKind::InvalidInput),
        ] {
            let to = Destination::from((host, 80));
            let error = handle.sock_connect(&unconnected(), to).await.unwrap_err();
            assert_eq!(error.kind(), kind);
            let error: EndpointError = error.downcast().unwrap();
            assert!(matches!(&error, EndpointError::Resolve { host: named, .. } if named == host));
        }
    });
}

#[test]
fn an_accept_that_times_out_leaves_the_listener_as_it_was() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (listener, address) = listener();
        let accept = timeout(Duration::from_millis(1), handle.sock_accept(&listener));
        assert!(accept.await.is_err());
        assert!(!handle.remove_reader(&listener));
        // A connection that comes now is the next one's.
        let client = TcpStream::connect(address).unwrap();
        let (_, peer) = handle.sock_accept(&listener).await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    });
}

#[test]
fn a_receive_whose_place_is_taken_ends_with_an_error() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (ours, theirs) = pair();
        let second = async {
            let receive = handle.sock_recv(&ours, 16);
            let send = async { handle.sock_sendall(&theirs, b"data").await.unwrap() };
            join(receive, send).await.0
        };
        let (first, second) = join(handle.sock_recv(&ours, 16), second).await;
        assert_eq!(first.unwrap_err().kind(), ErrorKind::ResourceBusy);
        assert_eq!(second.unwrap(), b"data");

        // So does a callback.
        let trace = Trace::default();
        let callback = async {
            handle.add_reader(&ours, trace.noting("called")).unwrap();
        };
        let (received, ()) = join(handle.sock_recv(&ours, 16), callback).await;
        assert_eq!(received.unwrap_err().kind(), ErrorKind::ResourceBusy);
        handle.sock_sendall(&theirs, b"x").await.unwrap();
        // The callback is still there.
        while trace.take().is_empty() {
            turn().await;
        }
        assert!(handle.remove_reader(&ours));
    });
}

#[test]
fn a_place_that_is_taken_when_its_turn_has_come_stays_with_the_other() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (ours, theirs) = pair();
        let (ours, calls) = (Rc::new(ours), Rc::new(Cell::new(0)));
        let (inner, own) = (handle.clone(), Rc::clone(&ours));
        let receiver = handle.create_task(async move { inner.sock_recv(&*own, 16).await });
        turn().await;
        // Ready, and replaced in the turn in which it is told so.
        handle.sock_sendall(&theirs, b"data").await.unwrap();
        while !receiver.done() {
            let count = Rc::clone(&calls);
            let call = move || count.set(count.get() + 1);
            handle.add_reader(&*ours, call).unwrap();
            turn().await;
        }
        drop(receiver.await.unwrap());
        assert!(handle.remove_reader(&*ours), "it is the callback's");
    });
}

#[test]
fn a_cancelled_receive_ends_at_once() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (ours, _theirs) = pair();
        let inner = handle.clone();
        let receiver = handle.create_task(async move { inner.sock_recv(&ours, 16).await });
        turn().await;
        receiver.cancel();
        turn().await;
        assert!(receiver.done());
        assert_eq!(receiver.await.unwrap_err(), TaskError::Cancelled);
    });
}

#[test]
fn a_broken_socket_is_the_operations_error() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (ours, theirs) = pair();
        theirs.shutdown(Shutdown::Both).unwrap();
        let error = handle.sock_sendall(&ours, b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!(handle.sock_recv(&ours, 1).await.unwrap(), b"");
    });
}

/// Never blocks, as a fast peer.
struct Endless(UnixStream);

impl Read for &Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(b'x');
        Ok(buffer.len())
    }
}

impl std::os::fd::AsFd for Endless {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[test]
fn a_socket_that_never_blocks_starves_nobody() {
    run(async {
        let handle = get_running_loop().unwrap();
        let endless = Endless(pair().0);
        let inner = handle.clone();
        let reader = handle.create_task(async move {
            loop {
                inner.sock_recv(&endless, 1).await.unwrap();
            }
        });
        turn().await;
        turn().await;
        reader.cancel();
    });
}

#[test]
fn elsewhere_than_in_its_loop_an_operation_is_an_error() {
    let _deadline = deadline();
    let event_loop = evloop::EventLoop::new().unwrap();
    let (ours, _theirs) = pair();
    let error = block_on(event_loop.sock_recv(&ours, 1)).unwrap_err();
    let inner = error.get_ref().and_then(|error| error.downcast_ref());
    assert_eq!(inner, Some(&NoRunningLoop));
}
