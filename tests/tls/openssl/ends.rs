//! Who ends first, in which way, and who answers.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use evloop::{CloseReason, ClosedBecause, StreamWriter, TlsError};

use super::{
    LONG, VERSIONS, connect, converse, end, has_openssl, next, part, s_client, s_server, serve,
    serve_until,
};
use crate::common::within;
use crate::quiet::run_quietly;
use crate::support::{client_context, server_context};
use crate::talk::Talk;

/// How openssl tells of a `close_notify`, which it received or sent.
fn goodbyes(transcript: &str, direction: &str) -> usize {
    let is_one = |line: &&str| {
        let is_alert = line.starts_with(direction) && line.contains(" Alert ");
        is_alert && line.ends_with("warning close_notify")
    };
    transcript.lines().filter(is_one).count()
}

#[test]
fn our_client_closes_first_and_s_server_is_told_and_answers() {
    if !has_openssl() {
        return;
    }
    run_quietly(async {
        for version in VERSIONS {
            let (mut server, address) = s_server(&version, &["-naccept", "1", "-msg"]).await;
            let (mut reader, writer) = connect(address, &client_context()).await.unwrap();
            converse(&mut reader, &writer, &mut server).await;
            writer.write(b"the last line\n");
            part(&writer).await;
            assert_eq!(
                writer.get_extra_info(ClosedBecause),
                Some(CloseReason::Closed)
            );
            server.see("the last line\n").await;
            let (code, transcript) = server.end().await;
            assert_eq!(code, Some(0), "{transcript}");
            assert_eq!(goodbyes(&transcript, "<<<"), 1, "{transcript}");
            assert_eq!(goodbyes(&transcript, ">>>"), 1, "{transcript}");
        }
    });
}

#[test]
fn s_server_closes_first_and_our_client_reads_the_end_and_answers() {
    if !has_openssl() {
        return;
    }
    run_quietly(async {
        for version in VERSIONS {
            // It answers one request with a page about itself, and closes.
            let args = ["-naccept", "1", "-msg", "-www"];
            let (server, address) = s_server(&version, &args).await;
            let (mut reader, writer) = connect(address, &client_context()).await.unwrap();
            writer.write(b"GET / HTTP/1.0\r\n\r\n");
            let page = within("the end", reader.read_to_end(1 << 20))
                .await
                .unwrap();
            assert!(page.starts_with(b"HTTP/1.0 200 ok\r\n"));
            assert!(page.ends_with(b"</pre></BODY></HTML>\r\n\r\n"));
            part(&writer).await;
            assert_eq!(
                writer.get_extra_info(ClosedBecause),
                Some(CloseReason::PeerEof)
            );
            let (_, transcript) = server.end().await;
            assert_eq!(goodbyes(&transcript, ">>>"), 1, "{transcript}");
        }
    });
}

#[test]
fn our_server_closes_first_and_s_client_is_told_and_answers() {
    if !has_openssl() {
        return;
    }
    run_quietly(async {
        let (server, mut connections) = serve(server_context("server")).await;
        for version in VERSIONS {
            let mut client = s_client(&server, &version, &["-msg"]);
            let (mut reader, writer) = next(&mut connections).await;
            converse(&mut reader, &writer, &mut client).await;
            writer.write(b"the last line\n");
            part(&writer).await;
            assert_eq!(
                writer.get_extra_info(ClosedBecause),
                Some(CloseReason::Closed)
            );
            client.see("the last line\n").await;
            client.see("closed\n").await;
            let (code, transcript) = client.end().await;
            assert_eq!(code, Some(0), "{transcript}");
            assert_eq!(goodbyes(&transcript, "<<<"), 1, "{transcript}");
            assert_eq!(goodbyes(&transcript, ">>>"), 1, "{transcript}");
        }
        end(&server).await;
    });
}

#[test]
fn s_client_closes_first_and_our_server_reads_the_end_and_answers() {
    if !has_openssl() {
        return;
    }
    run_quietly(async {
        let (server, mut connections) = serve(server_context("server")).await;
        for version in VERSIONS {
            let mut client = s_client(&server, &version, &["-msg"]);
            let (mut reader, writer) = next(&mut connections).await;
            converse(&mut reader, &writer, &mut client).await;
            client.say("the last line");
            client.hang_up();
            let last = within("the end", reader.read_to_end(1 << 20))
                .await
                .unwrap();
            assert_eq!(last, b"the last line\n");
            part(&writer).await;
            assert_eq!(
                writer.get_extra_info(ClosedBecause),
                Some(CloseReason::PeerEof)
            );
            let (code, transcript) = client.end().await;
            assert_eq!(code, Some(0), "{transcript}");
            assert_eq!(goodbyes(&transcript, ">>>"), 1, "{transcript}");
        }
        end(&server).await;
    });
}

#[test]
fn write_eof_ends_our_half_on_tls_1_3_and_is_unsupported_on_1_2() {
    if !has_openssl() {
        return;
    }
    run_quietly(async {
        for version in VERSIONS {
            let (mut server, address) = s_server(&version, &["-naccept", "1"]).await;
            let (mut reader, writer) = connect(address, &client_context()).await.unwrap();
            converse(&mut reader, &writer, &mut server).await;
            if version.half_close {
                writer.write(b"the last line\n");
                writer.write_eof().unwrap();
                server.see("the last line\n").await;
                // s_server answers by ending the connection.
                server.see("DONE").await;
                assert_eq!(within("the end", reader.read(1)).await.unwrap(), b"");
            } else {
                let refusal = writer.write_eof().unwrap_err();
                assert_eq!(refusal.kind(), ErrorKind::Unsupported);
                converse(&mut reader, &writer, &mut server).await;
            }
            part(&writer).await;
        }
    });
}

/// A program that stands still neither reads nor answers, but its system takes what is sent.
#[test]
fn a_peer_that_never_answers_our_close_notify_costs_no_more_than_the_shutdown_timeout() {
    if !has_openssl() {
        return;
    }
    run_quietly(async {
        let limit = Duration::from_millis(300);
        for version in VERSIONS {
            let (mut peer, address) = s_server(&version, &["-naccept", "1"]).await;
            let connecting = connect(address, &client_context()).ssl_shutdown_timeout(limit);
            let (mut reader, writer) = connecting.await.unwrap();
            converse(&mut reader, &writer, &mut peer).await;
            close_on_somebody_who_stands_still(&writer, &peer, limit).await;

            let (server, mut connections) = serve_until(server_context("server"), limit).await;
            let mut peer = s_client(&server, &version, &[]);
            let (mut reader, writer) = next(&mut connections).await;
            converse(&mut reader, &writer, &mut peer).await;
            close_on_somebody_who_stands_still(&writer, &peer, limit).await;
            end(&server).await;
        }
    });
}

async fn close_on_somebody_who_stands_still(writer: &StreamWriter, peer: &Talk, limit: Duration) {
    peer.signal("STOP");
    writer.close();
    let since = Instant::now();
    within("the end", writer.wait_closed()).await.unwrap();
    let taken = since.elapsed();
    assert!(limit <= taken && taken < LONG, "{taken:?}");
}

#[test]
fn a_peer_that_is_killed_is_a_truncation_and_no_clean_end() {
    if !has_openssl() {
        return;
    }
    run_quietly(async {
        for version in VERSIONS {
            let (mut server, address) = s_server(&version, &["-naccept", "1"]).await;
            let (mut reader, writer) = connect(address, &client_context()).await.unwrap();
            converse(&mut reader, &writer, &mut server).await;
            server.say("half of what it wanted to say");
            let line = within("a line", reader.readline()).await.unwrap();
            assert_eq!(line, b"half of what it wanted to say\n");
            drop(server);
            let error = within("the end", reader.read(1)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            assert_eq!(TlsError::of(&error), Some(&TlsError::Truncated));
            writer.close();
            drop(within("the end", writer.wait_closed()).await);
            assert_eq!(
                writer.get_extra_info(ClosedBecause),
                Some(CloseReason::Truncated)
            );
        }
    });
}
