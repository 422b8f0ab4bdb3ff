//! Unix sockets: connections, addresses, credentials, and what is left of them.

use std::cell::RefCell;
use std::future::IntoFuture;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
#[cfg(target_os = "linux")]
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
#[cfg(target_os = "linux")]
use std::process::Command;
use std::rc::Rc;

use evloop::{
    EndpointError, NoRunningLoop, PeerCredentials, PeerName, ShutdownPhase, SockName, UnixAddress,
    create_unix_connection, create_unix_server, get_running_loop, open_unix_connection,
    start_unix_server,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::common::folder::Folder;
use crate::common::own_process::{self, descriptors};
#[cfg(target_os = "linux")]
use crate::common::peers::require;
use crate::common::trace::Trace;
use crate::common::{PATIENCE, run, turns, within};
use crate::probe::{Call, Probe};

fn quiet() -> Probe {
    Probe::new(&Trace::default())
}

/// A protocol that says all that it has got.
pub(crate) fn collecting(trace: &Trace) -> Probe {
    let say = trace.clone();
    let mut all = Vec::new();
    quiet().doing(move |call, _| {
        if let Call::Data(data) = call {
            all.extend_from_slice(data);
            say.say(String::from_utf8_lossy(&all));
        }
    })
}

/// A protocol that says who its peer is.
fn naming(trace: &Trace) -> Probe {
    let say = trace.clone();
    quiet().doing(move |_, transport| {
        let name = transport.get_extra_info(PeerName).unwrap();
        say.say(name.to_string());
    })
}

fn peer(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("to connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

fn receive(mut peer: &UnixStream, n: usize) -> Vec<u8> {
    let mut data = vec![0; n];
    peer.read_exact(&mut data).expect("the peer to receive");
    data
}

/// Sends bytes with a descriptor.
pub(crate) fn send_with_descriptor(peer: &UnixStream, bytes: &[u8]) {
    let passed = [peer.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    assert!(message.push(SendAncillaryMessage::ScmRights(&passed)));
    let pieces = [IoSlice::new(bytes)];
    let sent = sendmsg(peer, &pieces, &mut message, SendFlags::empty());
    assert_eq!(sent, Ok(bytes.len()));
}

#[test]
fn a_server_and_a_client_of_ours_talk_and_know_who_is_where() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let (served, called) = (Trace::default(), Trace::default());
        let trace = served.clone();
        let theirs = Rc::new(RefCell::new(None));
        let kept = Rc::clone(&theirs);
        let factory = move || {
            let kept = Rc::clone(&kept);
            Probe::new(&trace).doing(move |call, transport| {
                kept.replace(Some(transport.clone()));
                if let Call::Data(data) = call {
                    transport.write(data);
                }
            })
        };
        let server = create_unix_server(factory, &path).await.unwrap();
        let address = UnixAddress::from(&path);
        assert_eq!(server.sockets()[0].as_unix(), Some(&address));
        assert_eq!(server.sockets()[0].to_string(), path.to_str().unwrap());

        let probe = Probe::new(&called);
        let (transport, _) = create_unix_connection(move || probe, &path).await.unwrap();
        transport.write(b"hello");
        called.until("data hello").await;
        let peer_name = transport.get_extra_info(PeerName).unwrap();
        assert_eq!(peer_name.as_unix(), Some(&address));
        let sock_name = transport.get_extra_info(SockName).unwrap();
        assert_eq!(sock_name.as_unix(), Some(&UnixAddress::Unnamed));
        transport.close();
        called.until("lost").await;
        served.until("lost").await;
        assert_eq!(served, ["made", "data hello", "eof", "lost"]);
        // What was known stays known, the server's own address without having been asked for.
        let theirs = theirs.take().unwrap();
        let sock_name = theirs.get_extra_info(SockName).unwrap();
        assert_eq!(sock_name.as_unix(), Some(&address));
        let peer_name = theirs.get_extra_info(PeerName).unwrap();
        assert_eq!(peer_name.as_unix(), Some(&UnixAddress::Unnamed));
        let peer_name = transport.get_extra_info(PeerName).unwrap();
        assert_eq!(peer_name.as_unix(), Some(&address));
        server.close();
        within("the end", server.wait_closed()).await.unwrap();
        assert!(folder.names().is_empty());
    });
}

#[test]
#[cfg(target_os = "linux")]
fn an_abstract_name_is_served_and_leaves_no_file() {
    run(async {
        let name = format!("\0evloop-test-{}", std::process::id());
        let server = create_unix_server(quiet, name.as_str()).await.unwrap();
        let address = UnixAddress::abstract_name(&name[1..]);
        assert_eq!(server.sockets()[0].as_unix(), Some(&address));
        let error = create_unix_server(quiet, &address).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let connecting = create_unix_connection(quiet, &address);
        let (transport, _) = connecting.await.unwrap();
        let peer_name = transport.get_extra_info(PeerName).unwrap();
        assert_eq!(peer_name.as_unix(), Some(&address));
        transport.abort();
        server.close();
        within("the end", server.wait_closed()).await.unwrap();
        let error = create_unix_connection(quiet, &address).await.map(drop);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_client_that_is_bound_has_a_name() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let seen = Trace::default();
        let say = seen.clone();
        let factory = move || naming(&say);
        let server = create_unix_server(factory, &path).await.unwrap();
        let to = SockAddr::unix(&path).unwrap();
        let mut names = vec![folder.path("client").to_str().unwrap().to_owned()];
        if cfg!(target_os = "linux") {
            names.push(format!("\0evloop-client-{}", std::process::id()));
        }
        for name in names {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            client.bind(&SockAddr::unix(&name).unwrap()).unwrap();
            client.connect(&to).unwrap();
            drop(client);
            seen.until(&name.replace('\0', "@")).await;
        }
        server.close();
        within("the end", server.wait_closed()).await.unwrap();
    });
}

/// The system lets a path fill the structure to its end, without the NUL byte.
#[test]
#[cfg(target_os = "linux")]
fn a_client_whose_path_fills_the_systems_structure_is_served() {
    const BIND_AND_CONNECT: &str = r#"
use Socket;
socket(my $client, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
bind($client, pack("S a108", AF_UNIX, $ARGV[0])) or die "bind: $!";
connect($client, pack_sockaddr_un($ARGV[1])) or die "connect: $!";
"#;
    if !require("perl", "perl-base") {
        return;
    }
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let mut full = folder.path("").to_str().unwrap().to_owned();
        full.push_str(&"x".repeat(108 - full.len()));
        let seen = Trace::default();
        let say = seen.clone();
        let factory = move || naming(&say);
        let server = create_unix_server(factory, &path).await.unwrap();
        let client = Command::new("perl")
            .args(["-e", BIND_AND_CONNECT, &full])
            .arg(&path)
            .status();
        assert!(client.expect("perl").success());
        seen.until(&full).await;
        server.close();
        within("the end", server.wait_closed()).await.unwrap();
    });
}

#[test]
#[cfg(target_os = "linux")]
fn the_system_says_who_the_peer_is() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let trace = Trace::default();
        let (say, seen) = (trace.clone(), Rc::new(RefCell::new(Vec::new())));
        let kept = Rc::clone(&seen);
        let factory = move || {
            let kept = Rc::clone(&kept);
            Probe::new(&say).doing(move |_, transport| {
                kept.borrow_mut().push(transport.clone());
                let peer = transport.get_extra_info(PeerCredentials).unwrap();
                assert_eq!(peer.pid, i32::try_from(std::process::id()).ok());
                let me = std::fs::metadata("/proc/self").unwrap();
                assert_eq!((peer.uid, peer.gid), (me.uid(), me.gid()));
            })
        };
        let server = create_unix_server(factory, &path).await.unwrap();
        drop(peer(&path));
        trace.until("lost").await;
        assert_eq!(trace, ["made", "eof", "lost"]);
        server.close();
        within("the end", server.wait_closed()).await.unwrap();
        let transport = seen.borrow_mut().pop().unwrap();
        assert_eq!(transport.get_extra_info(PeerCredentials), None);

        let tcp = evloop::create_server(quiet, ("127.0.0.1", 0))
            .await
            .unwrap();
        let address = tcp.sockets()[0].as_inet().unwrap();
        let (transport, _) = evloop::create_connection(quiet, address).await.unwrap();
        assert_eq!(transport.get_extra_info(PeerCredentials), None);
    });
}

/// A read ends before bytes that came with a descriptor, although more wait behind it.
#[test]
fn bytes_behind_a_passed_descriptor_arrive() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let trace = Trace::default();
        let say = trace.clone();
        let received = move || collecting(&say);
        let server = create_unix_server(received, &path).await.unwrap();
        let peer = peer(&path);
        (&peer).write_all(b"abc").unwrap();
        send_with_descriptor(&peer, b"!");
        (&peer).write_all(b"def").unwrap();
        trace.until("abc!def").await;
        // And again, when the edge of the event was used up by a read before.
        send_with_descriptor(&peer, b"?");
        (&peer).write_all(b"ghi").unwrap();
        trace.until("abc!def?ghi").await;
        server.close();
    });
}

#[test]
fn either_side_may_end_first_and_go_on_reading() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let trace = Trace::default();
        let say = trace.clone();
        let factory = move || Probe::new(&say).keeping_open();
        let server = create_unix_server(factory, &path).await.unwrap();
        let peer = peer(&path);
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        trace.until("eof").await;
        drop(peer);
        server.close_clients();
        trace.until("lost").await;

        let called = Trace::default();
        let probe = Probe::new(&called);
        let listener = UnixListener::bind(folder.path("b.sock")).unwrap();
        let connecting = create_unix_connection(move || probe, folder.path("b.sock"));
        let (transport, _) = connecting.await.unwrap();
        let (accepted, _) = listener.accept().unwrap();
        transport.write(b"last words");
        transport.write_eof().unwrap();
        assert_eq!(receive(&accepted, 10), b"last words");
        assert_eq!((&accepted).read(&mut [0]).unwrap(), 0);
        (&accepted).write_all(b"answer").unwrap();
        called.until("data answer").await;
        drop(accepted);
        called.until("lost").await;
        assert_eq!(called, ["made", "data answer", "eof", "lost"]);
        server.close();
    });
}

#[test]
fn a_peer_that_closes_unread_bytes_is_a_reset() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let trace = Trace::default();
        let probe = Probe::new(&trace);
        let (transport, _) = create_unix_connection(move || probe, &path).await.unwrap();
        let (accepted, _) = listener.accept().unwrap();
        transport.write(b"nobody reads this");
        turns(1).await;
        drop(accepted);
        within("the end", async {
            while !trace.lines().iter().any(|line| line.starts_with("lost")) {
                turns(1).await;
            }
        })
        .await;
        #[cfg(target_os = "linux")]
        assert_eq!(trace, ["made", "lost ConnectionReset"]);
    });
}

#[test]
fn a_path_without_a_server_is_named_in_the_error() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("nobody.sock");
        let error = create_unix_connection(quiet, &path).await.map(drop);
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let start = format!("cannot connect to {}: ", path.display());
        assert!(error.to_string().starts_with(&start), "{error}");
        folder.stale("nobody.sock");
        let error = open_unix_connection(&path).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.downcast::<EndpointError>().is_ok());
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_queue_is_an_error_and_no_connection() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let server = create_unix_server(quiet, &path).backlog(0).await.unwrap();
        // Nobody is accepted while this step runs.
        let mut connecting = Vec::new();
        let error = loop {
            let mut next = create_unix_connection(quiet, &path).into_future();
            match futures::poll!(&mut next) {
                std::task::Poll::Ready(outcome) => break outcome.map(drop).unwrap_err(),
                std::task::Poll::Pending => connecting.push(next),
            }
            assert!(connecting.len() < 64, "the queue takes everybody");
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        for connecting in connecting {
            within("a connection", connecting).await.unwrap();
        }
        server.close();
        server.abort_clients();
    });
}

#[test]
fn a_unix_server_has_a_limit_and_an_end_in_phases_as_others_have() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let nobody = create_unix_server(quiet, &path).max_connections(0).await;
        assert_eq!(nobody.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(folder.names().is_empty());

        let trace = Trace::default();
        let say = trace.clone();
        let server = create_unix_server(move || Probe::new(&say), &path).max_connections(1);
        let server = server.await.unwrap();
        let [first, second] = [peer(&path), peer(&path)];
        (&second).write_all(b"second").unwrap();
        (&first).write_all(b"first").unwrap();
        trace.until("data first").await;
        drop(first);
        trace.until("data second").await;
        assert_eq!(
            trace,
            ["made", "data first", "eof", "lost", "made", "data second"]
        );
        let report = within("the end", server.shutdown().into_future()).await;
        let report = report.unwrap();
        assert_eq!(report.survivors(ShutdownPhase::Drain).count(), 1);
        assert_eq!(report.survivors(ShutdownPhase::Close).count(), 0);
        assert!(folder.names().is_empty());
        assert_eq!((&second).read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn nothing_is_made_outside_the_loop_that_was_asked() {
    let mut first = evloop::EventLoop::new().unwrap();
    let handle = first.run_until_complete(async { get_running_loop().unwrap() });
    run(async move {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let error = handle.create_unix_server(quiet, &path).await.unwrap_err();
        assert!(error.downcast::<NoRunningLoop>().is_ok());
        let error = handle.create_unix_connection(quiet, &path).await;
        assert!(
            error
                .map(drop)
                .unwrap_err()
                .downcast::<NoRunningLoop>()
                .is_ok()
        );
        assert!(folder.names().is_empty());
    });
}

#[test]
fn three_thousand_connections_leave_no_descriptor() {
    if !own_process::enter("unix::three_thousand_connections_leave_no_descriptor") {
        return;
    }
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let server = start_unix_server(
            |mut reader: evloop::StreamReader, writer: evloop::StreamWriter| async move {
                let data = reader.read(100).await?;
                writer.write(data);
                writer.drain().await
            },
            &path,
        )
        .await
        .unwrap();
        let before = descriptors();
        for _ in 0..60 {
            let mut open = Vec::new();
            for number in 0..50_u32 {
                let (reader, writer) = open_unix_connection(&path).await.unwrap();
                writer.write(&number.to_le_bytes());
                open.push((reader, writer));
            }
            for (number, (mut reader, writer)) in (0_u32..).zip(open) {
                let answer = within("an answer", reader.readexactly(4)).await.unwrap();
                assert_eq!(answer, number.to_le_bytes());
                writer.close();
                writer.wait_closed().await.unwrap();
            }
            within("the other ends", async {
                while descriptors() > before {
                    turns(1).await;
                }
            })
            .await;
        }
        // An attempt that is given up leaves nothing either.
        let mut connecting = open_unix_connection(&path).into_future();
        assert!(futures::poll!(&mut connecting).is_pending());
        drop(connecting);
        server.close();
        within("the end", server.wait_closed()).await.unwrap();
        assert_eq!(descriptors(), before - 1);
    });
}
