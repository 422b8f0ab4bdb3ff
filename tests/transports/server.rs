//! `create_server`: what it binds and what it reports.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use evloop::{Address, EndpointError, Family, PeerName, SockName, create_server};
#[cfg(target_os = "linux")]
use socket2::{Domain, Socket, Type};

use crate::common::own_process::{self, descriptors};
use crate::common::peers::skip;
use crate::common::trace::Trace;
use crate::common::{Peer, in_thread, listener, run};
use crate::probe::{Call, Probe};

fn quiet() -> Probe {
    Probe::new(&Trace::default())
}

fn has_ipv6() -> bool {
    let found = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !found {
        skip("this machine has no ::1");
    }
    found
}

#[test]
fn an_address_in_use_is_named() {
    run(async {
        let (_taken, address) = listener();
        let error = create_server(quiet, address).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("cannot bind to address {address}: ")),
            "{text}"
        );
        match error.downcast::<EndpointError>().unwrap() {
            EndpointError::Bind { address: named, .. } => {
                assert_eq!(named.as_inet(), Some(address));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn no_host_is_invalid_input_in_asyncio_s_words() {
    run(async {
        let nobody: [&str; 0] = [];
        let error = create_server(quiet, (nobody, 8080)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let expected = "Neither host/port nor sock were specified";
        assert_eq!(error.to_string(), expected);
    });
}

#[test]
fn an_address_that_is_not_ours_is_named() {
    run(async {
        // Reserved for documentation: nobody has it.
        let error = create_server(quiet, ("192.0.2.1", 0)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        assert!(error.to_string().contains("192.0.2.1"), "{error}");
    });
}

#[test]
fn a_server_that_cannot_bind_all_its_hosts_binds_none_and_leaves_no_descriptor() {
    if !own_process::enter(
        "server::a_server_that_cannot_bind_all_its_hosts_binds_none_and_leaves_no_descriptor",
    ) {
        return;
    }
    run(async {
        let (_taken, address) = listener();
        let before = descriptors();
        // The first is nobody else's, so it is free afterwards.
        let endpoint = (["127.0.2.1", "127.0.0.1"], address.port());
        let error = create_server(quiet, endpoint).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        create_server(quiet, address).await.unwrap_err();
        assert_eq!(descriptors(), before);
        TcpListener::bind(("127.0.2.1", address.port())).unwrap();
    });
}

#[test]
fn several_hosts_are_served_on_the_same_port_each_once() {
    run(async {
        let trace = Trace::default();
        let made = trace.clone();
        let hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.1"];
        let server = create_server(move || Probe::new(&made), (hosts, 0))
            .await
            .unwrap();
        let sockets = server.sockets();
        let ips: Vec<_> = sockets
            .iter()
            .map(|socket| socket.ip().unwrap().to_string())
            .collect();
        assert_eq!(ips, ["127.0.0.1", "127.0.0.2"]);
        assert_eq!(sockets[0].port(), sockets[1].port());
        assert_ne!(sockets[0].port(), Some(0));
        for (i, socket) in sockets.iter().enumerate() {
            let peer = Peer::connect(socket.as_inet().unwrap());
            trace.until_count("made", i + 1).await;
            drop(peer);
        }
    });
}

#[test]
fn an_ipv6_host_given_twice_is_served_once() {
    if !has_ipv6() {
        return;
    }
    run(async {
        let server = create_server(quiet, (["::1", "::1"], 0)).await.unwrap();
        let sockets = server.sockets();
        assert_eq!(sockets.len(), 1);
        TcpStream::connect(sockets[0].as_inet().unwrap()).unwrap();
    });
}

#[test]
fn an_empty_host_is_every_interface() {
    run(async {
        let server = create_server(quiet, ("", 0)).await.unwrap();
        let sockets = server.sockets();
        assert!(
            sockets
                .iter()
                .all(|socket| socket.ip().unwrap().is_unspecified())
        );
        TcpStream::connect(("127.0.0.1", sockets[0].port().unwrap())).unwrap();
    });
}

#[test]
fn port_0_is_the_same_port_for_both_families() {
    if !has_ipv6() {
        return;
    }
    run(async {
        let hosts = ["127.0.0.1", "::1"];
        let server = create_server(quiet, (hosts, 0)).await.unwrap();
        let sockets = server.sockets();
        let ips: Vec<_> = sockets.iter().filter_map(Address::ip).collect();
        assert_eq!(ips, hosts.map(|host| host.parse::<IpAddr>().unwrap()));
        assert_eq!(sockets[0].port(), sockets[1].port());
        let ports = sockets
            .iter()
            .map(|socket| TcpStream::connect(socket.as_inet().unwrap()));
        assert!(ports.into_iter().all(|connected| connected.is_ok()));
    });
}

#[test]
fn all_interfaces_are_served_in_every_family_that_there_is() {
    run(async {
        let server = create_server(quiet, (None, 0)).await.unwrap();
        let sockets = server.sockets();
        assert!(
            sockets
                .iter()
                .all(|socket| socket.ip().unwrap().is_unspecified())
        );
        assert!(
            sockets
                .iter()
                .all(|socket| socket.port() == sockets[0].port())
        );
        TcpStream::connect(("127.0.0.1", sockets[0].port().unwrap())).unwrap();
        if has_ipv6() {
            assert_eq!(sockets.len(), 2);
            TcpStream::connect(("::1", sockets[0].port().unwrap())).unwrap();
        }
    });
}

#[test]
fn only_addresses_of_the_family_are_served() {
    run(async {
        let server = create_server(quiet, (None, 0)).family(Family::Inet).await;
        let ips: Vec<_> = server.unwrap().sockets().iter().map(Address::ip).collect();
        assert_eq!(ips, [Some(Ipv4Addr::UNSPECIFIED.into())]);
    });
}

/// A socket that shares this address with others, as long as none of them listens.
#[cfg(target_os = "linux")]
fn bound_beside(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

/// Two sockets may be bound to an address while neither listens: the second to begin fails.
#[test]
#[cfg(target_os = "linux")]
fn a_server_that_cannot_listen_on_all_its_sockets_listens_on_none() {
    run(async {
        let hosts = (["127.0.0.1", "127.0.0.2"], 0);
        let server = create_server(quiet, hosts).start_serving(false);
        let server = server.await.unwrap();
        let addresses: Vec<_> = server
            .sockets()
            .iter()
            .filter_map(Address::as_inet)
            .collect();
        // Keeps the port from others when the server has given it up.
        let _kept = bound_beside(addresses[0]);
        let other = bound_beside(addresses[1]);
        other.listen(1).unwrap();
        let error = server.start_serving().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(
            error.to_string().contains(&addresses[1].to_string()),
            "{error}"
        );
        assert!(!server.is_serving());
        assert!(server.sockets().is_empty());
        let refused = TcpStream::connect(addresses[0]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        server.wait_closed().await.unwrap();
    });
}

#[test]
fn a_bound_server_accepts_from_start_serving_on() {
    run(async {
        let trace = Trace::default();
        let made = trace.clone();
        let factory = move || Probe::new(&made);
        let server = create_server(factory, ("127.0.0.1", 0))
            .start_serving(false)
            .await
            .unwrap();
        assert!(!server.is_serving());
        let address = server.sockets()[0].as_inet().unwrap();
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        server.start_serving().await.unwrap();
        server.start_serving().await.unwrap();
        assert!(server.is_serving());
        let _peer = Peer::connect(address);
        trace.until("made").await;
    });
}

#[test]
fn a_bound_server_can_be_closed_before_it_serves() {
    run(async {
        // An address that no other test has: its port stays free.
        let server = create_server(quiet, ("127.0.2.2", 0))
            .start_serving(false)
            .await
            .unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        server.close();
        server.wait_closed().await.unwrap();
        assert!(server.sockets().is_empty());
        let error = server.start_serving().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        TcpListener::bind(address).unwrap();
    });
}

/// Linux keeps one connection more than the backlog, and answers no further one.
#[cfg(target_os = "linux")]
#[test]
fn as_many_connections_as_the_backlog_says_wait_in_the_kernel() {
    run(async {
        for backlog in [1, 6] {
            let server = create_server(quiet, ("127.0.0.1", 0)).backlog(backlog);
            let server = server.await.unwrap();
            let address = server.sockets()[0].as_inet().unwrap();
            // No turn passes meanwhile, so nobody is accepted.
            let sockets: Vec<_> = (0..12)
                .map(|_| {
                    let kind = Type::STREAM.nonblocking();
                    let socket = Socket::new(Domain::IPV4, kind, None).unwrap();
                    let _ = socket.connect(&address.into());
                    socket
                })
                .collect();
            let connected = sockets.iter().filter(|socket| socket.peer_addr().is_ok());
            assert_eq!(connected.count(), backlog as usize + 1);
        }
    });
}

#[test]
fn an_address_can_be_served_again_right_after_close() {
    run(async {
        let trace = Trace::default();
        let made = trace.clone();
        let factory = move || Probe::new(&made);
        let server = create_server(factory, ("127.0.0.1", 0)).await.unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        let peer = Peer::connect(address);
        trace.until("made").await;
        server.close();
        server.close_clients();
        in_thread(move || drop(peer.receive_all_or_error())).await;
        server.wait_closed().await.unwrap();
        // Our end closed first, so the old connection lingers on this address.
        if lingers(address) {
            let strict = create_server(quiet, address).reuse_address(false).await;
            assert_eq!(strict.unwrap_err().kind(), ErrorKind::AddrInUse);
        }
        let server = create_server(quiet, address).await.unwrap();
        assert_eq!(server.sockets()[0].as_inet(), Some(address));
    });
}

/// Whether the system keeps a connection of this address in mind: a busy machine's table of such
/// connections may be full.
fn lingers(address: SocketAddr) -> bool {
    const TIME_WAIT: &str = "06";
    let Ok(table) = std::fs::read_to_string("/proc/net/tcp") else {
        return true;
    };
    let ours = format!("0100007F:{:04X}", address.port());
    table.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next() == Some(&ours) && columns.nth(1) == Some(TIME_WAIT)
    })
}

/// What the system says of a connection: of one that is kept alive it tells the time until it asks.
#[cfg(target_os = "linux")]
#[test]
fn keep_alive_is_a_matter_of_each_connection() {
    run(async {
        for keep_alive in [false, true] {
            let trace = Trace::default();
            let made = trace.clone();
            let server = create_server(move || Probe::new(&made), ("127.0.0.1", 0))
                .keep_alive(keep_alive)
                .await
                .unwrap();
            let port = server.sockets()[0].port().unwrap();
            let peer = Peer::connect(([127, 0, 0, 1], port).into());
            trace.until("made").await;
            let ends = format!(
                "0100007F:{port:04X} 0100007F:{:04X} 01 ",
                peer.0.local_addr().unwrap().port()
            );
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let line = table.lines().find(|line| line.contains(&ends)).unwrap();
            let timer = line.split_whitespace().nth(5).unwrap();
            assert_eq!(timer.starts_with("02:"), keep_alive, "{line}");
        }
    });
}

#[test]
fn reuse_port_lets_two_servers_share_an_address() {
    run(async {
        let first = create_server(quiet, ("127.0.0.1", 0))
            .reuse_port(true)
            .await
            .unwrap();
        let address = first.sockets()[0].as_inet().unwrap();
        let second = create_server(quiet, address)
            .reuse_port(true)
            .await
            .unwrap();
        assert_eq!(first.sockets(), second.sockets());
        let third = create_server(quiet, address).await.unwrap_err();
        assert_eq!(third.kind(), ErrorKind::AddrInUse);
    });
}

#[test]
fn the_server_s_side_knows_both_addresses() {
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let factory = move || {
            let said = said.clone();
            Probe::new(&Trace::default()).doing(move |call, transport| {
                if let Call::Made = call {
                    let peer = transport.get_extra_info(PeerName).unwrap();
                    let sock = transport.get_extra_info(SockName).unwrap();
                    said.say(format!("{peer} -> {sock}"));
                }
            })
        };
        // Bound to one address, and to all of them: asked for in another way.
        for host in ["127.0.0.1", "0.0.0.0"] {
            let server = create_server(factory.clone(), (host, 0)).await.unwrap();
            let port = server.sockets()[0].port().unwrap();
            let peer = Peer::connect(([127, 0, 0, 1], port).into());
            trace
                .until(&format!(
                    "{} -> 127.0.0.1:{port}",
                    peer.0.local_addr().unwrap()
                ))
                .await;
        }
    });
}
