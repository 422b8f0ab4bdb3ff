//! What the worlds may do differently, and why: everything else they do alike.

use std::fs;
use std::path::Path;

use crate::worlds::{Link, World};

/// Something that a kind of connection does in its own way.
pub(crate) struct Difference {
    pub(crate) behaviour: &'static str,
    pub(crate) links: &'static [Link],
    pub(crate) whose: Whose,
    /// What is seen there; `None` if it cannot be asked.
    pub(crate) answer: Option<&'static [&'static str]>,
    pub(crate) why: &'static str,
}

/// Whether the simulation does it, too. As a rule it does what the system does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Both,
    System,
    Simulation,
}

pub(crate) fn of(behaviour: &str, world: World) -> Option<&'static Difference> {
    let other = match world.is_simulated() {
        true => Whose::System,
        false => Whose::Simulation,
    };
    let mut of_it = DIFFERENCES.iter().filter(|row| row.behaviour == behaviour);
    of_it.find(|row| row.links.contains(&world.link) && row.whose != other)
}

const TLS: &[Link] = &[Link::Tls13, Link::Tls12];

const TLS_1_2: &[Link] = &[Link::Tls12];

const NO_HALVES: &str =
    "in TLS 1.2 close_notify is for both directions, so none can be ended alone";

const DIFFERENCES: &[Difference] = &[
    Difference {
        behaviour: "an_answer_may_follow_the_end_of_the_question",
        links: TLS_1_2,
        whose: Whose::Both,
        answer: None,
        why: NO_HALVES,
    },
    Difference {
        behaviour: "where_a_half_cannot_be_ended_alone_write_eof_says_so",
        links: TLS_1_2,
        whose: Whose::Both,
        answer: Some(&["false", "Unsupported"]),
        why: NO_HALVES,
    },
    Difference {
        behaviour: "behind_write_eof_nothing_can_be_written",
        links: TLS_1_2,
        whose: Whose::Both,
        answer: None,
        why: NO_HALVES,
    },
    Difference {
        behaviour: "write_eof_waits_for_what_was_written",
        links: TLS_1_2,
        whose: Whose::Both,
        answer: None,
        why: NO_HALVES,
    },
    Difference {
        behaviour: "what_is_written_after_the_end_is_ignored",
        links: TLS_1_2,
        whose: Whose::Both,
        answer: Some(&["ok", "0", "Unsupported", "the end"]),
        why: NO_HALVES,
    },
    Difference {
        behaviour: "the_peers_end_leaves_our_half_open",
        links: TLS_1_2,
        whose: Whose::Both,
        answer: None,
        why: NO_HALVES,
    },
    Difference {
        behaviour: "true_from_eof_received_keeps_our_half_open",
        links: TLS_1_2,
        whose: Whose::Both,
        answer: None,
        why: NO_HALVES,
    },
    Difference {
        behaviour: "false_from_eof_received_sends_what_was_written_and_closes",
        links: TLS_1_2,
        whose: Whose::Both,
        answer: None,
        why: NO_HALVES,
    },
    Difference {
        behaviour: "connection_made_comes_before_the_connect_returns_and_bytes_come_after_it",
        links: TLS,
        whose: Whose::Both,
        answer: None,
        why: "bytes may come in the packet that ends the handshake, and are told in the same turn",
    },
    Difference {
        behaviour: "a_buffer_without_room_ends_the_connection",
        links: TLS,
        whose: Whose::Both,
        answer: Some(&[
            "we made",
            "report: Fatal error: protocol.data_received() call failed.",
            "we lost: Other",
        ]),
        why: "what was deciphered is in our memory already, and is copied into the buffer",
    },
    Difference {
        behaviour: "a_close_with_unread_bytes_resets_the_peer",
        links: TLS,
        whose: Whose::Both,
        answer: Some(&["the end"]),
        why: "TLS has read them from the socket, and says goodbye in its own way",
    },
    Difference {
        behaviour: "an_abort_with_everything_read_is_an_end_for_the_peer",
        links: TLS,
        whose: Whose::Both,
        answer: Some(&["\"ok\"", "truncated"]),
        why: "an abort says no goodbye, and TLS tells that from an end",
    },
    Difference {
        behaviour: "a_write_to_a_peer_that_has_closed_ends_the_connection",
        links: TLS_1_2,
        whose: Whose::Both,
        answer: Some(&["the end", "true", "ok", "ConnectionReset"]),
        why: NO_HALVES,
    },
    Difference {
        behaviour: "after_the_peers_end_and_a_loss_reads_are_at_the_end_first",
        links: TLS_1_2,
        whose: Whose::Both,
        answer: Some(&["\"last\"", "the end"]),
        why: NO_HALVES,
    },
    Difference {
        behaviour: "where_nobody_has_ever_listened_nobody_answers",
        links: &[Link::Unix],
        whose: Whose::Both,
        answer: Some(&["NotFound"]),
        why: "a server takes its path away with it, so there is nobody to refuse",
    },
    Difference {
        behaviour: "who_waits_to_be_accepted_is_reset_when_the_server_closes",
        links: TLS,
        whose: Whose::Both,
        answer: Some(&[
            "first made",
            "first \"hello\"",
            "closed",
            "second: ConnectionReset",
        ]),
        why: "before the handshake there is no connection to be told of",
    },
    Difference {
        behaviour: "a_reset_behind_the_peers_end_is_told_at_once",
        links: &[Link::Unix],
        whose: Whose::Both,
        answer: Some(&["the end", "false", "ConnectionReset"]),
        why: "TCP says EPIPE for a reset behind an end, a unix socket does not",
    },
    Difference {
        behaviour: "a_write_finds_a_reset_that_nobody_has_read",
        links: &[Link::Unix],
        whose: Whose::Both,
        answer: Some(&["we made", "false", "we lost: BrokenPipe"]),
        why: "a unix socket keeps the reset for whoever reads, and tells a writer EPIPE",
    },
    Difference {
        behaviour: "when_both_halves_have_ended_there_is_nothing_to_reset",
        links: &[Link::Unix],
        whose: Whose::Both,
        answer: Some(&["the end", "true", "ConnectionReset"]),
        why: "a unix socket tells whose bytes were thrown away, whatever has ended",
    },
    Difference {
        behaviour: "of_a_peer_on_the_network_nobody_knows_who_runs_it",
        links: &[Link::Unix],
        whose: Whose::System,
        answer: Some(&["somebody"]),
        why: "the system keeps a record of who has made a unix socket; a simulated host has no users",
    },
    Difference {
        behaviour: "a_socket_can_be_taken_out",
        links: TLS,
        whose: Whose::Both,
        answer: Some(&["Unsupported"]),
        why: "what is below TLS is no stream of the user's bytes",
    },
    Difference {
        behaviour: "a_socket_can_be_taken_out",
        links: &[Link::Tcp, Link::Unix],
        whose: Whose::Simulation,
        answer: Some(&["Unsupported"]),
        why: "a simulated socket has no descriptor",
    },
    Difference {
        behaviour: "a_reset_behind_the_peers_end_is_told_at_once",
        links: TLS_1_2,
        whose: Whose::Both,
        answer: None,
        why: NO_HALVES,
    },
    Difference {
        behaviour: "when_both_halves_have_ended_there_is_nothing_to_reset",
        links: TLS_1_2,
        whose: Whose::Both,
        answer: None,
        why: NO_HALVES,
    },
    Difference {
        behaviour: "who_finds_the_queue_of_a_unix_socket_full_is_told_at_once",
        links: &[Link::Tcp, Link::Tls13, Link::Tls12],
        whose: Whose::Both,
        answer: None,
        why: "TCP tries again, and who of those that wait comes in when is a matter of luck",
    },
    Difference {
        behaviour: "an_address_that_is_bound_twice_is_served_once",
        links: &[Link::Unix],
        whose: Whose::Both,
        answer: Some(&["ok", "ok", "ok"]),
        why: "a path where nobody listens yet looks like one that was left behind, and is replaced",
    },
    Difference {
        behaviour: "one_write_to_a_peer_that_has_closed_is_enough_to_be_told",
        links: TLS,
        whose: Whose::Both,
        answer: None,
        why: "a peer that has said goodbye listens for two seconds to what it throws away",
    },
    Difference {
        behaviour: "an_end_that_waits_behind_unsent_bytes_is_lost_with_them",
        links: TLS_1_2,
        whose: Whose::Both,
        answer: Some(&["Unsupported", "ConnectionReset", "ConnectionReset"]),
        why: NO_HALVES,
    },
    Difference {
        behaviour: "whether_a_connection_is_encrypted_can_be_asked",
        links: TLS,
        whose: Whose::Both,
        answer: Some(&["encrypted", "encrypted"]),
        why: "that is what TLS is",
    },
    Difference {
        behaviour: "a_close_that_still_sends_is_ended_by_the_peers_reset",
        links: &[Link::Unix],
        whose: Whose::Both,
        answer: Some(&["waits", "BrokenPipe", "0"]),
        why: "a unix socket keeps the reset for whoever reads, and tells a writer EPIPE",
    },
];

/// A row whose behaviour has another name by now would excuse nothing, and nobody would notice.
#[test]
fn every_difference_is_one_of_a_behaviour() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let files = fs::read_dir(folder).unwrap();
    let sources: String = files
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    for row in DIFFERENCES {
        assert!(!row.why.is_empty());
        let head = format!("fn {}() {{", row.behaviour);
        assert!(sources.contains(&head), "there is no {head}");
    }
}
