//! A header of a proxy, or what somebody sends instead of one.
//!
//! Owns: the target of the PROXY protocol. Why: whoever comes past the proxy sends what they like
//! where the header is expected. Invariants: what is read in pieces is what is read whole; not one
//! byte behind the header is taken from the socket, and no more than a header may have, whatever
//! comes; what is behind it comes out unchanged. asyncio's counterpart: none.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::fuzzing::script::Script;
use crate::fuzzing::stage::Stage;
use crate::proxy::{Demand, ProxyError, ProxyHeader, stand_in_front};
use crate::streams::StreamReader;
use crate::transports::{Connection, PeerName, Protocol, RealPeer, Transport};

/// Takes the bytes for what a proxy sends, in three ways.
pub fn proxy(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let piece = 1 + usize::from(script.byte());
    let bytes = script.bytes(usize::MAX);
    let whole = ProxyHeader::parse(bytes);
    if let Ok(Some((_, size))) = &whole {
        assert!(*size <= longest(bytes), "a header of {size} bytes");
        assert!(*size <= bytes.len(), "a header of bytes that never came");
    }
    look_at_each_prefix(bytes, &whole);
    come_to_a_server(bytes, piece, &whole);
    come_to_a_reader(bytes, piece, &whole);
}

type Whole = Result<Option<(ProxyHeader, usize)>, ProxyError>;

/// A judgement that was made holds, whatever comes behind.
fn look_at_each_prefix(bytes: &[u8], whole: &Whole) {
    let longest = longest(bytes);
    for end in 0..bytes.len().min(longest + 8) {
        match (ProxyHeader::parse(&bytes[..end]), whole) {
            (Ok(None), _) => assert!(end < longest, "{end} bytes and no header"),
            (Ok(Some(early)), Ok(Some(late))) => assert_eq!(early, *late),
            // What follows may show what else is wrong.
            (Err(_), Err(_)) => {}
            (early, late) => panic!("after {end} bytes {early:?}, in the end {late:?}"),
        }
    }
}

fn come_to_a_server(bytes: &[u8], piece: usize, whole: &Whole) {
    let mut stage = Stage::new();
    stage.reports_are_fine();
    let (parts, wire) = stage.wire();
    let heard = Rc::new(Heard::default());
    let protocol: Rc<RefCell<dyn Protocol>> = Rc::new(RefCell::new(Hears(Rc::clone(&heard))));
    let agreed: Rc<RefCell<Option<Transport>>> = Rc::default();
    let (slot, far) = (Rc::clone(&agreed), Rc::clone(&wire));
    let demand = Demand::within(Duration::from_secs(1));
    let expected = whole
        .as_ref()
        .ok()
        .and_then(|header| Some(header.as_ref()?.1));
    stand_in_front(
        &stage.event_loop,
        parts,
        &demand,
        move |handle, transport| {
            slot.replace(Some(transport.clone()));
            // What is behind the header is in the socket still.
            assert_eq!(Some(far.taken()), expected, "another end of the header");
            Connection::hand_to(handle, transport, protocol);
        },
    );
    stage.turns(2);
    for piece in bytes.chunks(piece) {
        wire.bring(piece);
        stage.turns(2);
    }
    stage.turns(8);
    match whole {
        Ok(Some((header, size))) => {
            let transport = agreed.borrow().clone();
            let Some(transport) = transport else {
                panic!("{header:?} was not seen")
            };
            let real = header
                .source
                .clone()
                .or_else(|| transport.get_extra_info(PeerName));
            assert_eq!(transport.get_extra_info(RealPeer), real);
            let told: Vec<u8> = heard.bytes.borrow().clone();
            assert!(told == bytes[*size..], "what is behind the header");
        }
        Ok(None) => {
            assert!(agreed.borrow().is_none());
            assert_eq!(wire.taken(), bytes.len());
        }
        Err(_) => {
            assert!(agreed.borrow().is_none());
            let taken = wire.taken();
            assert!(taken <= longest(bytes), "{taken} bytes taken");
            assert!(wire.is_closed(), "a stranger is let in");
        }
    }
    wire.end();
    stage.turns(8);
    agreed.take();
    assert!(wire.is_closed(), "the socket is open");
    assert!(heard.ends.get() <= 1, "lost twice");
}

fn come_to_a_reader(bytes: &[u8], piece: usize, whole: &Whole) {
    let mut stage = Stage::new();
    let mut reader = StreamReader::new();
    let feeder = reader.feeder();
    let pieces: Vec<Vec<u8>> = bytes.chunks(piece).map(<[u8]>::to_vec).collect();
    stage.event_loop.call_soon(move || {
        for piece in pieces {
            // The end is fed below, and nothing behind it.
            let _ = feeder.feed_data(&piece);
        }
        feeder.feed_eof();
    });
    let (header, rest) = stage.event_loop.run_until_complete(async {
        let header = reader.header().await;
        (header, reader.read_to_end(None).await)
    });
    let Ok(rest) = rest else {
        panic!("what is behind the header cannot be read")
    };
    match (header, whole) {
        (Ok(header), Ok(Some((expected, size)))) => {
            assert_eq!(header, *expected);
            assert!(rest == bytes[*size..], "what is behind the header");
        }
        (Err(ProxyError::CutOff { received }), Ok(None)) => assert_eq!(received, bytes.len()),
        (Err(_), Err(_)) => assert!(rest == bytes, "a refused header is in the reader still"),
        (header, whole) => panic!("{header:?}, and parsed {whole:?}"),
    }
}

/// What the protocol behind the header was told.
#[derive(Default)]
struct Heard {
    bytes: RefCell<Vec<u8>>,
    ends: Cell<usize>,
}

struct Hears(Rc<Heard>);

impl Protocol for Hears {
    fn data_received(&mut self, data: &[u8]) {
        self.0.bytes.borrow_mut().extend_from_slice(data);
    }

    fn connection_lost(&mut self, _: Option<Arc<io::Error>>) {
        self.0.ends.set(self.0.ends.get() + 1);
    }
}

/// How long a header that begins like this may be: a line, or the fixed part of a block and what it
/// may carry.
fn longest(bytes: &[u8]) -> usize {
    match bytes.first() {
        Some(b'\r') => 16 + 4096,
        _ => 107,
    }
}
