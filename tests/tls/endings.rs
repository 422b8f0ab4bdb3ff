//! Each way in which a connection ends, side by side, and what is left of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use evloop::{create_server, sleep};

use crate::common::own_process::{self, held};
use crate::common::trace::Trace;
use crate::common::{run, turns, within};
use crate::pairs::address_of;
use crate::probe::{Call, Probe};
use crate::scripted::{self, Scripted, TLS12, TLS13};
use crate::support::server_context;

/// Each connection that was made is lost once, and one that was not made never, however it ends;
/// and none keeps its descriptor, though the peer may keep its own.
#[test]
fn every_connection_that_was_made_is_lost_once() {
    if !own_process::enter("endings::every_connection_that_was_made_is_lost_once") {
        return;
    }
    run(async {
        let trace = Trace::default();
        let made = trace.clone();
        // How often each of them was made, and lost.
        let calls = Rc::new(RefCell::new(Vec::new()));
        let counting = Rc::clone(&calls);
        let factory = move || {
            let number = counting.borrow().len();
            counting.borrow_mut().push((0, 0));
            let counting = Rc::clone(&counting);
            Probe::new(&made).doing(move |call, transport| {
                let (made, lost) = &mut counting.borrow_mut()[number];
                match call {
                    Call::Made => *made += 1,
                    Call::Lost(_) => *lost += 1,
                    Call::Data(b"abort") => transport.abort(),
                    Call::Data(b"close") => transport.close(),
                    _ => {}
                }
            })
        };
        let limit = Duration::from_secs(2);
        let serve = || {
            create_server(factory.clone(), ("127.0.0.1", 0))
                .ssl(server_context("server"))
                .ssl_handshake_timeout(limit)
                .ssl_shutdown_timeout(Duration::from_millis(100))
        };
        // Another one for those who fall silent, since nobody else is to be ended by that.
        let servers = (
            serve().await.unwrap(),
            serve().idle_timeout(limit).await.unwrap(),
        );
        let addresses = (address_of(&servers.0), address_of(&servers.1));
        turns(2).await;
        let before = held();
        let mut staying = Vec::new();
        let mut complete = 0;
        for round in 0..ENDINGS.len() * 5 {
            let ending = ENDINGS[round % ENDINGS.len()];
            let version = if round % 4 < 2 { TLS12 } else { TLS13 };
            let address = match ending {
                Ending::IdleTimeout => addresses.1,
                _ => addresses.0,
            };
            let mut peer = Scripted::connect(address, scripted::client_config(version));
            if ending.is_behind_the_handshake() {
                peer.shake_hands().await.unwrap();
                complete += 1;
                trace.until_count("made", complete).await;
            }
            match ending {
                Ending::EndAtOnce | Ending::End => drop(peer),
                Ending::ResetAtOnce | Ending::Reset => peer.reset(),
                Ending::PlainText => {
                    peer.send(b"GET / HTTP/1.0\r\n\r\n").await;
                    staying.push(peer);
                }
                Ending::Goodbye => {
                    let goodbye = peer.close_notify();
                    peer.send(&goodbye).await;
                    peer.finish();
                }
                Ending::Abort | Ending::Close => {
                    let what = if ending == Ending::Abort {
                        "abort"
                    } else {
                        "close"
                    };
                    peer.write(what.as_bytes()).await;
                    staying.push(peer);
                }
                Ending::HandshakeTimeout | Ending::IdleTimeout => staying.push(peer),
            }
        }
        let wanted = (before.0 + staying.len(), before.1);
        within("the end of all", async {
            while held() != wanted {
                sleep(Duration::from_millis(5)).await.unwrap();
            }
        })
        .await;
        assert_eq!(complete, 30);
        let calls = calls.take();
        assert_eq!(
            calls.iter().filter(|calls| **calls == (1, 1)).count(),
            complete
        );
        assert!(
            calls.iter().all(|calls| matches!(calls, (1, 1) | (0, 0))),
            "{calls:?}"
        );
        for (line, count) in [
            ("lost ConnectionReset", 5),
            ("lost UnexpectedEof", 5),
            ("lost TimedOut", 5),
            // Those that said goodbye, and those that we have ended.
            ("lost", 15),
        ] {
            assert_eq!(trace.count(line), count, "{line}: {trace:?}");
        }
        drop(staying);
        for server in [servers.0, servers.1] {
            server.close();
            let end = within("the server's end", server.wait_closed());
            end.await.unwrap();
        }
    });
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq)]
enum Ending {
    EndAtOnce,
    ResetAtOnce,
    PlainText,
    HandshakeTimeout,
    End,
    Reset,
    Goodbye,
    Abort,
    Close,
    IdleTimeout,
}

impl Ending {
    fn is_behind_the_handshake(self) -> bool {
        !matches!(
            self,
            Self::EndAtOnce | Self::ResetAtOnce | Self::PlainText | Self::HandshakeTimeout
        )
    }
}

const ENDINGS: [Ending; 10] = [
    Ending::EndAtOnce,
    Ending::ResetAtOnce,
    Ending::PlainText,
    Ending::HandshakeTimeout,
    Ending::End,
    Ending::Reset,
    Ending::Goodbye,
    Ending::Abort,
    Ending::Close,
    Ending::IdleTimeout,
];
