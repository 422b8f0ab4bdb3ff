//! Protocols that bring the buffer to receive into.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use evloop::{BufferedProtocol, Protocol, Transport, create_connection, create_server};

use crate::common::trace::Trace;
use crate::common::{Peer, in_thread, listener, pattern, run, turns};
use crate::probe::{Call, Probe, block, connected};

/// What is happening.
enum Event<'a> {
    Made,
    Get,
    Updated(&'a [u8]),
    Eof,
    Lost(Option<Arc<io::Error>>),
    Pause,
    Resume,
}

type Reaction = dyn FnMut(&Event<'_>, &Transport);

/// Writes down what happens to it, as `Probe` does.
struct Buffered {
    trace: Trace,
    transport: Option<Transport>,
    buffer: Vec<u8>,
    keeps_open: bool,
    reaction: Box<Reaction>,
}

impl Buffered {
    /// With a buffer of so many bytes.
    fn new(trace: &Trace, size: usize) -> Self {
        Self {
            trace: trace.clone(),
            transport: None,
            buffer: vec![0; size],
            keeps_open: false,
            reaction: Box::new(|_, _| {}),
        }
    }

    fn keeping_open(mut self) -> Self {
        self.keeps_open = true;
        self
    }

    fn doing(mut self, reaction: impl FnMut(&Event<'_>, &Transport) + 'static) -> Self {
        self.reaction = Box::new(reaction);
        self
    }

    /// For a protocol whose `connection_made` went to another one.
    fn on(mut self, transport: &Transport) -> Self {
        self.transport = Some(transport.clone());
        self
    }

    fn happened(&mut self, line: impl Into<String>, event: &Event<'_>) {
        self.trace.say(line);
        if let Some(transport) = self.transport.clone() {
            (self.reaction)(event, &transport);
        }
    }
}

impl BufferedProtocol for Buffered {
    fn connection_made(&mut self, transport: Transport) {
        self.transport = Some(transport);
        self.happened("made", &Event::Made);
    }

    fn get_buffer(&mut self, sizehint: Option<usize>) -> &mut [u8] {
        let line = sizehint.map_or_else(|| "get".to_owned(), |hint| format!("get {hint}"));
        self.happened(line, &Event::Get);
        &mut self.buffer
    }

    fn buffer_updated(&mut self, nbytes: usize) {
        let bytes = self.buffer[..nbytes].to_vec();
        let line = match nbytes {
            0..=40 => format!("updated {}", bytes.escape_ascii()),
            _ => "updated".to_owned(),
        };
        self.happened(line, &Event::Updated(&bytes));
    }

    fn eof_received(&mut self) -> bool {
        self.happened("eof", &Event::Eof);
        self.keeps_open
    }

    fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
        let line = match &exc {
            None => "lost".to_owned(),
            Some(error) => format!("lost {:?}: {error}", error.kind()),
        };
        self.happened(line, &Event::Lost(exc));
    }

    fn pause_writing(&mut self) {
        self.happened("pause", &Event::Pause);
    }

    fn resume_writing(&mut self) {
        self.happened("resume", &Event::Resume);
    }
}

/// A connection of such a protocol to a blocking peer.
async fn buffered(protocol: Buffered) -> (Transport, Peer) {
    let (listener, address) = listener();
    let connected = create_connection(move || protocol, address);
    let (transport, _) = connected.await.expect("to connect");
    (transport, Peer::accept(&listener))
}

fn cell(protocol: impl Protocol) -> Rc<RefCell<dyn Protocol>> {
    Rc::new(RefCell::new(protocol))
}

// What asyncio's own tests ask for.

#[test]
fn nine_kilobytes_arrive_through_a_buffer_of_a_hundred_bytes_and_are_answered() {
    run(async {
        let trace = Trace::default();
        let received = Rc::new(RefCell::new(Vec::new()));
        let all = Rc::clone(&received);
        let protocol = Buffered::new(&trace, 100).doing(move |event, transport| {
            if let Event::Updated(bytes) = event {
                all.borrow_mut().extend_from_slice(bytes);
                if all.borrow().len() == 9 * 1024 {
                    transport.write(b"all of it");
                }
            }
        });
        let (_, peer) = buffered(protocol).await;
        let sent = pattern(9 * 1024);
        peer.send(&sent);
        let answer = in_thread(move || (peer.receive(9), peer)).await;
        assert_eq!(answer.0, b"all of it");
        assert!(*received.borrow() == sent);
        drop(answer);
        trace.until("lost").await;
        assert_eq!(trace.lines()[0], "made");
        assert!(trace.count("updated") >= 9 * 1024 / 100);
        assert_eq!(trace.count("eof"), 1);
    });
}

#[test]
fn bytes_come_in_pieces_of_the_buffer_and_the_buffer_is_asked_for_once_more_at_the_end() {
    run(async {
        let trace = Trace::default();
        let (_, peer) = buffered(Buffered::new(&trace, 4)).await;
        peer.send(b"abcdef");
        trace.until("updated ef").await;
        peer.finish();
        trace.until("lost").await;
        let expected = [
            "made",
            "get",
            "updated abcd",
            "get",
            "updated ef",
            "get",
            "eof",
            "lost",
        ];
        assert_eq!(trace, expected);
    });
}

#[test]
fn a_buffer_that_is_filled_to_its_last_byte_is_no_end() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = buffered(Buffered::new(&trace, 4)).await;
        for part in ["abcd", "efgh", "ij"] {
            peer.send(part.as_bytes());
            trace.until(&format!("updated {part}")).await;
        }
        turns(2).await;
        assert!(!transport.is_closing());
        // After a full buffer there may be more: asked for again, received nothing.
        let expected = [
            "made",
            "get",
            "updated abcd",
            "get",
            "get",
            "updated efgh",
            "get",
            "get",
            "updated ij",
        ];
        assert_eq!(trace, expected);
    });
}

#[test]
fn an_empty_buffer_is_reported_and_ends_the_connection() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let (_, peer) = buffered(Buffered::new(&trace, 0)).await;
        peer.send(b"abcdef");
        let lost = "lost Other: get_buffer() returned an empty buffer";
        trace.until(lost).await;
        let report = "report: Fatal error: protocol.get_buffer() call failed.: get_buffer() \
                      returned an empty buffer";
        assert_eq!(trace, ["made", "get", report, lost]);
    });
}

#[test]
fn a_panic_in_one_of_the_methods_is_reported_and_costs_that_connection_only() {
    let cases = [
        ("get_buffer", vec!["made", "get"]),
        ("buffer_updated", vec!["made", "get", "updated abc"]),
        (
            "eof_received",
            vec!["made", "get", "updated abc", "get", "eof"],
        ),
    ];
    for (method, before) in cases {
        run(async {
            let others = Trace::default();
            let (_other, other_peer) = buffered(Buffered::new(&others, 10)).await;
            let trace = Trace::default();
            trace.catch_reports();
            let protocol = Buffered::new(&trace, 10).doing(move |event, _| {
                let now = match event {
                    Event::Get => "get_buffer",
                    Event::Updated(_) => "buffer_updated",
                    Event::Eof => "eof_received",
                    _ => "",
                };
                assert!(now != method, "on purpose");
            });
            let (transport, peer) = buffered(protocol).await;
            peer.send(b"abc");
            if method == "eof_received" {
                trace.until("updated abc").await;
                peer.finish();
            }
            let report = format!(
                "report: Fatal error: protocol.{method}() call failed.: panicked: on purpose"
            );
            let lost = "lost Other: panicked: on purpose";
            trace.until(lost).await;
            let mut expected: Vec<&str> = before;
            expected.extend([report.as_str(), lost]);
            assert_eq!(trace.lines(), expected);
            assert!(transport.get_protocol().is_none());
            other_peer.send(b"ping");
            others.until("updated ping").await;
        });
    }
}

#[test]
fn both_kinds_may_follow_one_another() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = connected(Probe::new(&trace)).await;
        peer.send(b"1");
        trace.until("data 1").await;
        transport.set_protocol(cell(Buffered::new(&trace, 4).on(&transport)));
        peer.send(b"2");
        trace.until("updated 2").await;
        transport.set_protocol(cell(Probe::new(&trace).named("new ").on(&transport)));
        peer.send(b"3");
        trace.until("new data 3").await;
        transport.set_protocol(cell(Buffered::new(&trace, 2).on(&transport)));
        peer.send(b"456");
        trace.until("updated 6").await;
        peer.finish();
        trace.until("lost").await;
        let expected = [
            "made",
            "data 1",
            "get",
            "updated 2",
            "new data 3",
            "get",
            "updated 45",
            "get",
            "updated 6",
            "get",
            "eof",
            "lost",
        ];
        assert_eq!(trace, expected);
    });
}

/// A reader that takes a header by the byte, and hands over to one that takes all there is.
#[test]
fn a_change_of_the_kind_inside_a_callback_loses_no_byte() {
    run(async {
        let trace = Trace::default();
        let plain = trace.clone();
        let header = Buffered::new(&trace, 1).doing(move |event, transport| {
            if let Event::Updated(b"\n") = event {
                let body = Probe::new(&plain).on(transport);
                transport.set_protocol(cell(body));
            }
        });
        let (_, peer) = buffered(header).await;
        peer.send(b"h\nbody");
        trace.until("data body").await;
        let expected = [
            "made",
            "get",
            "updated h",
            "get",
            "updated \\n",
            "data body",
        ];
        assert_eq!(trace, expected);
    });
}

#[test]
fn whoever_lent_the_buffer_is_told_what_is_in_it_also_when_another_protocol_follows() {
    run(async {
        let trace = Trace::default();
        let new = trace.clone();
        let old = Buffered::new(&trace, 4).doing(move |event, transport| {
            if let Event::Get = event {
                let next = Probe::new(&new).named("new ").on(transport);
                transport.set_protocol(cell(next));
            }
        });
        let (_, peer) = buffered(old).await;
        peer.send(b"abcdef");
        trace.until("new data ef").await;
        assert_eq!(trace, ["made", "get", "updated abcd", "new data ef"]);
    });
}

#[test]
fn the_end_closes_the_connection_or_leaves_it_open_for_writing() {
    for keeps_open in [false, true] {
        run(async move {
            let trace = Trace::default();
            let protocol = Buffered::new(&trace, 10);
            let protocol = match keeps_open {
                true => protocol.keeping_open(),
                false => protocol,
            };
            let (transport, peer) = buffered(protocol).await;
            peer.finish();
            trace.until("eof").await;
            turns(1).await;
            assert_eq!(transport.is_closing(), !keeps_open);
            if keeps_open {
                transport.write(b"still here");
                transport.close();
            }
            let received = in_thread(move || peer.receive_all()).await;
            assert_eq!(received, &b"still here"[..keeps_open as usize * 10]);
            trace.until("lost").await;
            assert_eq!(trace, ["made", "get", "eof", "lost"]);
        });
    }
}

#[test]
fn a_reset_ends_the_connection_with_its_cause_and_no_report() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let protocol = Buffered::new(&trace, 10).doing({
            let trace = trace.clone();
            move |event, _| {
                if let Event::Lost(Some(error)) = event {
                    trace.say(format!("{:?}", error.kind()));
                }
            }
        });
        let (_, peer) = buffered(protocol).await;
        peer.reset();
        trace.until("ConnectionReset").await;
        assert!(!trace.lines().iter().any(|line| line.starts_with("report")));
        assert!(!trace.has("eof"));
    });
}

// What else a user relies on.

#[test]
fn a_server_takes_buffered_protocols() {
    run(async {
        let trace = Trace::default();
        let made = trace.clone();
        let echo = move || {
            Buffered::new(&made, 3).doing(|event, transport| {
                if let Event::Updated(bytes) = event {
                    transport.write(bytes);
                }
            })
        };
        let server = create_server(echo, ("127.0.0.1", 0)).await.unwrap();
        let peer = Peer::connect(server.sockets()[0].as_inet().unwrap());
        peer.send(b"0123456789");
        peer.finish();
        assert_eq!(in_thread(move || peer.receive_all()).await, b"0123456789");
        server.close();
        server.wait_closed().await.unwrap();
        trace.until("lost").await;
    });
}

#[test]
fn the_bytes_are_where_the_protocol_wants_them() {
    /// Fills one long buffer, from front to back.
    struct Collecting {
        trace: Trace,
        data: Vec<u8>,
        filled: usize,
    }
    impl BufferedProtocol for Collecting {
        fn get_buffer(&mut self, _: Option<usize>) -> &mut [u8] {
            if self.filled == self.data.len() {
                self.data.resize(2 * self.filled, 0);
            }
            &mut self.data[self.filled..]
        }
        fn buffer_updated(&mut self, nbytes: usize) {
            self.filled += nbytes;
        }
        fn connection_lost(&mut self, _: Option<Arc<io::Error>>) {
            self.trace.say("lost");
        }
    }
    run(async {
        let trace = Trace::default();
        let (listener, address) = listener();
        let collecting = Collecting {
            trace: trace.clone(),
            data: vec![0; 1000],
            filled: 0,
        };
        let connected = create_connection(move || collecting, address).await;
        let (_, protocol) = connected.unwrap();
        let peer = Peer::accept(&listener);
        let sent = in_thread(move || {
            let sent = pattern(3_000_000);
            peer.send(&sent);
            sent
        });
        let sent = sent.await;
        trace.until("lost").await;
        let protocol = protocol.borrow();
        assert_eq!(protocol.filled, sent.len());
        assert!(protocol.data[..protocol.filled] == sent);
    });
}

#[test]
fn one_byte_at_a_time_starves_nobody() {
    run(async {
        let count = Rc::new(Cell::new(0));
        let counted = Rc::clone(&count);
        struct Small(Rc<Cell<usize>>, [u8; 1]);
        impl BufferedProtocol for Small {
            fn get_buffer(&mut self, _: Option<usize>) -> &mut [u8] {
                &mut self.1
            }
            fn buffer_updated(&mut self, nbytes: usize) {
                self.0.set(self.0.get() + nbytes);
            }
        }
        let (listener, address) = listener();
        let small = Small(counted, [0]);
        let connected = create_connection(|| small, address).await;
        let _transport = connected.unwrap();
        let peer = Peer::accept(&listener);
        peer.send(&[b'x'; 50_000]);
        let mut steps: Vec<usize> = Vec::new();
        while count.get() < 50_000 {
            let before = count.get();
            turns(1).await;
            steps.push(count.get() - before);
            if steps.iter().rev().take_while(|step| **step == 0).count() > 10_000 {
                break;
            }
        }
        assert_eq!(count.get(), 50_000);
        assert!(steps.iter().all(|step| *step < 1000), "{steps:?}");
    });
}

#[test]
fn reading_that_get_buffer_paused_takes_nothing_until_it_is_resumed() {
    run(async {
        let trace = Trace::default();
        let mut first = true;
        let protocol = Buffered::new(&trace, 10).doing(move |event, transport| {
            if let Event::Get = event {
                if std::mem::take(&mut first) {
                    transport.pause_reading();
                }
            }
        });
        let (transport, peer) = buffered(protocol).await;
        peer.send(b"abc");
        trace.until("get").await;
        turns(2).await;
        assert_eq!(trace, ["made", "get"]);
        transport.resume_reading();
        trace.until("updated abc").await;
        assert_eq!(trace, ["made", "get", "get", "updated abc"]);
    });
}

#[test]
fn after_a_close_in_get_buffer_nothing_is_received() {
    run(async {
        let trace = Trace::default();
        let protocol = Buffered::new(&trace, 10).doing(|event, transport| {
            if let Event::Get = event {
                transport.close();
            }
        });
        let (_, peer) = buffered(protocol).await;
        peer.send(b"abc");
        trace.until("lost").await;
        assert_eq!(trace, ["made", "get", "lost"]);
    });
}

#[test]
fn pause_and_resume_in_buffer_updated_are_heeded_before_the_next_receive() {
    run(async {
        let trace = Trace::default();
        let protocol = Buffered::new(&trace, 2).doing(|event, transport| {
            if let Event::Updated(_) = event {
                transport.pause_reading();
            }
        });
        let (transport, peer) = buffered(protocol).await;
        peer.send(b"abcd");
        trace.until("updated ab").await;
        turns(2).await;
        assert_eq!(trace, ["made", "get", "updated ab"]);
        transport.resume_reading();
        trace.until("updated cd").await;
    });
}

#[test]
fn flow_control_reaches_a_buffered_protocol() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = buffered(Buffered::new(&trace, 10)).await;
        block(&transport);
        transport.set_write_buffer_limits(0, None).unwrap();
        trace.until("pause").await;
        let received = in_thread(move || peer.receive_all());
        let handle = evloop::get_running_loop().unwrap();
        let received = handle.create_task(received);
        trace.until("resume").await;
        transport.close();
        trace.until("lost").await;
        received.await.unwrap();
        assert_eq!(trace, ["made", "pause", "resume", "lost"]);
    });
}

#[test]
fn bytes_that_are_somewhere_else_are_copied_in_with_their_number_as_a_hint() {
    let trace = Trace::default();
    let mut protocol = Buffered::new(&trace, 4);
    protocol.data_received(b"abcdefghi");
    protocol.data_received(b"");
    let expected = [
        "get 9",
        "updated abcd",
        "get 5",
        "updated efgh",
        "get 1",
        "updated i",
    ];
    assert_eq!(trace, expected);
}

#[test]
fn bytes_that_are_somewhere_else_fill_a_buffer_of_any_size() {
    for size in [1, 2, 4, 100] {
        let received = Rc::new(RefCell::new(Vec::new()));
        let parts = Rc::clone(&received);
        let data = pattern(50);
        struct Parts(Vec<u8>, Rc<RefCell<Vec<Vec<u8>>>>);
        impl BufferedProtocol for Parts {
            fn get_buffer(&mut self, _: Option<usize>) -> &mut [u8] {
                &mut self.0
            }
            fn buffer_updated(&mut self, nbytes: usize) {
                self.1.borrow_mut().push(self.0[..nbytes].to_vec());
            }
        }
        Parts(vec![0; size], parts).data_received(&data);
        let expected: Vec<_> = data.chunks(size).collect();
        assert_eq!(*received.borrow(), expected, "into {size} bytes");
    }
}

#[test]
#[should_panic(expected = "get_buffer() returned an empty buffer")]
fn bytes_that_are_somewhere_else_do_not_fit_into_an_empty_buffer() {
    Buffered::new(&Trace::default(), 0).data_received(b"a");
}

#[test]
fn a_protocol_that_wraps_another_may_hand_its_buffer_on() {
    struct Wrapping<P>(Trace, P);
    impl<P: Protocol> Protocol for Wrapping<P> {
        fn data_received(&mut self, data: &[u8]) {
            self.0.say("data");
            self.1.data_received(data);
        }
        fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
            self.0.say("wrapped");
            self.1.connection_lost(exc);
        }
        fn as_buffered(&mut self) -> Option<&mut dyn BufferedProtocol> {
            self.1.as_buffered()
        }
    }
    run(async {
        let trace = Trace::default();
        let (listener, address) = listener();
        let wrapping = Wrapping(trace.clone(), Buffered::new(&trace, 4));
        let (_transport, _) = create_connection(|| wrapping, address).await.unwrap();
        let peer = Peer::accept(&listener);
        peer.send(b"abc");
        trace.until("updated abc").await;
        drop(peer);
        trace.until("lost").await;
        // `eof_received` is the wrapper's, which says nothing.
        assert_eq!(trace, ["get", "updated abc", "get", "wrapped", "lost"]);
    });
}

#[allow(
    clippy::await_holding_refcell_ref,
    reason = "the mistake that this test makes on purpose"
)]
#[test]
fn a_buffered_protocol_found_borrowed_is_reported_with_the_rule_and_aborted() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let (listener, address) = listener();
        let protocol = Buffered::new(&trace, 4);
        let (_, protocol) = create_connection(|| protocol, address).await.unwrap();
        let peer = Peer::accept(&listener);
        peer.send(b"a");
        trace.until("updated a").await;
        let held = protocol.borrow_mut();
        peer.send(b"b");
        let rule = "the protocol was borrowed when the loop had to call it: borrow it for a \
                    moment, never over an await";
        let report = format!("report: Fatal error: protocol.get_buffer() call failed.: {rule}");
        trace.until(&report).await;
        drop(held);
        trace.until(&format!("lost Other: {rule}")).await;
    });
}

#[test]
fn what_a_plain_protocol_sees_is_the_same_after_a_buffered_one() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = buffered(Buffered::new(&trace, 4)).await;
        peer.send(b"ab");
        trace.until("updated ab").await;
        let seen = Rc::new(RefCell::new(Vec::new()));
        let all = Rc::clone(&seen);
        let plain = Probe::new(&trace).on(&transport).doing(move |call, _| {
            if let Call::Data(bytes) = call {
                all.borrow_mut().extend_from_slice(bytes);
            }
        });
        transport.set_protocol(cell(plain));
        let sent = pattern(1_000_000);
        let expected = sent.clone();
        in_thread(move || {
            peer.send(&sent);
            drop(peer);
        })
        .await;
        trace.until("lost").await;
        assert!(*seen.borrow() == expected);
    });
}

/// Says what a test wants when it is asked for its kind.
struct Undecided {
    trace: Trace,
    kinds: Vec<bool>,
    inner: Buffered,
}

impl Protocol for Undecided {
    fn data_received(&mut self, data: &[u8]) {
        self.trace.say(format!("data {}", data.escape_ascii()));
    }
    fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
        let error = exc.map(|error| error.to_string());
        self.trace.say(format!("lost {error:?}"));
    }
    fn as_buffered(&mut self) -> Option<&mut dyn BufferedProtocol> {
        let kind = self.kinds.pop().expect("to be asked no more");
        kind.then_some(&mut self.inner)
    }
}

async fn undecided(trace: &Trace, kinds: &[bool]) -> (Transport, Peer) {
    let (listener, address) = listener();
    let undecided = Undecided {
        trace: trace.clone(),
        kinds: kinds.iter().rev().copied().collect(),
        inner: Buffered::new(trace, 4),
    };
    let connected = create_connection(|| undecided, address).await;
    (connected.unwrap().0, Peer::accept(&listener))
}

#[test]
fn a_plain_protocol_is_asked_once_which_kind_it_is() {
    run(async {
        let trace = Trace::default();
        let (transport, peer) = undecided(&trace, &[false]).await;
        for part in ["1", "2", "3"] {
            peer.send(part.as_bytes());
            trace.until(&format!("data {part}")).await;
        }
        transport.close();
        trace.until("lost None").await;
    });
}

#[test]
fn a_protocol_that_closes_when_it_is_asked_for_its_kind_gets_no_bytes() {
    struct Closing(Trace, Option<Transport>);
    impl Protocol for Closing {
        fn connection_made(&mut self, transport: Transport) {
            self.1 = Some(transport);
        }
        fn data_received(&mut self, _: &[u8]) {
            self.0.say("data");
        }
        fn connection_lost(&mut self, _: Option<Arc<io::Error>>) {
            self.0.say("lost");
        }
        fn as_buffered(&mut self) -> Option<&mut dyn BufferedProtocol> {
            self.1.as_ref().unwrap().close();
            None
        }
    }
    run(async {
        let trace = Trace::default();
        let (listener, address) = listener();
        let closing = Closing(trace.clone(), None);
        let (_transport, _) = create_connection(|| closing, address).await.unwrap();
        Peer::accept(&listener).send(b"abc");
        trace.until("lost").await;
        assert_eq!(trace, ["lost"]);
    });
}

#[test]
fn a_protocol_that_changes_its_kind_loses_no_byte() {
    run(async {
        let trace = Trace::default();
        // Asked for its kind, lent a buffer once, changed, asked again.
        let (_transport, peer) = undecided(&trace, &[true, true, false, false]).await;
        peer.send(b"abcdefgh");
        trace.until("data efgh").await;
        assert_eq!(trace, ["get", "updated abcd", "data efgh"]);
    });
}

#[test]
fn a_panic_of_a_protocol_that_is_asked_for_its_kind_costs_that_connection_only() {
    run(async {
        let others = Trace::default();
        let (_other, other_peer) = buffered(Buffered::new(&others, 10)).await;
        let trace = Trace::default();
        trace.catch_reports();
        let (_transport, peer) = undecided(&trace, &[]).await;
        peer.send(b"abc");
        let error = "panicked: to be asked no more";
        trace.until(&format!("lost Some({error:?})")).await;
        let report = format!("report: Fatal error: protocol.as_buffered() call failed.: {error}");
        assert_eq!(trace.lines()[0], report);
        assert_eq!(trace.lines().len(), 2);
        other_peer.send(b"ping");
        others.until("updated ping").await;
    });
}

#[allow(
    clippy::await_holding_refcell_ref,
    reason = "the mistake that this test makes on purpose"
)]
#[test]
fn a_protocol_that_is_borrowed_when_it_is_asked_for_its_kind_is_reported_with_the_rule() {
    run(async {
        let trace = Trace::default();
        trace.catch_reports();
        let (transport, peer) = buffered(Buffered::new(&trace, 4)).await;
        let new = Rc::new(RefCell::new(Buffered::new(&trace, 4).on(&transport)));
        let held = new.borrow_mut();
        transport.set_protocol(Rc::clone(&new) as _);
        peer.send(b"b");
        let rule = "the protocol was borrowed when the loop had to call it: borrow it for a \
                    moment, never over an await";
        let report = format!("report: Fatal error: protocol.data_received() call failed.: {rule}");
        trace.until(&report).await;
        drop(held);
        trace.until(&format!("lost Other: {rule}")).await;
    });
}
