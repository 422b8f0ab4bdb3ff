//! Every server program, held to the contract in README.md.
//!
//! A server that answers fast and wrongly would make a fine figure. One that cannot run here (no
//! libuv, no uvloop, io_uring not permitted) says `skipped` and passes; with
//! `EVLOOP_PEERS=required` in the environment it fails instead.
#![forbid(unsafe_code)]

mod checks;
mod client;
mod server;

use evloop_benches::contract::Transport;
use server::Participant;

/// The whole contract, for a participant that answers lines in one way only.
fn keeps_the_contract(participant: &Participant) {
    keeps_the_contract_with(&["lines"], participant);
}

/// The same, for those who can buffer lines by hand.
fn keeps_the_contract_with_lines_buffered(participant: &Participant) {
    keeps_the_contract_with(&["lines", "lines-buffered"], participant);
}

fn keeps_the_contract_with(lines: &[&str], participant: &Participant) {
    for listen in Transport::OF_ALL {
        println!("over {}", listen.name());
        let participant = participant.over(listen);
        if participant.is_absent() {
            return;
        }
        for work in lines {
            checks::lines(&participant, work);
        }
        keeps_what_is_the_same_everywhere(&participant);
    }
}

/// What is asked of those who have TLS, over TLS: everything but lines.
fn keeps_the_contract_over_tls(participant: &Participant) {
    keeps_what_is_the_same_everywhere(&participant.over(Transport::Tls));
}

fn keeps_what_is_the_same_everywhere(participant: &Participant) {
    checks::echo(participant);
    checks::upload(participant);
    checks::download(participant);
    checks::many_connections(participant);
    checks::resets(participant);
    checks::no_free_descriptor(participant);
}

#[test]
fn tokio_rustls() {
    keeps_the_contract_over_tls(&Participant::built("serve_tokio_rustls", &[]));
}

#[test]
fn evloop_protocol_over_tls() {
    let protocol = Participant::built("serve_evloop", &["--api", "protocol"]);
    keeps_the_contract_over_tls(&protocol);
}

#[test]
fn evloop_streams_over_tls() {
    keeps_the_contract_over_tls(&Participant::built("serve_evloop", &["--api", "streams"]));
}

#[test]
fn tokio() {
    keeps_the_contract_with_lines_buffered(&Participant::built("serve_tokio", &[]));
}

#[test]
fn smol() {
    keeps_the_contract_with_lines_buffered(&Participant::built("serve_smol", &[]));
}

#[test]
fn monoio_with_epoll() {
    let epoll = Participant::built("serve_monoio", &["--driver", "epoll"]);
    keeps_the_contract_with_lines_buffered(&epoll);
}

#[test]
fn monoio_with_io_uring() {
    let uring = Participant::built("serve_monoio", &["--driver", "uring"]);
    keeps_the_contract_with_lines_buffered(&uring);
}

#[test]
fn libuv() {
    keeps_the_contract_with_lines_buffered(&Participant::libuv());
}

#[test]
fn asyncio_protocol() {
    keeps_the_contract_with_lines_buffered(&Participant::asyncio("protocol"));
}

#[test]
fn asyncio_streams() {
    keeps_the_contract(&Participant::asyncio("streams"));
}

#[test]
fn uvloop_protocol() {
    keeps_the_contract_with_lines_buffered(&Participant::uvloop("protocol"));
}

#[test]
fn uvloop_streams() {
    keeps_the_contract(&Participant::uvloop("streams"));
}

#[test]
fn bare() {
    keeps_the_contract(&Participant::built("serve_bare", &[]));
}

#[test]
fn mio() {
    keeps_the_contract(&Participant::built("serve_mio", &[]));
}

#[test]
fn evloop_protocol() {
    keeps_the_contract(&Participant::built("serve_evloop", &["--api", "protocol"]));
}

#[test]
fn evloop_streams() {
    keeps_the_contract(&Participant::built("serve_evloop", &["--api", "streams"]));
}

#[test]
fn evloop_streams_into() {
    let into = Participant::built("serve_evloop", &["--api", "streams-into"]);
    keeps_the_contract(&into);
}
