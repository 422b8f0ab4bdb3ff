//! What a connection costs that does nothing: resident bytes of the server.
//!
//! Each connection has been used once before it rests, so buffers that stay are counted.

use std::io;

use evloop_benches::contract::Transport;

use crate::cells::{Cell, Shape};
use crate::load::{self, Check, Until};
use crate::participants::{Participant, Takes};
use crate::processors::Processors;
use crate::programs::Programs;
use crate::results::Idle;
use crate::server_process::{Launch, ServerProcess};

/// Connections that come before the first look, so that what is made once is made already.
const FIRST: usize = 200;

/// Connections that are counted, where the descriptor limit allows.
const COUNTED: usize = 10_000;

/// Measures everybody who can be started.
pub fn measure(
    participants: &[Participant],
    programs: &Programs,
    processors: &Processors,
    descriptors: usize,
    left_out: &mut Vec<String>,
) -> Vec<Idle> {
    let connections = COUNTED.min(descriptors.saturating_sub(2 * FIRST));
    if connections < COUNTED {
        left_out.push(format!(
            "Idle connections are {connections}, not {COUNTED}: the limit of descriptors is {descriptors}."
        ));
    }
    let mut results = Vec::new();
    for participant in participants {
        if participant.takes != Takes::Everything {
            continue;
        }
        match one(participant, programs, processors, connections) {
            Ok(bytes) => results.push(Idle {
                participant: participant.name.to_owned(),
                connections,
                bytes,
            }),
            Err(reason) => {
                left_out.push(format!("{}, idle connections: {reason}.", participant.name));
            }
        }
    }
    results
}

fn one(
    participant: &Participant,
    programs: &Programs,
    processors: &Processors,
    connections: usize,
) -> Result<f64, String> {
    let shape = Shape::Echo {
        bytes: 64,
        pipelined: 1,
    };
    let transport = Transport::Tcp;
    let command_line = programs.command_line(participant, transport, shape)?;
    let launch = Launch::plain(processors.server, command_line);
    let grown = || -> io::Result<u64> {
        let server = ServerProcess::start(&launch)?;
        let idle = |connections| -> io::Result<_> {
            let cell = Cell {
                name: String::new(),
                transport,
                connections,
                shape,
                quick: false,
            };
            let mut load = load::of(&cell, &server.address, 0)?;
            load.open()?;
            load.run(Until::Batch, Check::Contents)?;
            server.settled_cpu()?;
            Ok((load, server.resident()?))
        };
        let (first, before) = idle(FIRST)?;
        let (rest, after) = idle(connections)?;
        drop((first, rest));
        Ok(after.saturating_sub(before))
    };
    let grown = grown().map_err(|error| error.to_string())?;
    Ok(grown as f64 / connections as f64)
}
