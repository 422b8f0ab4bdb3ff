//! The contract, one function for each thing that can go wrong.

use std::thread;
use std::time::Instant;

use crate::client::{Client, PATIENCE};
use crate::server::{Participant, Server};

const MIB: usize = 1024 * 1024;

/// Bytes of which any two stretches differ.
fn pattern(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Without printing megabytes where they differ.
#[track_caller]
fn assert_same(answer: &[u8], expected: &[u8]) {
    assert_eq!(answer.len(), expected.len(), "the size of the answer");
    assert!(answer == expected, "another answer of the same size");
}

/// Messages of many sizes, in pieces that fit into no buffer evenly; then the end.
pub(crate) fn echo(participant: &Participant) {
    let server = participant.serve("echo");
    let client = Client::connect(&server);
    for size in [1, 2, 63, 1000, 65_535, 65_536, 65_537, 300 * 1024] {
        let message = pattern(size);
        let answer = thread::scope(|scope| {
            scope.spawn(|| message.chunks(4_099).for_each(|piece| client.send(piece)));
            client.receive(size)
        });
        assert_same(&answer, &message);
    }
    client.finish();
    assert_same(&client.receive_all(), b"");
    holds_back(participant, "echo", &pattern(96 * MIB));
}

/// What was not received fills the kernel's buffers and not the server; nothing of it is lost when
/// the client ends its half meanwhile.
fn holds_back(participant: &Participant, work: &str, message: &[u8]) {
    let server = participant.serve(work);
    Client::connect(&server).reset();
    let before = server.peak_memory();
    let client = Client::connect(&server);
    let sent = client.fill(message);
    client.finish();
    let grown = server.peak_memory() - before;
    assert!(sent < message.len(), "nothing held the client back");
    assert!(grown < 8 * MIB as u64, "the server grew by {grown} bytes");

    // Whether a line without an end is answered is left open.
    let whole = match work {
        "echo" => sent,
        _ => message[..sent]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1),
    };
    let answer = client.receive_all();
    assert_same(&answer[..whole.min(answer.len())], &message[..whole]);
}

/// Sixteen lines in one piece, lines in pieces, lines across the end of a buffer.
pub(crate) fn lines(participant: &Participant, work: &str) {
    let server = participant.serve(work);
    let client = Client::connect(&server);
    let sixteen = (0..16).map(|n| format!("line {n} of sixteen\n"));
    let sixteen = sixteen.collect::<String>().into_bytes();
    client.send(&sixteen);
    assert_same(&client.receive(sixteen.len()), &sixteen);

    for piece in sixteen.chunks(7) {
        client.send(piece);
    }
    assert_same(&client.receive(sixteen.len()), &sixteen);

    let many = sixteen.repeat(1_000);
    let answer = thread::scope(|scope| {
        scope.spawn(|| client.send(&many));
        client.receive(many.len())
    });
    assert_same(&answer, &many);
    client.finish();
    assert_same(&client.receive_all(), b"");
    holds_back(participant, work, &sixteen.repeat(96 * MIB / sixteen.len()));
}

/// The count comes after the end of the client's half, and then the end of the server's.
pub(crate) fn upload(participant: &Participant) {
    let server = participant.serve("upload");
    for size in [0, 1, 10 * MIB] {
        let client = Client::connect(&server);
        client.send(&pattern(size));
        client.finish();
        assert_same(&client.receive_all(), &(size as u64).to_le_bytes());
    }
}

/// The bytes that were asked for, and no more memory than a few writes of them.
pub(crate) fn download(participant: &Participant) {
    let server = participant.serve("download");
    for size in [0, 1, 10 * MIB as u64] {
        assert_eq!(fetch(&server, size), size);
    }
    let before = server.peak_memory();
    let much = 128 * MIB as u64;
    assert_eq!(fetch(&server, much), much);
    let grown = server.peak_memory() - before;
    assert!(grown < 8 * MIB as u64, "the server grew by {grown} bytes");
}

fn fetch(server: &Server, size: u64) -> u64 {
    let client = Client::connect(server);
    let (head, tail) = (&size.to_le_bytes()[..3], &size.to_le_bytes()[3..]);
    client.send(head);
    client.send(tail);
    client.count_all()
}

/// Two hundred at once, each with an answer of its own.
pub(crate) fn many_connections(participant: &Participant) {
    let server = participant.serve("echo");
    let messages = pattern(200 * 1024);
    let clients = messages.chunks(1024).map(|message| {
        let client = Client::connect(&server);
        client.send(message);
        client
    });
    let clients = clients.collect::<Vec<_>>();
    for (client, message) in clients.iter().zip(messages.chunks(1024)) {
        assert_same(&client.receive(1024), message);
    }
}

/// A client that resets, in the middle of anything, ends its own connection only.
pub(crate) fn resets(participant: &Participant) {
    let asked = (64 * MIB as u64).to_le_bytes();
    for (work, sent) in [
        ("echo", pattern(100_000)),
        ("lines", b"line\nline\nli".repeat(10_000)),
        ("upload", pattern(100_000)),
        ("download", asked.to_vec()),
    ] {
        if work == "lines" && !participant.has_lines() {
            continue;
        }
        let server = participant.serve(work);
        for _ in 0..20 {
            Client::connect(&server).reset();
            let client = Client::connect(&server);
            client.fill(&sent);
            client.reset();
        }
        let client = Client::connect(&server);
        match work {
            "upload" => client.finish(),
            "download" => client.send(&8_u64.to_le_bytes()),
            _ => {
                client.send(b"8 bytes\n");
                client.finish();
            }
        }
        assert_eq!(client.count_all(), 8, "{work} after resets");
    }
}

/// More clients than descriptors: who has been accepted is served, and others are later.
pub(crate) fn no_free_descriptor(participant: &Participant) {
    let server = participant.serve_with_descriptors("echo", "40");
    let crowd = (0..80)
        .map(|_| Client::connect_only(&server))
        .collect::<Vec<_>>();
    assert!(crowd[0].is_echoed(), "the first of many");
    drop(crowd);
    let deadline = Instant::now() + PATIENCE;
    while !Client::connect_only(&server).is_echoed() {
        assert!(Instant::now() < deadline, "nobody is served any more");
    }
}
