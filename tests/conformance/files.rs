//! Files, sent as they are.

use std::fs::{self, File};
use std::time::Duration;

use evloop::{sendfile, timeout};

use crate::common::folder::Folder;
use crate::common::pattern;
use crate::worlds::everywhere;

/// A file with these bytes, in a folder that has to be kept.
fn file(content: &[u8]) -> (Folder, File) {
    let folder = Folder::new();
    let path = folder.path("file");
    fs::write(&path, content).unwrap();
    let file = File::open(path).unwrap();
    (folder, file)
}

#[test]
fn a_file_arrives_between_what_is_written_before_and_behind_it() {
    everywhere(&["200000 sent", "in order"], async |net| {
        let (here, mut there) = net.streams().await;
        let content = pattern(200_000);
        let (_folder, file) = file(&content);
        let got = net.there(async move { there.reader.read_to_end(None).await.unwrap() });
        here.writer.write(b"before");
        let sent = sendfile(here.writer.transport(), &file).await.unwrap();
        net.say(format!("{sent} sent"));
        here.writer.write(b"behind");
        here.writer.close();
        let expected = [&b"before"[..], &content, b"behind"].concat();
        if got.await == expected {
            net.say("in order");
        }
    });
}

#[test]
fn a_part_of_a_file_may_be_sent() {
    everywhere(&["5 sent", "\"world\""], async |net| {
        let (here, mut there) = net.streams().await;
        let (_folder, file) = file(b"hello, world, and all");
        let got = net.there(async move { there.reader.read_to_end(None).await });
        let transport = here.writer.transport();
        let sent = sendfile(transport, &file).offset(7).count(5).await.unwrap();
        net.say(format!("{sent} sent"));
        here.writer.close();
        net.say(crate::net::read(got.await));
    });
}

#[test]
fn a_file_that_is_given_up_ends_somewhere_and_the_stream_goes_on() {
    everywhere(&["a beginning of it, and the tail"], async |net| {
        let (here, mut there) = net.streams().await;
        let content = pattern(net.plenty());
        let (_folder, file) = file(&content);
        let transport = here.writer.transport();
        drop(timeout(Duration::from_millis(30), sendfile(transport, &file)).await);
        let got = net.there(async move { there.reader.read_to_end(None).await.unwrap() });
        here.writer.write(b"tail");
        here.writer.close();
        let got = got.await;
        let sent = got.strip_suffix(b"tail").expect("the tail");
        if content.starts_with(sent) {
            net.say("a beginning of it, and the tail");
        }
    });
}

#[test]
fn on_a_connection_that_is_closing_no_file_is_sent() {
    everywhere(&["NotConnected"], async |net| {
        let (here, there) = net.streams().await;
        let (_folder, file) = file(b"hello");
        here.writer.close();
        let outcome = sendfile(here.writer.transport(), &file).await;
        net.say(crate::net::outcome(outcome));
        drop(there);
    });
}

#[test]
fn while_a_file_is_sent_nobody_writes_in_between() {
    everywhere(&["ResourceBusy", "true"], async |net| {
        let (here, mut there) = net.streams().await;
        let content = pattern(net.plenty());
        let (_folder, file) = file(&content);
        let transport = here.writer.transport().clone();
        let mut sends = Box::pin(async { sendfile(&transport, &file).await });
        assert!(timeout(Duration::from_millis(5), &mut sends).await.is_err());
        net.say(crate::net::outcome(transport.try_write(b"x")));
        let got = net.there(async move { there.reader.read_to_end(None).await.unwrap() });
        sends.await.unwrap();
        here.writer.close();
        net.say((got.await == content).to_string());
    });
}
