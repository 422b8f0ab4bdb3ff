//! Connections that are encrypted while they are in use, also those that are already.

use std::time::Duration;

use evloop::{TlsClientContext, TlsServerContext, TlsSession, timeout};

use crate::cast::End;
use crate::net::{Net, read};
use crate::worlds::{Link, contexts, everywhere};

/// A client's context and a server's.
fn both() -> (TlsClientContext, TlsServerContext) {
    contexts(Link::Tls13).expect("contexts for TLS")
}

/// Streams that have agreed upon encryption, the client's first.
async fn upgraded(net: &Net) -> (End, End) {
    let (mut here, there) = net.streams().await;
    let (client, server) = both();
    let other = net.there(async move {
        let End {
            mut reader,
            mut writer,
        } = there;
        let line = reader.readline().await.unwrap();
        assert_eq!(line, b"STARTTLS\n");
        writer.write(b"yes\n");
        writer.start_tls(server).await.unwrap();
        End { reader, writer }
    });
    here.writer.write(b"STARTTLS\n");
    net.say(read(here.reader.readline().await));
    let upgrade = here.writer.start_tls(client).server_hostname("localhost");
    upgrade.await.unwrap();
    (here, other.await)
}

#[test]
fn a_connection_can_be_encrypted_while_it_is_in_use() {
    everywhere(
        &["\"yes\\n\"", "true", "\"secret\\n\"", "the end"],
        async |net| {
            let (mut here, there) = upgraded(&net).await;
            net.say(here.writer.get_extra_info(TlsSession).is_some().to_string());
            let other = net.there(async move {
                let End { mut reader, writer } = there;
                let line = reader.readline().await.unwrap();
                writer.write(&line);
                writer.close();
            });
            here.writer.write(b"secret\n");
            net.say(read(here.reader.readline().await));
            net.say(read(here.reader.read(1).await));
            other.await;
        },
    );
}

#[test]
fn much_goes_through_an_encrypted_connection() {
    everywhere(&["\"yes\\n\"", "everything came"], async |net| {
        let (here, mut there) = upgraded(&net).await;
        let plenty = net.plenty();
        let got = net.there(async move { there.reader.read_to_end(None).await.unwrap().len() });
        here.writer.write(vec![1; plenty]);
        here.writer.close();
        if got.await == plenty {
            net.say("everything came");
        }
    });
}

#[test]
fn who_expects_encryption_and_gets_none_says_so() {
    everywhere(
        &["InvalidData", "true", "InvalidData", "InvalidData"],
        async |net| {
            let (mut here, there) = net.streams().await;
            let (client, _) = both();
            let there = net.there(async move {
                there
                    .writer
                    .write(b"this is no TLS at all, and never was\n");
                there
            });
            let upgrade = here.writer.start_tls(client).server_hostname("localhost");
            let failed = upgrade.await.map_err(|error| error.kind());
            net.say(format!("{:?}", failed.unwrap_err()));
            net.say(here.writer.is_closing().to_string());
            net.say(crate::net::outcome(here.writer.wait_closed().await));
            net.say(crate::net::outcome(here.writer.drain().await));
            drop(there.await);
        },
    );
}

#[test]
fn whether_a_connection_is_encrypted_can_be_asked() {
    everywhere(&["plain", "plain"], async |net| {
        let (here, there) = net.streams().await;
        let is_encrypted = |end: &End| match end.writer.get_extra_info(TlsSession) {
            Some(_) => "encrypted",
            None => "plain",
        };
        net.say(is_encrypted(&here));
        // The same after the end.
        here.writer.transport().abort();
        drop(here.writer.wait_closed().await);
        net.say(is_encrypted(&here));
        drop(there);
    });
}

#[test]
fn an_upgrade_that_is_given_up_closes_the_connection() {
    everywhere(&["given up", "true", "the peer is told"], async |net| {
        let (mut here, there) = net.streams().await;
        let (client, _) = both();
        let upgrade = here.writer.start_tls(client).server_hostname("localhost");
        let limit = Duration::from_millis(20);
        if timeout(limit, upgrade.into_future()).await.is_err() {
            net.say("given up");
        }
        net.say(here.writer.is_closing().to_string());
        let End { mut reader, writer } = there;
        // Behind the beginning of a handshake the connection ends, in one way or another.
        let told = net.there(async move {
            drop(reader.read_to_end(None).await);
            writer.close();
        });
        told.await;
        net.say("the peer is told");
    });
}
