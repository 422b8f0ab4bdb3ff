//! Who is asked for names, what is made of the answers, and that nobody waits for them in vain.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{IntoFuture, pending, ready};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::rc::Rc;

use evloop::{
    AddrInfo, Endpoint, EndpointError, EventLoop, Executor, Family, PeerName, Proto, Query,
    Resolver, ResolverFuture, Service, SocketType, Waiter, create_connection, create_server,
    get_running_loop, netdb, open_connection, start_server,
};

use crate::common::{Peer, listener, refusing, run, turns, within};
use crate::connect::quiet;

/// Answers as it was told to, and remembers what it was asked.
#[derive(Clone, Default)]
pub(crate) struct Script(Rc<Inner>);

#[derive(Default)]
struct Inner {
    answers: RefCell<HashMap<String, Vec<SocketAddr>>>,
    /// Where there is one, the answer waits for it.
    gate: RefCell<Option<Waiter<()>>>,
    asked: RefCell<Vec<Query>>,
    given_up: Cell<usize>,
}

impl Script {
    /// Becomes the resolver of the running loop.
    pub(crate) fn installed() -> Self {
        let script = Self::default();
        get_running_loop().unwrap().set_resolver(script.clone());
        script
    }

    pub(crate) fn answer(&self, host: &str, addresses: &[SocketAddr]) {
        let mut answers = self.0.answers.borrow_mut();
        answers.insert(host.to_owned(), addresses.to_vec());
    }

    fn asked(&self) -> Vec<String> {
        let asked = self.0.asked.borrow();
        asked
            .iter()
            .filter_map(|query| query.host.clone())
            .collect()
    }
}

/// Counts the answers that nobody waited for.
struct Unanswered(Option<Rc<Inner>>);

impl Unanswered {
    fn answer(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(inner) = &self.0 {
            inner.given_up.set(inner.given_up.get() + 1);
        }
    }
}

impl Resolver for Script {
    fn getaddrinfo(&self, query: Query) -> ResolverFuture<Vec<AddrInfo>> {
        let host = query.host.clone().unwrap_or_default();
        self.0.asked.borrow_mut().push(query);
        let answer = self.0.answers.borrow().get(&host).cloned();
        let gate = self.0.gate.borrow().clone();
        let unanswered = Unanswered(Some(Rc::clone(&self.0)));
        Box::pin(async move {
            if let Some(gate) = gate {
                gate.await?;
            }
            unanswered.answer();
            let answer = answer.ok_or(ErrorKind::NotFound)?;
            Ok(answer.into_iter().map(AddrInfo::from).collect())
        })
    }
}

/// Keeps every job and runs none.
#[derive(Clone, Default)]
struct Collecting(Rc<RefCell<Vec<Job>>>);

type Job = Box<dyn FnOnce() + Send>;

impl Executor for Collecting {
    fn execute(&self, job: Box<dyn FnOnce() + Send>) {
        self.0.borrow_mut().push(job);
    }
}

fn error_of<T>(outcome: io::Result<T>) -> EndpointError {
    outcome.map(drop).unwrap_err().downcast().unwrap()
}

#[test]
fn a_resolver_of_the_loop_s_own_is_asked_in_place_of_the_system() {
    run(async {
        let (listener, address) = listener();
        let script = Script::installed();
        script.answer("a.example", &[address]);
        // The port is in the answer, and need not be the one that was asked for.
        let (transport, _) = create_connection(quiet, ("a.example", 80)).await.unwrap();
        drop(Peer::accept(&listener));
        let peer = transport.get_extra_info(PeerName).unwrap();
        assert_eq!(peer.as_inet(), Some(address));
        transport.close();
        assert_eq!(script.asked(), ["a.example"]);
        let handle = get_running_loop().unwrap();
        let found = handle.getaddrinfo("a.example", "http").await.unwrap();
        assert_eq!(found[0].address, address);
        let asked = script.0.asked.borrow().last().cloned().unwrap();
        assert_eq!(asked.port, Service::Name("http".to_owned()));
        // Servers ask the same one.
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        script.answer("b.example", &[local]);
        let server = create_server(quiet, ("b.example", 0)).await.unwrap();
        assert_eq!(server.sockets()[0].ip(), Some(local.ip()));
        server.close();
        // Without it the system is asked again, which does not know such names.
        handle.clear_resolver();
        handle.set_default_executor(Collecting::default());
        let lookup = handle.create_task(handle.getaddrinfo("a.example", 80).into_future());
        turns(3).await;
        assert!(!lookup.done());
        lookup.cancel();
    });
}

#[test]
fn family_proto_and_flags_reach_the_resolver_and_narrow_its_answers() {
    run(async {
        let (listener, address) = listener();
        let script = Script::installed();
        let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 1));
        script.answer("a.example", &[v6, address]);
        let (_, writer) = open_connection(("a.example", 80))
            .family(Family::Inet)
            .proto(Proto::Tcp)
            .flags(netdb::AI_ADDRCONFIG)
            .await
            .unwrap();
        drop(Peer::accept(&listener));
        writer.close();
        let asked = script.0.asked.borrow().last().cloned().unwrap();
        assert_eq!(asked.family, Family::Inet);
        assert_eq!(asked.socket_type, SocketType::Stream);
        assert_eq!(
            (asked.proto, asked.flags),
            (Proto::Tcp, netdb::AI_ADDRCONFIG)
        );
        // The answer had both families.
        let connecting = create_connection(quiet, ("a.example", 80)).family(Family::Inet6);
        match error_of(connecting.await) {
            EndpointError::Connect { address, .. } => assert_eq!(address.as_inet(), Some(v6)),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn with_a_flag_a_literal_of_another_family_is_for_the_resolver_to_map() {
    run(async {
        let script = Script::installed();
        let listener = std::net::TcpListener::bind(("::1", 0));
        // Nothing to see on a machine without IPv6.
        let Ok(listener) = listener else {
            return;
        };
        let v6 = listener.local_addr().unwrap();
        script.answer("127.0.0.1", &[v6]);
        let connecting = create_connection(quiet, ("127.0.0.1", 80))
            .family(Family::Inet6)
            .flags(netdb::AI_ADDRCONFIG);
        let (transport, _) = connecting.await.unwrap();
        let peer_name = transport.get_extra_info(PeerName).unwrap();
        assert_eq!(peer_name.as_inet(), Some(v6));
        transport.abort();

        let serve = || {
            let server = create_server(quiet, ("127.0.0.1", 0)).family(Family::Inet6);
            server.flags(netdb::AI_ADDRCONFIG)
        };
        script.answer("127.0.0.1", &[SocketAddr::new(v6.ip(), 0)]);
        let server = serve().await.unwrap();
        assert_eq!(server.sockets()[0].ip(), Some(v6.ip()));
        server.close();
        // What serves IPv6 serves nothing else.
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        script.answer("127.0.0.1", &[SocketAddr::from((mapped, 0))]);
        let error = serve().await.map(drop).unwrap_err();
        let error = error.downcast::<EndpointError>().unwrap();
        assert!(matches!(error, EndpointError::Bind { .. }), "{error}");
    });
}

#[test]
fn contradictory_keywords_are_errors_that_name_the_argument() {
    run(async {
        let connecting = create_connection(quiet, ("127.0.0.1", 80)).family(Family::Inet6);
        let error = connecting.await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = error.to_string();
        let expected =
            "cannot resolve \"127.0.0.1\": family: Address family for hostname not supported";
        assert_eq!(text, expected);
        let serving = create_server(quiet, ("127.0.0.1", 0)).family(Family::Inet6);
        let error = serving.await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), expected);

        let connecting = create_connection(quiet, ("127.0.0.1", 80)).proto(Proto::Udp);
        let error = connecting.await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with("proto: "), "{error}");

        let nobody: [&str; 0] = [];
        let connecting = create_connection(quiet, ("127.0.0.1", 80)).local_addr((nobody, 0));
        let error = connecting.await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with("local_addr: "), "{error}");
    });
}

#[test]
fn an_answer_without_an_address_is_an_error_in_asyncio_s_words() {
    run(async {
        Script::installed().answer("empty.example", &[]);
        let error = error_of(create_connection(quiet, ("empty.example", 80)).await);
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(
            error.to_string(),
            "cannot resolve \"empty.example\": getaddrinfo() returned empty list"
        );
    });
}

#[test]
fn several_names_are_looked_up_side_by_side() {
    run(async {
        let (_socket, address) = refusing();
        let script = Script::installed();
        let gate = get_running_loop().unwrap().create_future();
        script.0.gate.replace(Some(gate.clone()));
        script.answer("a.example", &[address]);
        script.answer("b.example", &[address]);
        let connecting = get_running_loop().unwrap().create_task(async {
            let hosts = (["a.example", "b.example"], 80);
            create_connection(quiet, hosts).await.map(drop)
        });
        turns(2).await;
        assert_eq!(script.asked(), ["a.example", "b.example"]);
        gate.set_result(()).unwrap();
        let outcome = within("the connect", connecting).await.unwrap();
        // Both gave the same address, so both attempts say the same.
        assert!(matches!(error_of(outcome), EndpointError::Connect { .. }));
    });
}

#[test]
fn the_names_of_a_server_are_looked_up_side_by_side_with_its_keywords() {
    run(async {
        let script = Script::installed();
        let gate = get_running_loop().unwrap().create_future();
        script.0.gate.replace(Some(gate.clone()));
        let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0));
        script.answer("a.example", &[v6, ([127, 0, 0, 1], 0).into()]);
        script.answer("b.example", &[([127, 0, 0, 2], 0).into()]);
        let starting = get_running_loop().unwrap().create_task(async {
            let hosts = (["b.example", "a.example"], 0);
            let server = start_server(|_, _| {}, hosts).family(Family::Inet);
            server.flags(netdb::AI_ADDRCONFIG).await
        });
        turns(2).await;
        assert_eq!(script.asked(), ["b.example", "a.example"]);
        for query in script.0.asked.borrow().iter() {
            assert_eq!(
                (query.family, query.flags),
                (Family::Inet, netdb::AI_ADDRCONFIG)
            );
        }
        gate.set_result(()).unwrap();
        let server = within("the server", starting).await.unwrap().unwrap();
        let ips: Vec<_> = server
            .sockets()
            .iter()
            .map(|at| at.ip().unwrap().to_string())
            .collect();
        assert_eq!(ips, ["127.0.0.2", "127.0.0.1"]);
        server.close();
        create_server(quiet, ("b.example", 0))
            .await
            .unwrap()
            .close();
        let flags = script.0.asked.borrow().last().map(|query| query.flags);
        assert_eq!(flags, Some(netdb::AI_PASSIVE));
    });
}

/// A link-local address is one only together with its interface.
#[test]
fn the_scope_of_an_answer_reaches_the_connect() {
    run(async {
        let nowhere: Ipv6Addr = "fe80::1".parse().unwrap();
        // No machine has so many interfaces. Without a scope Linux says EINVAL, with one it is
        // only that nobody is there.
        let scoped = SocketAddrV6::new(nowhere, 80, 0, 0x7fff_ffff);
        let script = Script::installed();
        script.answer("a.example", &[scoped.into()]);
        match error_of(create_connection(quiet, ("a.example", 80)).await) {
            EndpointError::Connect { address, source } => {
                assert_eq!(address.as_inet(), Some(scoped.into()));
                assert_ne!(source.kind(), ErrorKind::InvalidInput, "{source}");
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_connect_that_is_given_up_gives_the_lookup_up() {
    run(async {
        let script = Script::installed();
        let handle = get_running_loop().unwrap();
        script.0.gate.replace(Some(handle.create_future()));
        let connecting = handle
            .create_task(async { create_connection(quiet, ("a.example", 80)).await.map(drop) });
        turns(3).await;
        assert_eq!(script.0.given_up.get(), 0);
        connecting.cancel();
        assert!(connecting.await.is_err());
        assert_eq!(script.0.given_up.get(), 1);
    });
}

#[test]
fn a_literal_touches_no_thread_and_no_resolver() {
    run(async {
        let (listener, address) = listener();
        let handle = get_running_loop().unwrap();
        let jobs = Collecting::default();
        handle.set_default_executor(jobs.clone());
        let script = Script::installed();
        let endpoints: [Endpoint; 2] = [address.into(), ("127.0.0.1", address.port()).into()];
        for endpoint in endpoints {
            let connecting = create_connection(quiet, endpoint).local_addr(("127.0.0.1", 0));
            let (transport, _) = connecting.await.unwrap();
            transport.close();
            drop(Peer::accept(&listener));
        }
        let lookup = handle.getaddrinfo("::1", 80).type_(SocketType::Stream);
        let found = lookup.await.unwrap();
        assert_eq!(
            found,
            [AddrInfo::from(SocketAddr::from((
                [0, 0, 0, 0, 0, 0, 0, 1],
                80
            )))]
        );
        assert_eq!(script.asked(), [""; 0]);
        assert_eq!(jobs.0.borrow().len(), 0);
        // A name does.
        handle.clear_resolver();
        let lookup = handle.create_task(handle.getaddrinfo("localhost", 80).into_future());
        turns(2).await;
        assert_eq!(jobs.0.borrow().len(), 1);
        for job in jobs.0.take() {
            job();
        }
        assert!(!lookup.await.unwrap().unwrap().is_empty());
    });
}

/// The system's resolver cannot be interrupted: nobody waits for it.
#[test]
fn a_lookup_that_never_ends_does_not_hold_up_the_loop_s_end() {
    let jobs = Collecting::default();
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.set_default_executor(jobs.clone());
    let connecting = event_loop
        .create_task(async { create_connection(quiet, ("localhost", 80)).await.map(drop) });
    event_loop.run_until_complete(turns(3));
    assert_eq!(jobs.0.borrow().len(), 1);
    drop(event_loop);
    assert!(connecting.done());
    // The answer that comes too late finds nobody, and harms nobody.
    for job in jobs.0.take() {
        job();
    }
}

#[test]
fn names_and_services_are_found_by_the_system() {
    run(async {
        let handle = get_running_loop().unwrap();
        let found = handle
            .getaddrinfo("localhost", 80)
            .family(Family::Inet)
            .type_(SocketType::Datagram)
            .proto(Proto::Udp)
            .flags(netdb::AI_NUMERICSERV)
            .await
            .unwrap();
        let expected = SocketAddr::from(([127, 0, 0, 1], 80));
        assert_eq!(found[0].address, expected);
        assert_eq!(found[0].family(), Family::Inet);
        assert_eq!(
            (found[0].socket_type, found[0].proto),
            (SocketType::Datagram, Proto::Udp)
        );
        // This machine, whichever families it has.
        let found = handle.getaddrinfo(None, 80).type_(SocketType::Stream).await;
        assert!(
            found
                .unwrap()
                .iter()
                .all(|info| info.address.ip().is_loopback())
        );
        let numeric = netdb::NI_NUMERICHOST | netdb::NI_NUMERICSERV;
        let name = handle.getnameinfo(expected, numeric).await.unwrap();
        assert_eq!(name, ("127.0.0.1".to_owned(), "80".to_owned()));
        let error = handle.getaddrinfo("no such name", 80).await.unwrap_err();
        assert!(!error.to_string().is_empty());
    });
}

#[test]
fn a_resolver_without_names_says_so_and_one_with_names_is_asked() {
    struct Names;

    impl Resolver for Names {
        fn getaddrinfo(&self, _: Query) -> ResolverFuture<Vec<AddrInfo>> {
            Box::pin(pending())
        }

        fn getnameinfo(&self, _: SocketAddr, flags: i32) -> ResolverFuture<(String, String)> {
            Box::pin(ready(Ok(("a.example".to_owned(), flags.to_string()))))
        }
    }

    run(async {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let handle = get_running_loop().unwrap();
        handle.set_resolver(Script::default());
        let error = handle.getnameinfo(address, 0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        handle.set_resolver(Names);
        let name = handle
            .getnameinfo(address, netdb::NI_NAMEREQD)
            .await
            .unwrap();
        assert_eq!(
            name,
            ("a.example".to_owned(), netdb::NI_NAMEREQD.to_string())
        );
    });
}
