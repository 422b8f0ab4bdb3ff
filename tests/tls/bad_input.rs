//! Bad input: arguments that cannot be meant, files that do not fit, peers that speak no TLS. Each
//! is an error with a name, in bounded time, and nothing is left.

use std::cell::RefCell;
use std::future::IntoFuture;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use evloop::{
    CloseReason, ClosedBecause, StreamReader, StreamWriter, TlsClientContext, TlsError,
    TlsServerContext, Transport, connect_accepted_socket, create_connection, create_server,
    create_unix_connection, create_unix_server, open_connection, open_unix_connection, sleep,
    start_server, start_unix_server,
};
use futures::future::join;

use crate::common::folder::Folder;
use crate::common::own_process::{self, held};
use crate::common::trace::Trace;
use crate::common::{PATIENCE, listener, pattern, run, turns, within};
use crate::pairs::{KINDS, Ours, server_of_probes, sockets};
use crate::probe::{Call, Probe};
use crate::scripted::{self, End, Scripted, TLS12, TLS13};
use crate::support::{cert, client_context, server_context};

const SECOND: Duration = Duration::from_secs(1);

#[track_caller]
fn refused<T>(outcome: io::Result<T>, message: &str) {
    let error = outcome.map(drop).expect_err(message);
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(error.to_string(), message);
}

fn probe() -> Probe {
    Probe::new(&Trace::default())
}

async fn nobody(_: StreamReader, _: StreamWriter) {}

/// Each of them, on a builder; an argument that means nothing is refused before anything is
/// connected or bound: nobody is there to connect to.
macro_rules! without_ssl {
    ($make:expr, $($setter:ident($value:expr)),*) => {
        $(
            let message = concat!(stringify!($setter), " is only meaningful with ssl");
            refused($make.$setter($value).await, message);
            refused($make.ssl(false).$setter($value).await, message);
        )*
    };
}

macro_rules! with_ssl {
    ($make:expr, $context:expr) => {
        refused(
            $make
                .ssl($context)
                .ssl_handshake_timeout(Duration::ZERO)
                .await,
            "ssl_handshake_timeout should be a positive number, got 0",
        );
        refused(
            $make
                .ssl($context)
                .ssl_shutdown_timeout(Duration::ZERO)
                .await,
            "ssl_shutdown_timeout should be a positive number, got 0",
        );
    };
}

#[test]
fn clients_arguments_that_contradict_each_other() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("nobody");
        macro_rules! client {
            ($make:expr) => {
                without_ssl!(
                    $make,
                    server_hostname("localhost"),
                    ssl_handshake_timeout(SECOND),
                    ssl_shutdown_timeout(SECOND)
                );
                with_ssl!($make.server_hostname("localhost"), client_context());
                refused(
                    $make.ssl(client_context()).server_hostname("no name").await,
                    "server_hostname: \"no name\" is no name of a host",
                );
                refused(
                    $make.ssl(client_context()).server_hostname("").await,
                    "server_hostname: \"\" is no name of a host",
                );
            };
        }
        client!(open_connection(("127.0.0.1", 1)));
        client!(create_connection(probe, ("127.0.0.1", 1)));
        client!(open_unix_connection(&path));
        client!(create_unix_connection(probe, &path));
        let no_name = "you have to pass server_hostname when using ssl";
        let no_host = "You must set server_hostname when using ssl without a host";
        refused(open_unix_connection(&path).ssl(true).await, no_name);
        refused(
            create_unix_connection(probe, &path).ssl(true).await,
            no_name,
        );
        refused(
            open_connection(sockets().0).ssl(client_context()).await,
            no_host,
        );
        refused(
            create_connection(probe, sockets().0).ssl(true).await,
            no_host,
        );
    });
}

#[test]
fn servers_arguments_that_contradict_each_other() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("nobody");
        macro_rules! server {
            ($make:expr) => {
                without_ssl!(
                    $make,
                    ssl_handshake_timeout(SECOND),
                    ssl_shutdown_timeout(SECOND)
                );
                with_ssl!($make, server_context("server"));
                refused(
                    $make.ssl(true).await,
                    "ssl argument must be an SSLContext or None",
                );
            };
        }
        macro_rules! listening {
            ($make:expr) => {
                server!($make);
                refused(
                    $make.ssl(server_context("server")).max_handshakes(0).await,
                    "max_handshakes must be positive",
                );
            };
        }
        listening!(start_server(nobody, ("127.0.0.1", 0)));
        listening!(create_server(probe, ("127.0.0.1", 0)));
        listening!(start_unix_server(nobody, &path));
        listening!(create_unix_server(probe, &path));
        server!(connect_accepted_socket(probe, sockets().0));
        assert!(folder.names().is_empty());
    });
}

/// What is wrong, and with which file.
#[test]
fn files_that_do_not_fit() {
    let folder = Folder::new();
    let (missing, empty, garbage) = (
        folder.path("missing"),
        folder.path("empty"),
        folder.path("garbage"),
    );
    std::fs::write(&empty, "").unwrap();
    let text = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n\
                -----BEGIN PRIVATE KEY-----\n!!!\n-----END PRIVATE KEY-----\n";
    std::fs::write(&garbage, text).unwrap();
    let (pem, key) = (cert("server.pem"), cert("server.key"));
    let wrong = |outcome: io::Result<TlsServerContext>, kind, words: &[&str]| {
        let error = outcome.map(drop).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
    };
    let from = |cert: &_, key: &_| TlsServerContext::from_pem_files(cert, key);
    wrong(from(&missing, &key), ErrorKind::NotFound, &["missing"]);
    wrong(from(&pem, &missing), ErrorKind::NotFound, &["missing"]);
    let none = "there is no certificate in it";
    wrong(
        from(&empty, &key),
        ErrorKind::InvalidInput,
        &["empty", none],
    );
    let none = "there is no private key in it";
    wrong(
        from(&pem, &empty),
        ErrorKind::InvalidInput,
        &["empty", none],
    );
    wrong(from(&garbage, &key), ErrorKind::InvalidInput, &["garbage"]);
    wrong(from(&pem, &garbage), ErrorKind::InvalidInput, &["garbage"]);
    // The one in the place of the other, and one of somebody else.
    wrong(from(&key, &pem), ErrorKind::InvalidInput, &["server.key"]);
    let other = "the key is not the one of the certificate";
    wrong(
        from(&pem, &cert("second.key")),
        ErrorKind::InvalidInput,
        &["second.key", other],
    );
    let asks = |path: &_| {
        TlsServerContext::builder(&pem, &key)
            .client_ca(path)
            .build()
    };
    wrong(asks(&missing), ErrorKind::NotFound, &["missing"]);
    wrong(asks(&empty), ErrorKind::InvalidInput, &["empty"]);

    for path in [&missing, &empty, &garbage] {
        let error = TlsClientContext::builder()
            .root_file(path)
            .build()
            .unwrap_err();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(error.to_string().contains(name), "{error}");
    }
    let identity = TlsClientContext::builder()
        .root_file(cert("ca.pem"))
        .client_cert(cert("client.pem"), cert("stranger.key"));
    let message = identity.build().unwrap_err().to_string();
    assert!(message.contains(other), "{message}");
    assert!(message.contains("stranger.key"), "{message}");
}

/// Somebody who speaks plainly to a TLS port: an alert and an end, and no connection.
#[test]
fn plain_text_to_a_port_of_tls() {
    if !own_process::enter("bad_input::plain_text_to_a_port_of_tls") {
        return;
    }
    run(async {
        let trace = Trace::default();
        let (_server, address) = server_of_probes(&trace).await;
        let before = held();
        let long = pattern(100_000);
        let texts: [&[u8]; 5] = [
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"EHLO localhost\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            &[0; 64],
            &long,
        ];
        for text in texts {
            let mut peer = Scripted::connect(address, scripted::client_config(TLS13));
            peer.send(text).await;
            let (_, end) = peer.read_to_end().await;
            assert!(
                matches!(end, End::Failed(rustls::Error::AlertReceived(_))),
                "{end:?}"
            );
            drop(peer);
            within("the end of it", async {
                while held() != before {
                    turns(1).await;
                }
            })
            .await;
        }
        assert_eq!(trace, []);
    });
}

/// A server that speaks no TLS, whether it speaks first or is asked.
#[test]
fn a_client_of_tls_and_a_server_that_speaks_plainly() {
    run(async {
        for text in [
            "220 mail.example ready\r\n",
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            "\0\0\0\0\0",
        ] {
            for asked in [false, true] {
                let (listener, address) = listener();
                let connecting = open_connection(address).ssl(client_context());
                let answering = async {
                    turns(1).await;
                    let mut peer =
                        Scripted::accept(&listener, scripted::server_config(TLS13, "server"));
                    if asked {
                        peer.hear().await.unwrap();
                    }
                    peer.send(text.as_bytes()).await;
                    peer
                };
                let (outcome, _peer) = join(connecting.into_future(), answering).await;
                let error = outcome.map(drop).unwrap_err();
                assert_eq!(TlsError::of(&error), Some(&TlsError::NotTls), "{error:?}");
                assert_eq!(error.kind(), ErrorKind::InvalidData);
                assert_eq!(error.to_string(), "the peer does not speak TLS");
            }
        }
    });
}

/// Beginnings that look like TLS, and are not: whatever comes, it ends.
#[test]
fn seeded_garbage_instead_of_a_handshake() {
    if !own_process::enter("bad_input::seeded_garbage_instead_of_a_handshake") {
        return;
    }
    run(async {
        let trace = Trace::default();
        let (_server, address) = server_of_probes(&trace).await;
        let noise = pattern(200 * 300);
        let mut before = None;
        for (round, noise) in noise.chunks(300).enumerate() {
            let mut peer = Scripted::connect(address, scripted::client_config(TLS13));
            let mut bytes = peer.records();
            // Some of the hello's bytes are others, a few of its header among them.
            for pair in noise.chunks(2).take(1 + round % 7) {
                let place = usize::from(pair[0]) % bytes.len().min(200);
                bytes[place] = pair[1];
            }
            if round % 3 == 0 {
                bytes.truncate(9);
                bytes.extend(noise);
            }
            peer.send(&bytes).await;
            turns(2).await;
            peer.finish();
            within("an end", async { while peer.socket_says_more().await {} }).await;
            drop(peer);
            turns(5).await;
            assert_eq!(held(), *before.get_or_insert_with(held), "round {round}");
        }
        assert_eq!(trace, []);
    });
}

/// A message of the handshake that announces a length that no message has.
#[test]
fn a_handshake_message_without_end() {
    run(async {
        for version in [TLS12, TLS13] {
            let trace = Trace::default();
            let (socket, theirs) = sockets();
            let mut peer = Scripted::client(theirs, scripted::client_config(version));
            let connecting = Ours::Server.connect(socket, Probe::new(&trace));
            let speaking = async {
                // The first of as many records as it takes: a hello of 16 MiB.
                let mut record = vec![22, 3, 1, 0x40, 0];
                record.extend([1, 0xff, 0xff, 0xff]);
                record.resize(5 + 0x4000, 0);
                for _ in 0..8 {
                    peer.send(&record).await;
                    turns(1).await;
                    record.splice(5..9, [0; 4]);
                }
                peer.read_to_end().await.1
            };
            let (outcome, end) = join(connecting, speaking).await;
            let error = outcome.map(drop).unwrap_err();
            assert!(
                matches!(TlsError::of(&error), Some(TlsError::Protocol(_))),
                "{error:?}"
            );
            assert_eq!(CloseReason::of(&error), Some(CloseReason::TlsFailed));
            assert_ne!(end, End::Reset);
            assert_eq!(trace, []);
        }
    });
}

/// What a peer does wrong, and then stays where it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    PlainText,
    /// The header of a record, and noise.
    Garbage,
    /// One that is refused: the name of its files.
    Certificate(&'static str),
    TooLargeARecord,
    TooLargeAMessage,
    /// A message of the handshake that announces more than ever comes.
    HalfAMessage,
    GarbageBehindData,
    TooLargeARecordBehindData,
}

const WRONG: [Wrong; 10] = [
    Wrong::PlainText,
    Wrong::Garbage,
    Wrong::Certificate("elsewhere"),
    Wrong::Certificate("expired"),
    Wrong::Certificate("untrusted"),
    Wrong::TooLargeARecord,
    Wrong::TooLargeAMessage,
    Wrong::HalfAMessage,
    Wrong::GarbageBehindData,
    Wrong::TooLargeARecordBehindData,
];

impl Wrong {
    async fn speak(self, peer: &mut Scripted, ours: Ours) {
        // A hello of whoever it is.
        let kind = if ours == Ours::Client { 2 } else { 1 };
        match self {
            Self::PlainText if ours == Ours::Client => peer.send(b"220 mail.example\r\n").await,
            Self::PlainText => peer.send(b"GET / HTTP/1.1\r\n\r\n").await,
            Self::Garbage => {
                let noise = pattern(64);
                peer.send(&[&[22, 3, 3, 0, 64], &noise[..]].concat()).await;
            }
            // One of TLS 1.3 takes the handshake for done before it is refused.
            Self::Certificate(_) => drop(peer.shake_hands().await),
            Self::TooLargeARecord => peer.send(TOO_LARGE).await,
            Self::TooLargeAMessage => {
                let mut record = vec![22, 3, 3, 0x40, 0, kind, 0xff, 0xff, 0xff];
                record.resize(5 + 0x4000, 0);
                for _ in 0..8 {
                    peer.send(&record).await;
                    record[5..9].fill(0);
                }
            }
            Self::HalfAMessage => {
                let mut record = vec![22, 3, 3, 0, 100, kind, 0, 0x10, 0];
                record.resize(5 + 100, 0);
                peer.send(&record).await;
            }
            Self::GarbageBehindData | Self::TooLargeARecordBehindData => {
                peer.shake_hands().await.unwrap();
                let mut bytes = peer.encrypt(b"in order");
                if self == Self::GarbageBehindData {
                    bytes.extend(peer.encrypt(b"broken"));
                    *bytes.last_mut().unwrap() ^= 1;
                } else {
                    bytes.extend(TOO_LARGE);
                }
                peer.send(&bytes).await;
            }
        }
    }

    fn is_called(self, error: &TlsError) -> bool {
        use rustls::{CertificateError, Error, InvalidMessage};
        match self {
            Self::PlainText | Self::TooLargeARecord => *error == TlsError::NotTls,
            Self::Garbage => matches!(error, TlsError::Protocol(Error::InvalidMessage(_))),
            Self::Certificate(name) => {
                let TlsError::Certificate(why) = error else {
                    return false;
                };
                match name {
                    "elsewhere" => matches!(why, CertificateError::NotValidForNameContext { .. }),
                    "expired" => matches!(why, CertificateError::ExpiredContext { .. }),
                    _ => *why == CertificateError::UnknownIssuer,
                }
            }
            Self::TooLargeAMessage => matches!(error, TlsError::Protocol(_)),
            Self::HalfAMessage => *error == TlsError::HandshakeTimeout(MOMENT),
            Self::GarbageBehindData => *error == TlsError::Protocol(Error::DecryptError),
            Self::TooLargeARecordBehindData => {
                *error == TlsError::Protocol(Error::InvalidMessage(InvalidMessage::MessageTooLarge))
            }
        }
    }
}

/// Whatever a peer does wrong has a name, and costs no descriptor for longer than the peer has to
/// hear of it, also if it never ends the connection, and whoever had it keeps what is left of it.
#[test]
fn whatever_is_wrong_no_descriptor_is_left_though_the_peer_stays() {
    if !own_process::enter(
        "bad_input::whatever_is_wrong_no_descriptor_is_left_though_the_peer_stays",
    ) {
        return;
    }
    run(async {
        for wrong in WRONG {
            for (ours, version) in KINDS {
                let name = match wrong {
                    // A server asks for none.
                    Wrong::Certificate(_) if ours == Ours::Server => continue,
                    Wrong::Certificate(name) => name,
                    _ => "server",
                };
                let case = format!("{wrong:?} to a {ours:?} of {version:?}");
                let (socket, theirs) = sockets();
                let mut peer = match ours {
                    Ours::Client => {
                        Scripted::server(theirs, scripted::server_config(version, name))
                    }
                    Ours::Server => Scripted::client(theirs, scripted::client_config(version)),
                };
                // Ours is to go, and theirs stays.
                let before = held();
                let wanted = (before.0 - 1, before.1);
                let trace = Trace::default();
                let lost = Rc::new(RefCell::new(None));
                let kept = Rc::clone(&lost);
                let probe = Probe::new(&trace).doing(move |call, _| {
                    if let Call::Lost(error) = call {
                        kept.borrow_mut().clone_from(error);
                    }
                });
                let patience = match wrong {
                    Wrong::HalfAMessage => MOMENT,
                    _ => PATIENCE,
                };
                let begun = Instant::now();
                let connecting = connect(ours, socket, probe, patience);
                let (connected, ()) = join(connecting, wrong.speak(&mut peer, ours)).await;
                let reason;
                let error = match &connected {
                    Err(error) => {
                        assert_eq!(trace, [], "{case}");
                        reason = CloseReason::of(error);
                        TlsError::of(error).cloned()
                    }
                    Ok(transport) => {
                        trace.until("lost InvalidData").await;
                        let story = ["made", "data in order", "lost InvalidData"];
                        assert_eq!(trace, story, "{case}");
                        reason = transport.get_extra_info(ClosedBecause);
                        lost.take().and_then(|error| TlsError::of(&error).cloned())
                    }
                };
                let error = error.unwrap_or_else(|| panic!("{case}: {connected:?}"));
                assert!(wrong.is_called(&error), "{case}: {error:?}");
                assert_eq!(reason, Some(CloseReason::TlsFailed), "{case}");
                while held() != wanted {
                    let time = begun.elapsed();
                    assert!(time < 10 * SECOND, "{case}: {:?}, not {wanted:?}", held());
                    sleep(Duration::from_millis(1)).await.unwrap();
                }
                drop((connected, peer));
            }
        }
    });
}

/// With hardly any time for the end.
async fn connect(
    ours: Ours,
    socket: TcpStream,
    probe: Probe,
    patience: Duration,
) -> io::Result<Transport> {
    let (transport, _) = match ours {
        Ours::Client => {
            create_connection(move || probe, socket)
                .ssl(client_context())
                .server_hostname("localhost")
                .ssl_handshake_timeout(patience)
                .ssl_shutdown_timeout(MOMENT)
                .await?
        }
        Ours::Server => {
            connect_accepted_socket(move || probe, socket)
                .ssl(server_context("server"))
                .ssl_handshake_timeout(patience)
                .ssl_shutdown_timeout(MOMENT)
                .await?
        }
    };
    Ok(transport)
}

const MOMENT: Duration = Duration::from_millis(50);
/// A header that announces more than any record may hold.
const TOO_LARGE: &[u8] = &[22, 3, 3, 0xff, 0xff];
