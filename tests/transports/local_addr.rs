//! Connecting from an address of our own.

use std::io::ErrorKind;
use std::net::TcpListener;

use evloop::{Endpoint, EndpointError, SockName, create_connection, open_connection};

use crate::common::own_process::{self, descriptors};
use crate::common::{Peer, listener, refusing, run};
use crate::connect::{both_refusing, quiet};

#[test]
fn the_connection_comes_from_the_local_address() {
    run(async {
        let (listener, address) = listener();
        let connecting = create_connection(quiet, address).local_addr(("127.0.0.2", 0));
        let (transport, _) = connecting.await.unwrap();
        let peer = Peer::accept(&listener).0.peer_addr().unwrap();
        assert_eq!(peer.ip().to_string(), "127.0.0.2");
        let name = transport.get_extra_info(SockName).unwrap();
        assert_eq!(name.as_inet(), Some(peer));
        transport.close();
        // The port as well, and through streams.
        let (_socket, free) = refusing();
        drop(_socket);
        let (_, writer) = open_connection(address).local_addr(free).await.unwrap();
        assert_eq!(Peer::accept(&listener).0.peer_addr().unwrap(), free);
        writer.close();
    });
}

#[test]
fn a_local_address_of_another_family_is_skipped() {
    run(async {
        let (listener, address) = listener();
        let locals = (["::1", "127.0.0.3"], 0);
        let connecting = create_connection(quiet, address).local_addr(locals);
        let (transport, _) = connecting.await.unwrap();
        let peer = Peer::accept(&listener).0.peer_addr().unwrap();
        assert_eq!(peer.ip().to_string(), "127.0.0.3");
        transport.close();
        // All interfaces are addresses of both families.
        let connecting = create_connection(quiet, address).local_addr(("", 0));
        let (transport, _) = connecting.await.unwrap();
        transport.close();
    });
}

#[test]
fn local_addresses_of_another_family_only_are_an_error() {
    run(async {
        let (_listener, address) = listener();
        let connecting = create_connection(quiet, address).local_addr(("::1", 0));
        let error = connecting.await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        let expected = format!(
            "cannot connect to {address}: no matching local address with family=AF_INET found"
        );
        assert_eq!(error.to_string(), expected);
    });
}

#[test]
fn a_local_address_in_use_is_named_and_the_next_one_is_tried() {
    run(async {
        let (listener, address) = listener();
        let (_taken, taken) = refusing();
        let connecting = create_connection(quiet, address).local_addr(taken);
        let error = connecting.await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let expected =
            format!("error while attempting to bind on address {taken}: address already in use");
        assert!(error.to_string().starts_with(&expected), "{error}");
        match error.downcast::<EndpointError>().unwrap() {
            EndpointError::LocalAddress { address, .. } => {
                assert_eq!(address.as_inet(), Some(taken));
            }
            other => panic!("{other:?}"),
        }
        let locals = (["127.0.0.1", "127.0.0.4"], taken.port());
        let connecting = create_connection(quiet, address).local_addr(locals);
        let (transport, _) = connecting.await.unwrap();
        let peer = Peer::accept(&listener).0.peer_addr().unwrap();
        assert_eq!(peer.ip().to_string(), "127.0.0.4");
        transport.close();
    });
}

/// Both addresses are tried from both local ones; the errors come in that order.
#[test]
fn each_failure_of_each_local_address_is_told() {
    run(async {
        let (_taken, taken) = refusing();
        let other = TcpListener::bind(("127.0.0.5", taken.port())).unwrap();
        let (_first, refused, _second, _) = both_refusing();
        let hosts: Endpoint = (["127.0.0.1", "127.0.0.2"], refused.port()).into();
        let locals: Endpoint = (["127.0.0.1", "127.0.0.5"], taken.port()).into();
        let connecting = create_connection(quiet, hosts.clone()).local_addr(locals.clone());
        let error = connecting.all_errors(true).await.map(drop).unwrap_err();
        let error = error.downcast::<EndpointError>().unwrap();
        assert_eq!(error.errors().len(), 4, "{error}");
        assert!(
            error
                .to_string()
                .starts_with("Multiple exceptions: error while")
        );
        drop(other);
        let connecting = create_connection(quiet, hosts).local_addr(locals);
        let error = connecting.await.map(drop).unwrap_err();
        let error = error.downcast::<EndpointError>().unwrap();
        let kinds: Vec<ErrorKind> = error.errors().iter().map(EndpointError::kind).collect();
        let (taken, refused) = (ErrorKind::AddrInUse, ErrorKind::ConnectionRefused);
        assert_eq!(kinds, [taken, refused, taken, refused]);
    });
}

#[test]
fn a_local_name_without_an_address_is_named() {
    run(async {
        let (_listener, address) = listener();
        let connecting = create_connection(quiet, address).local_addr(("no such name", 0));
        let error = connecting.await.map(drop).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot resolve \"no such name\": ")
        );
    });
}

#[test]
fn failures_of_local_addresses_leave_no_descriptor() {
    if !own_process::enter("local_addr::failures_of_local_addresses_leave_no_descriptor") {
        return;
    }
    run(async {
        let (_listener, address) = listener();
        let (_taken, taken) = refusing();
        let before = descriptors();
        for local in [
            taken.into(),
            Endpoint::from(("::1", 0)),
            ("192.0.2.1", 0).into(),
        ] {
            let connecting = create_connection(quiet, address).local_addr(local);
            connecting.await.map(drop).unwrap_err();
            assert_eq!(descriptors(), before);
        }
    });
}
