//! Connections that live for one echo: connect, send, receive, close, again.

use std::io::{self, Read, Write};
use std::time::Instant;

use evloop_benches::tls::Link;

use crate::cells::CHURN;
use crate::load::pattern::Pattern;
use crate::load::wire::{Origin, Target, Wire, now};
use crate::load::{Check, Histogram, Load, Until, wrong};

pub struct Churn {
    server: Target,
    pattern: Pattern,
    wire: Wire,
    lives: Vec<Option<Life>>,
}

/// A connection and how far its only echo is.
struct Life {
    socket: Link,
    sent: bool,
    received: usize,
}

impl Churn {
    pub fn new(server: Target, connections: usize) -> io::Result<Self> {
        Ok(Self {
            server,
            pattern: Pattern::plain(CHURN),
            wire: Wire::new()?,
            lives: (0..connections).map(|_| None).collect(),
        })
    }

    fn begin(&mut self, index: usize, origin: Origin) -> io::Result<()> {
        let socket = origin.begin_to_connect(&self.server)?;
        self.wire.watch(&socket, index)?;
        self.lives[index] = Some(Life {
            socket,
            sent: false,
            received: 0,
        });
        Ok(())
    }

    /// Goes on with a connection, and says whether its life is over.
    fn advance(&mut self, index: usize, check: Check) -> io::Result<bool> {
        let Some(life) = &mut self.lives[index] else {
            return Ok(false);
        };
        if !life.sent {
            // So few bytes fit into a new socket at once.
            life.sent = now((&life.socket).write(self.pattern.piece(index, 0)))?.is_some();
            return Ok(false);
        }
        // One byte more than is due, to see what is too much.
        let mut buffer = [0; CHURN + 1];
        let Some(count) = now((&life.socket).read(&mut buffer[life.received..]))? else {
            return Ok(false);
        };
        if count == 0 {
            return Err(wrong("the server closed a connection first"));
        }
        let data = &buffer[life.received..life.received + count];
        if check == Check::Contents && !self.pattern.matches(index, life.received, data) {
            return Err(wrong("an answer is not what was sent"));
        }
        life.received += count;
        if life.received > CHURN {
            return Err(wrong("an answer is longer than what was sent"));
        }
        Ok(life.received == CHURN)
    }

    fn batch(&mut self, deadline: Option<Instant>, check: Check) -> io::Result<u64> {
        let origin = Origin::fresh();
        let mut lived = 0;
        let mut busy = self.lives.len();
        for index in 0..busy {
            self.begin(index, origin)?;
        }
        let mut ready = Vec::new();
        while busy > 0 {
            self.wire.wait(&mut ready)?;
            for index in ready.drain(..) {
                if !self.advance(index, check)? {
                    continue;
                }
                if let Some(life) = self.lives[index].take() {
                    life.socket.say_goodbye();
                }
                lived += 1;
                if deadline.is_some_and(|deadline| Instant::now() < deadline) {
                    self.begin(index, origin)?;
                } else {
                    busy -= 1;
                }
            }
        }
        Ok(lived)
    }
}

impl Load for Churn {
    fn open(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn run(&mut self, until: Until, check: Check) -> io::Result<u64> {
        match until {
            Until::Elapsed(time) => self.batch(Some(Instant::now() + time), check),
            Until::Batch => self.batch(None, check),
        }
    }

    fn close(&mut self) {
        self.lives.fill_with(|| None);
    }

    fn times(&mut self) -> Option<&mut Histogram> {
        None
    }
}
