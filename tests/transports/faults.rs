//! Protocols that panic, and protocols that are borrowed at the wrong moment.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use evloop::{
    CloseReason, ClosedBecause, PanicError, Protocol, Transport, create_connection, create_server,
    get_running_loop,
};

use crate::common::trace::Trace;
use crate::common::{Peer, in_thread, listener, run, turns};
use crate::probe::{Call, Probe, block, connected};

/// A probe that panics inside one callback.
fn panicking(trace: &Trace, at: &'static str) -> Probe {
    Probe::new(trace).keeping_open().doing(move |call, _| {
        let name = match call {
            Call::Made => "made",
            Call::Data(_) => "data",
            Call::Eof => "eof",
            Call::Lost(_) => "lost",
            Call::Pause => "pause",
            Call::Resume => "resume",
        };
        assert!(name != at, "on purpose in {at}");
    })
}

/// Another connection of the same loop still echoes.
async fn assert_others_go_on(echoing: &Peer, trace: &Trace) {
    let before = trace.count("other data ping");
    echoing.send(b"ping");
    trace.until_count("other data ping", before + 1).await;
}

#[test]
fn a_panic_in_a_callback_is_reported_once_and_costs_that_connection_only() {
    let reported = |method: &str, at: &str| {
        format!(
            "report: Fatal error: protocol.{method}() call failed.: panicked: on purpose in {at}"
        )
    };
    let cases = [
        (
            "made",
            vec![
                "made".to_owned(),
                reported("connection_made", "made"),
                "lost Other".into(),
            ],
        ),
        (
            "data",
            vec![
                "made".to_owned(),
                "data abc".into(),
                reported("data_received", "data"),
                "lost Other".into(),
            ],
        ),
        (
            "eof",
            vec![
                "made".to_owned(),
                "data abc".into(),
                "eof".into(),
                reported("eof_received", "eof"),
                "lost Other".into(),
            ],
        ),
        (
            "lost",
            vec![
                "made".to_owned(),
                "data abc".into(),
                "eof".into(),
                "lost".into(),
                reported("connection_lost", "lost"),
            ],
        ),
    ];
    for (at, expected) in cases {
        run(async {
            let others = Trace::default();
            let (_other, echoing) = connected(Probe::new(&others).named("other ")).await;
            let trace = Trace::default();
            trace.catch_reports();
            let (transport, peer) = connected(panicking(&trace, at)).await;
            peer.send(b"abc");
            if !transport.is_closing() {
                trace.until("data abc").await;
            }
            if !transport.is_closing() {
                peer.finish();
                trace.until("eof").await;
                turns(1).await;
                transport.close();
            }
            trace.until(expected.last().unwrap()).await;
            assert_others_go_on(&echoing, &others).await;
            assert_eq!(trace.lines(), expected, "panic in {at}");
            assert!(transport.get_protocol().is_none());
            // Its descriptor is closed: with a reset, if the peer's bytes were not read.
            let ended = peer.receive_all_or_error();
            assert!(ended.is_ok_and(|bytes| bytes.is_empty()) || at == "made");
        });
    }
}

#[test]
fn the_report_names_the_transport_and_the_panic_and_so_does_connection_lost() {
    run(async {
        let (listener, address) = listener();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let said = Rc::clone(&seen);
        get_running_loop()
            .unwrap()
            .set_exception_handler(move |_, context| {
                let error = context.exception().unwrap().downcast_ref::<PanicError>();
                assert_eq!(error.unwrap().message(), "on purpose in data");
                let transport = context.get::<Transport>().unwrap();
                said.borrow_mut()
                    .push(transport.get_extra_info(evloop::PeerName));
            });
        let trace = Trace::default();
        let cause = Rc::new(RefCell::new(String::new()));
        let told = Rc::clone(&cause);
        let probe = Probe::new(&trace).doing(move |call, _| match call {
            Call::Data(_) => panic!("on purpose in data"),
            Call::Lost(error) => *told.borrow_mut() = error.as_ref().unwrap().to_string(),
            _ => {}
        });
        let _client = crate::probe::connect(probe, address).await;
        let peer = Peer::accept(&listener);
        peer.send(b"abc");
        trace.until("lost Other").await;
        let address = evloop::Address::from(address);
        assert_eq!(*seen.borrow(), [Some(address)]);
        assert_eq!(*cause.borrow(), "panicked: on purpose in data");
    });
}

#[test]
fn a_panic_in_pause_or_resume_writing_is_reported_and_the_connection_goes_on() {
    for at in ["pause", "resume"] {
        run(async move {
            let trace = Trace::default();
            trace.catch_reports();
            let (transport, peer) = connected(panicking(&trace, at)).await;
            block(&transport);
            transport.set_write_buffer_limits(0, None).unwrap();
            trace.until("pause").await;
            let received = in_thread(move || peer.receive_all());
            let received = get_running_loop().unwrap().create_task(received);
            trace.until("resume").await;
            turns(1).await;
            transport.write(b"and more");
            transport.close();
            trace.until("lost").await;
            assert!(received.await.unwrap().ends_with(b"and more"));
            let report =
                format!("report: protocol.{at}_writing() failed: panicked: on purpose in {at}");
            let expected = match at {
                "pause" => ["made", "pause", &report, "resume", "lost"],
                _ => ["made", "pause", "resume", &report, "lost"],
            };
            assert_eq!(trace.lines(), expected);
        });
    }
}

#[test]
fn what_a_callback_wrote_before_it_panicked_is_sent() {
    run(async {
        let trace = Trace::default();
        let probe = Probe::new(&trace).doing(|call, transport| {
            if let Call::Data(_) = call {
                transport.write(b"an answer");
                panic!("on purpose");
            }
        });
        let (_, peer) = connected(probe).await;
        trace.catch_reports();
        peer.send(b"abc");
        assert_eq!(in_thread(move || peer.receive_all()).await, b"an answer");
    });
}

#[test]
fn a_factory_that_panics_costs_that_connection_only() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let made = trace.clone();
        let mut calls = 0;
        let factory = move || {
            calls += 1;
            assert!(calls != 1, "no protocol today");
            Probe::new(&made)
        };
        let server = create_server(factory, ("127.0.0.1", 0)).await.unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        let first = Peer::connect(address);
        assert_eq!(in_thread(move || first.receive_all()).await, b"");
        let second = Peer::connect(address);
        second.send(b"abc");
        trace.until("data abc").await;
        assert_eq!(
            trace,
            [
                "report: Exception in protocol factory: panicked: no protocol today",
                "made",
                "data abc"
            ]
        );
        server.close();
        server.close_clients();
        server.wait_closed().await.unwrap();
    });
}

#[test]
fn a_client_s_factory_that_panics_panics_in_the_caller_and_leaves_nothing() {
    run(async {
        let (listener, address) = listener();
        let handle = get_running_loop().unwrap();
        let connecting = handle.create_task(async move {
            let factory = || -> Probe { panic!("no protocol today") };
            create_connection(factory, address).await.map(drop)
        });
        let error = connecting.await.unwrap_err();
        assert_eq!(error.to_string(), "the task panicked: no protocol today");
        let peer = Peer::accept(&listener);
        assert_eq!(in_thread(move || peer.receive_all()).await, b"");
    });
}

struct Quiet(Trace);

impl Protocol for Quiet {
    fn data_received(&mut self, _: &[u8]) {
        self.0.say("data");
    }

    fn connection_lost(&mut self, exc: Option<Arc<std::io::Error>>) {
        self.0
            .say(format!("lost {:?}", exc.map(|error| error.kind())));
    }
}

/// What a protocol must never be: borrowed while its owner waits.
#[allow(
    clippy::await_holding_refcell_ref,
    reason = "the mistake that this test makes on purpose"
)]
#[test]
fn a_protocol_found_borrowed_is_reported_with_the_rule_and_aborted() {
    run(async {
        let others = Trace::default();
        let (_other, echoing) = connected(Probe::new(&others).named("other ")).await;
        let (listener, address) = listener();
        let trace = Trace::default();
        trace.catch_reports();
        let quiet = Quiet(trace.clone());
        let (transport, protocol) = create_connection(|| quiet, address).await.unwrap();
        let peer = Peer::accept(&listener);
        let rule = "report: Fatal error: protocol.data_received() call failed.: the protocol was \
                    borrowed when the loop had to call it: borrow it for a moment, never over an \
                    await";
        let held = protocol.borrow_mut();
        peer.send(b"abc");
        trace.until(rule).await;
        drop(held);
        trace.until("lost Some(Other)").await;
        assert!(transport.is_closing());
        assert_eq!(trace.lines(), [rule, "lost Some(Other)"]);
        assert_eq!(in_thread(move || peer.receive_all()).await, b"");
        assert_others_go_on(&echoing, &others).await;
    });
}

/// As above, when it is to be told of its buffer: whoever missed that would wait for ever.
#[allow(
    clippy::await_holding_refcell_ref,
    reason = "the mistake that this test makes on purpose"
)]
#[test]
fn a_protocol_found_borrowed_when_writing_is_to_pause_or_to_resume_has_failed() {
    for method in ["pause_writing", "resume_writing"] {
        run(async move {
            let (listener, address) = listener();
            let trace = Trace::default();
            let quiet = Quiet(trace.clone());
            let (transport, protocol) = create_connection(|| quiet, address).await.unwrap();
            let peer = Peer::accept(&listener);
            let said = trace.clone();
            let handle = get_running_loop().unwrap();
            handle.set_exception_handler(move |_, context| {
                let message = context.message();
                said.say(format!("{message} {:?}", context.get::<CloseReason>()));
            });
            block(&transport);
            transport.set_write_buffer_limits(0, None).unwrap();
            if method == "resume_writing" {
                turns(1).await;
                let received = in_thread(move || peer.receive_all_or_error());
                drop(handle.create_task(received));
            }
            let report =
                format!("Fatal error: protocol.{method}() call failed. Some(HandlerFailed)");
            let held = protocol.borrow_mut();
            trace.until(&report).await;
            drop(held);
            trace.until("lost Some(Other)").await;
            assert_eq!(trace.lines(), [&report, "lost Some(Other)"]);
            let reason = transport.get_extra_info(ClosedBecause);
            assert_eq!(reason, Some(CloseReason::HandlerFailed));
        });
    }
}
