//! Records: cut, glued, too large, in disorder.

use evloop::rustls;
use evloop::{CloseReason, ClosedBecause, Protocol, TlsError, TlsSession};
use futures::future::join;
use std::cell::RefCell;
use std::rc::Rc;

use crate::common::own_process::{self, resident_kib};
use crate::common::trace::Trace;
use crate::common::{pattern, run, turns};
use crate::pairs::{KINDS, Ours, pair, scripted};
use crate::probe::{Call, Probe};
use crate::scripted;
use crate::scripted::{End, Scripted, TLS12, TLS13};
use crate::support::Small;

/// Every byte of the handshake, of the data and of the goodbye comes alone.
#[test]
fn every_record_may_be_cut_at_every_byte() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (mut peer, socket) = scripted(ours, version);
            // With its key for the time after quantum computers it is larger than a segment.
            let mut is_hello = ours == Ours::Server && version == TLS13;
            let speaking = async {
                while peer.tls.is_handshaking() {
                    let records = peer.records();
                    if std::mem::take(&mut is_hello) {
                        assert!(records.len() > SEGMENT, "{} bytes", records.len());
                    }
                    peer.send_slowly(&records).await;
                    if peer.tls.is_handshaking() {
                        peer.hear().await.unwrap();
                    }
                }
                let records = peer.records();
                peer.send_slowly(&records).await;
            };
            let connecting = ours.connect(socket, Probe::new(&trace));
            let (transport, ()) = join(connecting, speaking).await;
            let transport = transport.unwrap();
            for piece in ["hello", ", world"] {
                let records = peer.encrypt(piece.as_bytes());
                peer.send_slowly(&records).await;
                // Apart from the next one, however late the system passes it on.
                trace.until(&format!("data {piece}")).await;
            }
            transport.write(b"answer");
            assert_eq!(peer.read(6).await, b"answer");
            let records = peer.close_notify();
            peer.send_slowly(&records).await;
            peer.finish();
            trace.until("lost").await;
            assert_eq!(
                trace,
                ["made", "data hello", "data , world", "eof", "lost"],
                "{ours:?} {version:?}"
            );
            assert_eq!(peer.read_to_end().await, (Vec::new(), End::Clean));
            let reason = transport.get_extra_info(ClosedBecause);
            assert_eq!(reason, Some(CloseReason::PeerEof));
        }
    });
}

/// What ends the handshake, what follows it, and the end of everything, in one write.
#[test]
fn what_is_glued_to_the_last_record_of_the_handshake_is_delivered_at_once() {
    run(async {
        // The side that says the last word of the handshake.
        for (ours, version) in [(Ours::Server, TLS13), (Ours::Client, TLS12)] {
            for ends in [false, true] {
                let trace = Trace::default();
                let (mut peer, socket) = scripted(ours, version);
                let speaking = async {
                    let mut last = peer.shake_hands_but_for_the_last().await;
                    last.extend(peer.encrypt(b"hello"));
                    if ends {
                        last.extend(peer.close_notify());
                    }
                    peer.send(&last).await;
                };
                let connecting = ours.connect(socket, Probe::new(&trace));
                let (transport, ()) = join(connecting, speaking).await;
                if ends {
                    trace.until("lost").await;
                    assert_eq!(trace, ["made", "data hello", "eof", "lost"]);
                    let reason = transport.unwrap().get_extra_info(ClosedBecause);
                    assert_eq!(reason, Some(CloseReason::PeerEof));
                } else {
                    trace.until("data hello").await;
                    assert_eq!(trace, ["made", "data hello"]);
                }
            }
        }
    });
}

/// A server of TLS 1.3 may speak before the client has finished.
#[test]
fn what_a_server_says_before_our_last_word_is_delivered() {
    run(async {
        let trace = Trace::default();
        let (socket, theirs) = crate::pairs::sockets();
        let mut config = scripted::server_config(TLS13, "server");
        config.send_half_rtt_data = true;
        let mut peer = Scripted::server(theirs, config);
        let speaking = async {
            assert_eq!(peer.hear().await.unwrap(), b"");
            peer.write(b"hello").await;
        };
        let connecting = Ours::Client.connect(socket, Probe::new(&trace));
        let (transport, ()) = join(connecting, speaking).await;
        trace.until("data hello").await;
        assert_eq!(trace, ["made", "data hello"]);
        transport.unwrap().write(b"answer");
        assert_eq!(peer.read(6).await, b"answer");
    });
}

#[test]
fn many_records_in_one_write_arrive_in_order() {
    run(async {
        for (ours, version) in KINDS {
            let received = Rc::new(RefCell::new(Vec::new()));
            let kept = Rc::clone(&received);
            let probe = Probe::new(&Trace::default()).doing(move |call, _| {
                if let Call::Data(data) = call {
                    kept.borrow_mut().extend_from_slice(data);
                }
            });
            let (_transport, mut peer) = pair(ours, version, probe).await;
            let data = pattern(100_000);
            let mut records = Vec::new();
            // Lengths of 1 to 440 bytes.
            let mut rest = &data[..];
            for size in 1.. {
                let (now, later) = rest.split_at(size.min(rest.len()));
                records.extend(peer.encrypt(now));
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            peer.send(&records).await;
            while received.borrow().len() < data.len() {
                turns(1).await;
            }
            assert!(*received.borrow() == data);
        }
    });
}

#[test]
fn new_keys_while_nothing_is_said() {
    run(async {
        for ours in [Ours::Client, Ours::Server] {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, TLS13, Probe::new(&trace)).await;
            for round in 0..3 {
                peer.tls.refresh_traffic_keys().unwrap();
                peer.flush().await;
                turns(5).await;
                // With the new keys in both directions.
                transport.write(format!("answer {round}"));
                assert_eq!(peer.read(8).await, format!("answer {round}").as_bytes());
                peer.write(b"go on").await;
                trace.until_count("data go on", round + 1).await;
            }
            assert_eq!(trace, ["made", "data go on", "data go on", "data go on"]);
        }
    });
}

/// The right bytes, and behind them something else: what came in order is delivered, the peer is
/// told in an alert what it did, and hears it before the end.
#[test]
fn garbage_behind_data() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let lost = Rc::new(RefCell::new(None));
            let kept = Rc::clone(&lost);
            let probe = Probe::new(&trace).doing(move |call, _| {
                if let Call::Lost(error) = call {
                    *kept.borrow_mut() = error.clone();
                }
            });
            let (transport, mut peer) = pair(ours, version, probe).await;
            let mut bytes = peer.encrypt(b"in order");
            let mut broken = peer.encrypt(b"broken");
            *broken.last_mut().unwrap() ^= 1;
            bytes.extend(broken);
            peer.send(&bytes).await;
            trace.until("lost InvalidData").await;
            assert_eq!(trace, ["made", "data in order", "lost InvalidData"]);
            let reason = transport.get_extra_info(ClosedBecause);
            assert_eq!(reason, Some(CloseReason::TlsFailed));
            let error = lost.take().unwrap();
            assert_eq!(
                TlsError::of(&error),
                Some(&TlsError::Protocol(rustls::Error::DecryptError))
            );
            let (data, end) = peer.read_to_end().await;
            assert_eq!(data, b"");
            let alert = rustls::AlertDescription::BadRecordMac;
            assert_eq!(end, End::Failed(rustls::Error::AlertReceived(alert)));
            peer.finish();
            assert!(transport.get_extra_info(TlsSession).is_some());
        }
    });
}

/// A header that announces more than any record may hold.
#[test]
fn a_record_that_is_too_large() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            peer.send(&[23, 3, 3, 0xff, 0xff]).await;
            trace.until("lost InvalidData").await;
            let reason = transport.get_extra_info(ClosedBecause);
            assert_eq!(reason, Some(CloseReason::TlsFailed));
            assert!(matches!(peer.read_to_end().await.1, End::Failed(_)));
        }
    });
}

/// The same with bytes behind it that nobody reads: the peer hears the alert, and no reset.
#[test]
fn an_alert_reaches_a_peer_that_goes_on_sending() {
    run(async {
        for (ours, version) in KINDS {
            let trace = Trace::default();
            let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
            let mut bytes = vec![23, 3, 3, 0xff, 0xff];
            bytes.extend(pattern(200_000));
            peer.send(&bytes).await;
            trace.until("lost InvalidData").await;
            let end = peer.read_to_end().await.1;
            assert!(matches!(end, End::Failed(_)), "{end:?}");
            drop(transport);
        }
    });
}

/// What comes behind a failure, or behind a close, is of no use to anybody, and costs no memory.
#[test]
fn what_nobody_will_read_is_not_kept() {
    if !own_process::enter("records::what_nobody_will_read_is_not_kept") {
        return;
    }
    run(async {
        for (ours, version) in KINDS {
            for fails in [true, false] {
                let trace = Trace::default();
                let (transport, mut peer) = pair(ours, version, Probe::new(&trace)).await;
                if fails {
                    peer.send(&[23, 3, 3, 0xff, 0xff]).await;
                    trace.until("lost InvalidData").await;
                } else {
                    transport.close();
                }
                let data = peer.encrypt(&pattern(8 << 20));
                let before = resident_kib();
                peer.send(&data).await;
                turns(5).await;
                let grown = resident_kib().saturating_sub(before);
                assert!(grown < 2048, "{grown} KiB were kept");
            }
        }
    });
}

/// A chain of certificates of nearly 64 KiB is as good as any; a longer one is an error that has a
/// name.
#[test]
fn a_handshake_message_that_is_large_or_too_large() {
    run(async {
        for (size, works) in [(60_000, true), (80_000, false)] {
            for version in [TLS12, TLS13] {
                let mut chain = scripted::certificates("server");
                let padding = scripted::certificates("ca").remove(0);
                let count = size / (padding.len() + 5);
                chain.extend(std::iter::repeat_n(padding, count));
                let config = scripted::server_config_with(version, chain, scripted::key("server"));
                let (socket, theirs) = crate::pairs::sockets();
                let mut peer = Scripted::server(theirs, config);
                let connecting = Ours::Client.connect(socket, Probe::new(&Trace::default()));
                let (transport, shaken) = join(connecting, peer.shake_hands()).await;
                if works {
                    shaken.unwrap();
                    let details = transport.unwrap().get_extra_info(TlsSession).unwrap();
                    assert_eq!(details.peer_certificates.len(), count + 1);
                } else {
                    let error = transport.unwrap_err();
                    let typed = TlsError::of(&error);
                    assert!(matches!(typed, Some(TlsError::Protocol(_))), "{error:?}");
                    // rustls has no alert for it, so we end without one, and without a reset.
                    assert_eq!(shaken, Err(End::Truncated));
                }
            }
        }
    });
}

/// What comes in a record as large as they are is given in one piece to whoever brings a buffer for
/// it, and in as many as it needs otherwise.
#[test]
fn a_protocol_with_a_buffer_of_its_own() {
    run(async {
        for (ours, version) in KINDS {
            let received = Rc::new(RefCell::new(Vec::new()));
            let (transport, mut peer) = pair(ours, version, Probe::new(&Trace::default())).await;
            let protocol: Rc<RefCell<dyn Protocol>> =
                Rc::new(RefCell::new(Small::<7>::new(&received)));
            transport.set_protocol(protocol);
            let data = pattern(100_000);
            peer.write(&data).await;
            while received.borrow().len() < data.len() {
                turns(1).await;
            }
            assert!(*received.borrow() == data);
        }
    });
}

/// What a segment has room for on an Ethernet, with a timestamp, in bytes.
const SEGMENT: usize = 1448;
