//! Keys are good for a number of records. TLS 1.3 makes new ones on the way; TLS 1.2 cannot, and a
//! connection that has used up its keys must not end as if all had been said.

use std::io::{self, ErrorKind, Read};
use std::sync::Arc;

use evloop::{CloseReason, ClosedBecause, StreamReader, StreamWriter, TlsError, start_server};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider, aws_lc_rs};
use rustls::{
    ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, Tls12CipherSuite,
    Tls13CipherSuite,
};

use crate::blocking::joined;
use crate::common::{Peer, in_thread, pattern, run, within};
use crate::scripted::{TLS12, TLS13, certificates, key};

/// Suites whose keys are good for so many records.
fn provider(records: u64) -> CryptoProvider {
    let limited = |common: &CipherSuiteCommon| CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: records,
    };
    let mut provider = aws_lc_rs::default_provider();
    for suite in &mut provider.cipher_suites {
        // Suites live for ever in rustls; a test's few may.
        *suite = match *suite {
            SupportedCipherSuite::Tls12(suite) => {
                SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                    common: limited(&suite.common),
                    ..*suite
                })))
            }
            SupportedCipherSuite::Tls13(suite) => {
                SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                    common: limited(&suite.common),
                    ..*suite
                })))
            }
        };
    }
    provider
}

fn server_config(
    version: &'static SupportedProtocolVersion,
    records: u64,
    fragment: Option<usize>,
) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider(records)))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates("server"), key("server"))
        .unwrap();
    config.max_fragment_size = fragment;
    Arc::new(config)
}

/// A server's handler sends everything in pieces of this size, each with a send of its own. How that
/// ended; what the client has received, and how that ended.
fn send(
    config: Arc<ServerConfig>,
    data: &[u8],
    piece: usize,
) -> (Outcome, Vec<u8>, io::Result<()>) {
    let sent = data.to_vec();
    run(async move {
        let (told, tell) = {
            let told = std::rc::Rc::new(std::cell::RefCell::new(None));
            (std::rc::Rc::clone(&told), told)
        };
        let handler = move |_reader: StreamReader, writer: StreamWriter| {
            let (sent, tell) = (sent.clone(), std::rc::Rc::clone(&tell));
            async move {
                let outcome = send_all(&writer, &sent, piece).await;
                writer.close();
                let _ = writer.wait_closed().await;
                let reason = writer.get_extra_info(ClosedBecause);
                *tell.borrow_mut() = Some(Outcome { outcome, reason });
            }
        };
        let server = start_server(handler, ("127.0.0.1", 0)).ssl(config);
        let server = server.await.unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        let receive = in_thread(move || {
            let mut client = joined(Peer::connect(address));
            let mut received = Vec::new();
            let end = client.read_to_end(&mut received).map(drop);
            (received, end)
        });
        let (received, end) = within("the client", receive).await;
        server.close();
        within("the handler", server.wait_closed()).await.unwrap();
        let outcome = told.borrow_mut().take().unwrap();
        (outcome, received, end)
    })
}

struct Outcome {
    outcome: io::Result<()>,
    reason: Option<CloseReason>,
}

async fn send_all(writer: &StreamWriter, data: &[u8], piece: usize) -> io::Result<()> {
    for piece in data.chunks(piece) {
        writer.write(piece);
        writer.drain().await?;
        // A step of its own for each.
        evloop::sleep(std::time::Duration::ZERO).await?;
    }
    Ok(())
}

#[test]
fn used_up_keys_of_tls_1_2_are_an_error_on_both_sides() {
    let data = pattern(200_000);
    // Many small records, large writes, and large writes in small records.
    for (piece, fragment) in [(100, None), (100_000, Some(256)), (40_000, Some(100))] {
        let (told, received, end) = send(server_config(TLS12, 500, fragment), &data, piece);
        let error = told.outcome.unwrap_err();
        assert_eq!(TlsError::of(&error), Some(&TlsError::KeysUsedUp), "{error}");
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        assert_eq!(told.reason, Some(CloseReason::TlsFailed));
        // What came is the beginning, and that it is not everything can be seen.
        assert!(data.starts_with(&received) && received.len() < data.len());
        let kind = end.unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset),
            "{kind:?}"
        );
    }
}

#[test]
fn what_the_keys_of_tls_1_2_are_good_for_arrives() {
    let data = pattern(40_000);
    let (told, received, end) = send(server_config(TLS12, 500, None), &data, 100);
    told.outcome.unwrap();
    end.unwrap();
    assert!(received == data);
}

#[test]
fn tls_1_3_makes_new_keys_and_goes_on() {
    let data = pattern(200_000);
    for (piece, fragment) in [(100, None), (100_000, Some(512))] {
        let (told, received, end) = send(server_config(TLS13, 100, fragment), &data, piece);
        told.outcome.unwrap();
        end.unwrap();
        assert!(received == data);
    }
}
