//! Whoever pauses reading has received little of what the peer sends: counted by the byte, by taking
//! all that is left from the socket.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::rc::Rc;

use futures::future::join;

use crate::common::trace::Trace;
use crate::common::{pattern, run, turns};
use crate::pairs::{KINDS, scripted};
use crate::probe::{Call, Probe};
use crate::scripted::Scripted;

/// Sends as much as the system takes at once.
fn flood(peer: &mut Scripted, mut bytes: Vec<u8>) -> usize {
    for piece in pattern(1 << 20).chunks(16 * 1024) {
        bytes.extend(peer.encrypt(piece));
    }
    let size = peer.socket.write(&bytes).unwrap();
    assert!(size > 4 * MOST_AT_ONCE, "{size}");
    size
}

/// How many of the bytes that were sent nobody has taken from the socket.
async fn left_in(socket: &mut TcpStream) -> usize {
    let mut buffer = vec![0; 64 * 1024];
    let (mut left, mut quiet) = (0, 0);
    while quiet < 50 {
        match socket.read(&mut buffer) {
            Ok(size) => {
                left += size;
                quiet = 0;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                turns(1).await;
                quiet += 1;
            }
            Err(error) => panic!("what is left cannot be read: {error}"),
        }
    }
    left
}

/// What came with the last message of the handshake is there already.
#[test]
fn whoever_pauses_from_the_beginning_has_received_once() {
    run(async {
        for (ours, version) in KINDS {
            let (mut peer, socket) = scripted(ours, version);
            let mut rest = socket.try_clone().unwrap();
            let trace = Trace::default();
            let probe = Probe::new(&trace).doing(|call, transport| {
                if let Call::Made = call {
                    transport.pause_reading();
                }
            });
            let speaking = async {
                let last = peer.shake_hands_but_for_the_last().await;
                let sent = flood(&mut peer, last);
                turns(20).await;
                sent
            };
            let (transport, sent) = join(ours.connect(socket, probe), speaking).await;
            let transport = transport.unwrap();
            let received = sent - left_in(&mut rest).await;
            assert!(received <= MOST_AT_ONCE, "{received} bytes");
            assert_eq!(trace, ["made"]);
            transport.abort();
        }
    });
}

/// Of what has come no more than a record is not delivered.
#[test]
fn whoever_pauses_in_the_middle_is_ahead_by_a_record_at_most() {
    run(async {
        for (ours, version) in KINDS {
            let (mut peer, socket) = scripted(ours, version);
            let mut rest = socket.try_clone().unwrap();
            let trace = Trace::default();
            let delivered = Rc::new(Cell::new(0));
            let sum = Rc::clone(&delivered);
            let probe = Probe::new(&trace).doing(move |call, transport| {
                if let Call::Data(data) = call {
                    transport.pause_reading();
                    sum.set(sum.get() + data.len());
                }
            });
            let shaking = join(ours.connect(socket, probe), peer.shake_hands());
            let (transport, shaken) = shaking.await;
            let transport = transport.unwrap();
            shaken.unwrap();
            turns(5).await;
            let sent = flood(&mut peer, Vec::new());
            turns(20).await;
            assert_eq!(trace, ["made", "data"]);
            let received = sent - left_in(&mut rest).await;
            let ahead = received - delivered.get();
            assert!(ahead <= MOST_AHEAD, "{ahead} bytes of {received}");
            transport.abort();
        }
    });
}

/// What one receive of a handshake brings.
const MOST_AT_ONCE: usize = 64 * 1024;
/// The largest record that may come, and what surrounds those that were delivered.
const MOST_AHEAD: usize = 18 * 1024 + 512;
