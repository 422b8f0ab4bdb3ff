//! Several addresses at a time: who wins, when the next one begins, and what is left of the others.
//!
//! Where the system allows it, in a network of its own with black holes and without routes; else a
//! listener whose queue is full is the black hole.

use std::future::IntoFuture;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use evloop::{
    EndpointError, PeerName, Transport, create_connection, get_running_loop, open_connection,
    timeout,
};

use crate::common::own_process::{self, BLACK_HOLES, NO_ROUTE, descriptors, held};
use crate::common::{Peer, listener, refusing, run, turns, within};
use crate::connect::{full, quiet};
use crate::names::Script;

const DELAY: Duration = Duration::from_millis(50);
/// Longer than any test: what begins before it is over did so for another reason.
const NEVER: Duration = Duration::from_secs(3600);

fn peer_of(transport: &Transport) -> SocketAddr {
    transport
        .get_extra_info(PeerName)
        .unwrap()
        .as_inet()
        .unwrap()
}

fn at(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse().unwrap(), port)
}

/// Connects to these addresses, in this order.
fn resolving_to(addresses: &[SocketAddr]) -> (&'static str, u16) {
    Script::installed().answer("several.example", addresses);
    ("several.example", 80)
}

#[test]
fn an_address_that_does_not_answer_costs_the_delay_only() {
    run(async {
        let (_listener, _queue, silent) = full();
        let (listener, address) = listener();
        let before = Instant::now();
        let endpoint = resolving_to(&[silent, address]);
        let connecting = create_connection(quiet, endpoint).happy_eyeballs_delay(DELAY);
        let (transport, _) = within("the second address", connecting.into_future())
            .await
            .unwrap();
        assert!(before.elapsed() >= DELAY);
        assert_eq!(peer_of(&transport), address);
        drop(Peer::accept(&listener));
        transport.close();
        // Streams take the same arguments.
        let connecting = open_connection(endpoint)
            .happy_eyeballs_delay(DELAY)
            .interleave(0);
        let (_reader, writer) = within("the second address", connecting.into_future())
            .await
            .unwrap();
        assert_eq!(peer_of(writer.transport()), address);
        writer.close();
    });
}

#[test]
fn without_a_delay_an_address_that_does_not_answer_is_waited_for() {
    run(async {
        let (_listener, _queue, silent) = full();
        let (_good, address) = listener();
        let endpoint = resolving_to(&[silent, address]);
        let connecting = create_connection(quiet, endpoint).happy_eyeballs_delay(None);
        let waited = timeout(2 * DELAY, connecting).await;
        assert!(waited.is_err(), "the second address was tried");
    });
}

#[test]
fn an_address_that_fails_makes_the_next_one_begin_at_once() {
    run(async {
        let (_socket, refused) = refusing();
        let (listener, address) = listener();
        let endpoint = resolving_to(&[refused, address]);
        let connecting = create_connection(quiet, endpoint).happy_eyeballs_delay(NEVER);
        let (transport, _) = within("the second address", connecting.into_future())
            .await
            .unwrap();
        assert_eq!(peer_of(&transport), address);
        drop(Peer::accept(&listener));
        transport.close();
    });
}

/// With no delay at all both connects succeed in the same turn.
#[test]
fn of_two_that_succeed_one_wins_and_the_other_is_closed() {
    if !own_process::enter("happy_eyeballs::of_two_that_succeed_one_wins_and_the_other_is_closed") {
        return;
    }
    run(async {
        let (first, second) = (listener(), listener());
        let endpoint = resolving_to(&[first.1, second.1]);
        let before = descriptors();
        for _ in 0..20 {
            let connecting =
                create_connection(quiet, endpoint).happy_eyeballs_delay(Duration::ZERO);
            let (transport, _) = connecting.await.unwrap();
            assert_eq!(descriptors(), before + 1);
            let peers = [&first.0, &second.0].map(Peer::accept);
            let (won, lost) = match peer_of(&transport) == first.1 {
                true => (&peers[0], &peers[1]),
                false => (&peers[1], &peers[0]),
            };
            assert_eq!(lost.receive_all(), b"");
            transport.write(b"x");
            turns(1).await;
            assert_eq!(won.receive(1), b"x");
            transport.abort();
            drop(peers);
            within("the end", async {
                while descriptors() > before {
                    turns(1).await;
                }
            })
            .await;
        }
    });
}

#[test]
fn when_all_fail_each_error_is_told_in_the_order_of_the_addresses() {
    run(async {
        let sockets = [refusing(), refusing(), refusing()];
        let addresses = [sockets[0].1, sockets[1].1, sockets[2].1];
        for delay in [None, Some(Duration::ZERO), Some(NEVER)] {
            let endpoint = resolving_to(&addresses);
            let connecting = create_connection(quiet, endpoint).happy_eyeballs_delay(delay);
            let error = within("the errors", connecting.into_future()).await;
            let error = error.map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            let text = error.to_string();
            assert!(
                text.starts_with("Multiple exceptions: cannot connect to"),
                "{text}"
            );
            let error = error.downcast::<EndpointError>().unwrap();
            let named: Vec<SocketAddr> = error
                .errors()
                .iter()
                .map(|error| match error {
                    EndpointError::Connect { address, .. } => address.as_inet().unwrap(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(named, addresses);
        }
    });
}

#[test]
fn all_errors_gives_all_of_them_and_without_it_the_same_text_is_told_once() {
    run(async {
        let (_socket, refused) = refusing();
        let twice = (["127.0.0.1", "127.0.0.1"], refused.port());
        for (endpoint, attempts) in [(twice.into(), 2), (refused.into(), 1)] {
            let endpoint: evloop::Endpoint = endpoint;
            let connecting = create_connection(quiet, endpoint.clone()).all_errors(true);
            let error = connecting.await.map(drop).unwrap_err();
            match error.downcast::<EndpointError>().unwrap() {
                EndpointError::Several(errors) => assert_eq!(errors.len(), attempts),
                other => panic!("{other:?}"),
            }
            let error = open_connection(endpoint).await.map(drop).unwrap_err();
            match error.downcast::<EndpointError>().unwrap() {
                EndpointError::Connect { address, .. } => {
                    assert_eq!(address.as_inet(), Some(refused));
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

/// Three sockets are on their way when it is given up, at every turn on the way there.
#[test]
fn a_race_that_is_given_up_at_any_point_leaves_no_descriptor() {
    if !own_process::enter(
        "happy_eyeballs::a_race_that_is_given_up_at_any_point_leaves_no_descriptor",
    ) {
        return;
    }
    run(async {
        let handle = get_running_loop().unwrap();
        let silent = [full(), full(), full()];
        let addresses = [silent[0].2, silent[1].2, silent[2].2];
        let before = held();
        let mut most = 0;
        for steps in 0..8 {
            for delay in [Duration::ZERO, Duration::from_millis(1)] {
                let endpoint = resolving_to(&addresses);
                let connecting = create_connection(quiet, endpoint).happy_eyeballs_delay(delay);
                let connecting = handle.create_task(async move { connecting.await.map(drop) });
                turns(steps).await;
                most = most.max(descriptors() - before.0);
                connecting.cancel();
                assert!(connecting.await.is_err());
                assert_eq!(held(), before);
            }
        }
        assert_eq!(most, 3);
    });
}

#[test]
fn a_loop_that_ends_in_a_race_leaves_no_descriptor() {
    if !own_process::enter("happy_eyeballs::a_loop_that_ends_in_a_race_leaves_no_descriptor") {
        return;
    }
    let silent = [full(), full()];
    let before = descriptors();
    let mut event_loop = evloop::EventLoop::new().unwrap();
    let addresses = [silent[0].2, silent[1].2];
    let connecting = event_loop.create_task(async move {
        let endpoint = resolving_to(&addresses);
        let connecting = create_connection(quiet, endpoint).happy_eyeballs_delay(DELAY);
        connecting.await.map(drop)
    });
    event_loop.run_until_complete(turns(3));
    assert!(!connecting.done());
    drop(event_loop);
    assert!(connecting.done());
    assert_eq!(descriptors(), before);
}

#[test]
fn black_holes_of_ipv6_cost_a_delay_and_ipv4_is_taken() {
    if !own_process::enter_network(
        "happy_eyeballs::black_holes_of_ipv6_cost_a_delay_and_ipv4_is_taken",
    ) {
        return;
    }
    run(async {
        let (listener, address) = listener();
        let holes = [at(BLACK_HOLES[1], 80), at(BLACK_HOLES[2], 80)];
        let before = descriptors();
        let started = Instant::now();
        let endpoint = resolving_to(&[holes[0], holes[1], address]);
        let connecting = create_connection(quiet, endpoint).happy_eyeballs_delay(DELAY);
        let (transport, _) = within("IPv4", connecting.into_future()).await.unwrap();
        assert!(started.elapsed() >= DELAY);
        assert_eq!(peer_of(&transport), address);
        // The losers are closed before the caller goes on.
        assert_eq!(descriptors(), before + 1);
        drop(Peer::accept(&listener));
        transport.close();
        // In the given order both holes come first.
        let started = Instant::now();
        let connecting = create_connection(quiet, endpoint)
            .happy_eyeballs_delay(DELAY)
            .interleave(0);
        let (transport, _) = within("IPv4", connecting.into_future()).await.unwrap();
        assert!(started.elapsed() >= 2 * DELAY);
        transport.close();
    });
}

/// The delay never ends, so only the order decides whether the address that answers is reached.
#[test]
fn families_take_turns_behind_an_address_without_a_route() {
    if !own_process::enter_network(
        "happy_eyeballs::families_take_turns_behind_an_address_without_a_route",
    ) {
        return;
    }
    run(async {
        let good = TcpListener::bind(("::1", 0)).unwrap();
        let address = good.local_addr().unwrap();
        let addresses = [at(NO_ROUTE, 80), at(BLACK_HOLES[0], 80), address];
        let endpoint = resolving_to(&addresses);
        let connecting = create_connection(quiet, endpoint).happy_eyeballs_delay(NEVER);
        let (transport, _) = within("IPv6", connecting.into_future()).await.unwrap();
        assert_eq!(peer_of(&transport), address);
        transport.close();
        // One after the other, but with turns.
        let connecting = create_connection(quiet, endpoint).interleave(1);
        let (transport, _) = within("IPv6", connecting.into_future()).await.unwrap();
        transport.close();
        // Two of the first family before the turns begin: the black hole.
        for first in [0, 2] {
            let connecting = create_connection(quiet, endpoint)
                .happy_eyeballs_delay(NEVER)
                .interleave(first);
            assert!(timeout(DELAY, connecting).await.is_err(), "{first}");
        }
    });
}

#[test]
fn unreachable_refused_and_silent_addresses_are_all_told_apart() {
    if !own_process::enter_network(
        "happy_eyeballs::unreachable_refused_and_silent_addresses_are_all_told_apart",
    ) {
        return;
    }
    run(async {
        let (_socket, refused) = refusing();
        let before = descriptors();
        let addresses = [at(NO_ROUTE, 80), refused, at("2001:db8::1", 80)];
        let endpoint = resolving_to(&addresses);
        let connecting = create_connection(quiet, endpoint).happy_eyeballs_delay(NEVER);
        let error = within("the errors", connecting.into_future()).await;
        let error = error
            .map(drop)
            .unwrap_err()
            .downcast::<EndpointError>()
            .unwrap();
        assert_eq!(descriptors(), before);
        // In turns: IPv4, IPv6, IPv4.
        let kinds: Vec<ErrorKind> = error.errors().iter().map(EndpointError::kind).collect();
        assert_eq!(kinds.len(), 3, "{error}");
        let unreachable = |kind| {
            matches!(
                kind,
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
            )
        };
        assert!(unreachable(kinds[0]) && unreachable(kinds[1]), "{error}");
        assert_eq!(kinds[2], ErrorKind::ConnectionRefused, "{error}");
        // A black hole alone is waited for, and leaves nothing when the wait is over.
        let silent = create_connection(quiet, (BLACK_HOLES[0], 80));
        assert!(timeout(DELAY, silent).await.is_err());
        assert_eq!(descriptors(), before);
    });
}
