//! `create_connection`: what it reports, and what it leaves behind.

use std::future::IntoFuture;
use std::io::ErrorKind;
use std::net::SocketAddr;

use evloop::{
    Endpoint, EndpointError, NoRunningLoop, PeerName, SockName, create_connection, create_server,
    get_running_loop, open_connection, start_server,
};
use socket2::{Domain, Socket, Type};

use crate::common::own_process::{self, descriptors, held};
use crate::common::trace::Trace;
use crate::common::{Peer, listener, refusing, run, turns};
use crate::probe::Probe;

pub(crate) fn quiet() -> Probe {
    Probe::new(&Trace::default())
}

/// A port on which nobody listens, neither at 127.0.0.1 nor at 127.0.0.2.
pub(crate) fn both_refusing() -> (Socket, SocketAddr, Socket, SocketAddr) {
    for _ in 0..100 {
        let (first, address) = refusing();
        let second = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let other = SocketAddr::from(([127, 0, 0, 2], address.port()));
        if second.bind(&other.into()).is_ok() {
            return (first, address, second, other);
        }
    }
    panic!("every port is somebody's at 127.0.0.2");
}

/// A listener whose queue is full, so that a connect to it stays on its way.
pub(crate) fn full() -> (Socket, Vec<Socket>, SocketAddr) {
    let (listener, address) = refusing();
    listener.listen(0).unwrap();
    let mut queue = Vec::new();
    while queue.len() < 64 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address.into());
        let waits = socket.peer_addr().is_err();
        queue.push(socket);
        if waits {
            return (listener, queue, address);
        }
    }
    panic!("the queue takes everybody");
}

#[test]
fn a_refused_connection_names_the_address() {
    run(async {
        let (_socket, address) = refusing();
        let error = create_connection(quiet, address)
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("cannot connect to {address}: ")),
            "{text}"
        );
        match error.downcast::<EndpointError>().unwrap() {
            EndpointError::Connect {
                address: named,
                source,
            } => {
                assert_eq!(named.as_inet(), Some(address));
                assert_eq!(source.kind(), ErrorKind::ConnectionRefused);
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn port_1_is_refused() {
    run(async {
        let error = create_connection(quiet, ("127.0.0.1", 1))
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    });
}

#[test]
fn a_name_without_an_address_is_named() {
    run(async {
        let endpoint = ("does-not-exist.invalid", 80);
        let error = create_connection(quiet, endpoint)
            .await
            .map(drop)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot resolve \"does-not-exist.invalid\": ")
        );
        match error.downcast::<EndpointError>().unwrap() {
            EndpointError::Resolve { host, .. } => assert_eq!(host, "does-not-exist.invalid"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_name_is_resolved() {
    run(async {
        let (listener, address) = listener();
        let connecting = create_connection(quiet, ("localhost", address.port()));
        let (transport, _) = connecting.await.unwrap();
        let peer = Peer::accept(&listener);
        let name = transport.get_extra_info(PeerName).unwrap();
        assert_eq!(name.as_inet(), Some(address));
        assert_eq!(
            transport.get_extra_info(SockName).unwrap().as_inet(),
            Some(peer.0.peer_addr().unwrap())
        );
    });
}

/// Nothing is looked up, so nothing has to be waited for: the first poll has the socket.
#[test]
fn a_literal_address_is_connected_to_at_once() {
    if !own_process::enter("connect::a_literal_address_is_connected_to_at_once") {
        return;
    }
    run(async {
        let (_listener, address) = listener();
        let endpoints: [Endpoint; 2] = [address.into(), ("127.0.0.1", address.port()).into()];
        for endpoint in endpoints {
            let before = descriptors();
            let mut connecting = create_connection(quiet, endpoint).into_future();
            assert!(futures::poll!(&mut connecting).is_pending());
            assert_eq!(descriptors(), before + 1);
            drop(connecting);
            assert_eq!(descriptors(), before);
        }
    });
}

#[test]
fn no_host_is_invalid_input_in_asyncio_s_words() {
    run(async {
        let nobody: [&str; 0] = [];
        let endpoints: [Endpoint; 4] = [
            ("", 8080).into(),
            (None, 8080).into(),
            (nobody, 8080).into(),
            (["127.0.0.1", ""], 8080).into(),
        ];
        for endpoint in endpoints {
            let error = create_connection(quiet, endpoint.clone())
                .await
                .map(drop)
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{endpoint:?}");
            let expected = "host and port was not specified and no sock specified";
            assert_eq!(error.to_string(), expected);
        }
    });
}

#[test]
fn a_host_without_an_address_does_not_hide_the_next_one() {
    run(async {
        let (listener, address, _other, _) = both_refusing();
        listener.listen(1).unwrap();
        let hosts = |last| (["does-not-exist.invalid", last], address.port());
        let (transport, _) = create_connection(quiet, hosts("127.0.0.1")).await.unwrap();
        let name = transport.get_extra_info(PeerName).unwrap();
        assert_eq!(name.as_inet(), Some(address));
        transport.close();
        let error = create_connection(quiet, hosts("127.0.0.2"))
            .await
            .map(drop)
            .unwrap_err();
        match error.downcast::<EndpointError>().unwrap() {
            EndpointError::Several(errors) => assert!(matches!(
                errors.as_slice(),
                [EndpointError::Resolve { .. }, EndpointError::Connect { .. }]
            )),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn several_addresses_are_tried_one_after_the_other() {
    run(async {
        let (_first, _, second, answering) = both_refusing();
        let endpoint = (["127.0.0.1", "127.0.0.2"], answering.port());
        let error = create_connection(quiet, endpoint)
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let text = error.to_string();
        assert!(text.contains("cannot connect to 127.0.0.1:"), "{text}");
        assert!(text.contains("cannot connect to 127.0.0.2:"), "{text}");
        match error.downcast::<EndpointError>().unwrap() {
            EndpointError::Several(errors) => assert_eq!(errors.len(), 2),
            other => panic!("{other:?}"),
        }
        second.listen(1).unwrap();
        let (transport, _) = create_connection(quiet, endpoint).await.unwrap();
        let name = transport.get_extra_info(PeerName).unwrap();
        assert_eq!(name.as_inet(), Some(answering));
    });
}

#[test]
fn three_hundred_connects_at_a_time_all_arrive() {
    if !own_process::enter("connect::three_hundred_connects_at_a_time_all_arrive") {
        return;
    }
    run(async {
        let trace = Trace::default();
        let factory = move || Probe::new(&trace);
        let server = create_server(factory, ("127.0.0.1", 0)).backlog(512);
        let server = server.await.unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        let before = descriptors();
        let connects = (0..300).map(|_| create_connection(quiet, address).into_future());
        let connected = futures::future::join_all(connects).await;
        for outcome in connected {
            outcome.unwrap().0.abort();
        }
        server.close();
        server.wait_closed().await.unwrap();
        while descriptors() >= before {
            turns(1).await;
        }
    });
}

#[test]
fn outside_a_loop_there_is_an_error() {
    let future = create_connection(quiet, ("127.0.0.1", 1)).into_future();
    let error = futures::executor::block_on(future).map(drop).unwrap_err();
    assert!(error.downcast::<NoRunningLoop>().is_ok());
}

#[test]
fn a_failed_connect_leaves_no_descriptor() {
    if !own_process::enter("connect::a_failed_connect_leaves_no_descriptor") {
        return;
    }
    run(async {
        let (_socket, address) = refusing();
        let before = descriptors();
        for _ in 0..10 {
            create_connection(quiet, address)
                .await
                .map(drop)
                .unwrap_err();
        }
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn bad_input_leaves_no_descriptor() {
    if !own_process::enter("connect::bad_input_leaves_no_descriptor") {
        return;
    }
    run(async {
        let handle = get_running_loop().unwrap();
        let nowhere = ("does-not-exist.invalid", 80);
        let before = descriptors();
        for _ in 0..10 {
            create_connection(quiet, nowhere)
                .await
                .map(drop)
                .unwrap_err();
            create_connection(quiet, ("", 80))
                .await
                .map(drop)
                .unwrap_err();
            create_server(quiet, nowhere).await.unwrap_err();
            let limited = open_connection(("127.0.0.1", 80)).limit(0);
            limited.await.map(drop).unwrap_err();
            let limited = start_server(|_, _| {}, ("127.0.0.1", 0)).limit(0);
            limited.await.unwrap_err();
            handle.add_signal_handler(0, || {}).unwrap_err();
            // SIGKILL, by its number.
            handle.add_signal_handler(9, || {}).unwrap_err();
            assert_eq!(descriptors(), before);
        }
    });
}

#[test]
fn a_cancelled_connect_leaves_no_descriptor() {
    if !own_process::enter("connect::a_cancelled_connect_leaves_no_descriptor") {
        return;
    }
    run(async {
        let (_listener, _queue, address) = full();
        let handle = get_running_loop().unwrap();
        let before = held();
        let connecting =
            handle.create_task(async move { create_connection(quiet, address).await.map(drop) });
        turns(5).await;
        assert!(!connecting.done(), "the listener's queue is full");
        assert_eq!(descriptors(), before.0 + 1);
        connecting.cancel();
        assert!(connecting.await.is_err());
        assert_eq!(held(), before);
    });
}

#[test]
fn a_connect_that_is_dropped_before_connection_made_closes_the_connection() {
    run(async {
        let trace = Trace::default();
        let (listener, address) = listener();
        let dropped = Trace::default();
        let factory = {
            let (trace, dropped) = (trace.clone(), dropped.clone());
            move || {
                dropped.say("factory");
                Probe::new(&trace)
            }
        };
        let handle = get_running_loop().unwrap();
        let connecting =
            handle.create_task(async move { create_connection(factory, address).await.map(drop) });
        // Between the factory and `connection_made` there is a turn.
        dropped.until("factory").await;
        connecting.cancel();
        trace.until("lost").await;
        assert_eq!(trace, ["made", "lost"]);
        let peer = Peer::accept(&listener);
        assert_eq!(peer.receive_all(), b"");
    });
}
