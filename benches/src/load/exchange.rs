//! Connections that send something and get it back: messages, lines, and bulk in both directions.

use std::io::{self, Read, Write};
use std::time::Instant;

use evloop_benches::tls::Link;

use crate::cells::{LINE, LINES};
use crate::load::pattern::Pattern;
use crate::load::wire::{Origin, Target, Wire, now};
use crate::load::{Check, Histogram, Load, ROUND_TRIPS, SCRATCH, Until, again_until, wrong};

/// Bytes after which a bulk message repeats, and of one write of it.
const BULK_PERIOD: usize = 64 * 1024;

pub struct Exchange {
    server: Target,
    connections: usize,
    /// Bytes that go out and come back before a connection begins anew.
    size: usize,
    /// Operations that this is.
    operations: u64,
    pattern: Pattern,
    wire: Wire,
    flights: Vec<Flight>,
    scratch: Vec<u8>,
    /// Nothing in a bulk cell.
    times: Option<Histogram>,
}

/// A connection and how far its exchange is.
struct Flight {
    socket: Link,
    began: Instant,
    sent: usize,
    received: usize,
}

impl Exchange {
    pub fn messages(
        server: Target,
        connections: usize,
        bytes: usize,
        pipelined: usize,
    ) -> io::Result<Self> {
        let size = bytes * pipelined;
        let mut new = Self::new(server, connections, size, Pattern::plain(size))?;
        new.operations = pipelined as u64;
        new.times = Some(Histogram::default());
        Ok(new)
    }

    pub fn lines(server: Target, connections: usize) -> io::Result<Self> {
        let mut new = Self::new(server, connections, LINES * LINE, Pattern::lines())?;
        new.operations = LINES as u64;
        new.times = Some(Histogram::default());
        Ok(new)
    }

    /// An operation is a byte; `share` of them go over each connection.
    pub fn bulk(server: Target, connections: usize, share: usize) -> io::Result<Self> {
        Self::new(server, connections, share, Pattern::plain(BULK_PERIOD))
    }

    fn new(server: Target, connections: usize, size: usize, pattern: Pattern) -> io::Result<Self> {
        Ok(Self {
            server,
            connections,
            size,
            operations: size as u64,
            pattern,
            wire: Wire::new()?,
            flights: Vec::new(),
            scratch: vec![0; SCRATCH],
            times: None,
        })
    }

    fn is_bulk(&self) -> bool {
        self.times.is_none()
    }

    fn begin(&mut self, index: usize, began: Instant) -> io::Result<()> {
        let flight = &mut self.flights[index];
        (flight.began, flight.sent, flight.received) = (began, 0, 0);
        self.send(index)
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let flight = &mut self.flights[index];
        while flight.sent < self.size {
            let piece = self.pattern.piece(index, flight.sent);
            let piece = &piece[..piece.len().min(self.size - flight.sent)];
            match now((&flight.socket).write(piece))? {
                Some(count) => flight.sent += count,
                None => break,
            }
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, check: Check) -> io::Result<()> {
        let flight = &mut self.flights[index];
        while flight.received < self.size {
            let Some(count) = now((&flight.socket).read(&mut self.scratch))? else {
                break;
            };
            if count == 0 {
                return Err(wrong("the server closed a connection"));
            }
            let data = &self.scratch[..count];
            if check == Check::Contents && !self.pattern.matches(index, flight.received, data) {
                return Err(wrong("an answer is not what was sent"));
            }
            flight.received += count;
            if flight.received > flight.sent {
                return Err(wrong("an answer is longer than what was sent"));
            }
            if count < self.scratch.len() {
                break;
            }
        }
        Ok(())
    }

    /// One pass over all connections; with a deadline all of them go on until then, and until
    /// there were [`ROUND_TRIPS`] for each.
    fn batch(&mut self, deadline: Option<Instant>, check: Check) -> io::Result<u64> {
        let mut exchanges = 0;
        let least = self.flights.len() as u64 * ROUND_TRIPS;
        let mut busy = self.flights.len();
        for index in 0..busy {
            self.begin(index, Instant::now())?;
        }
        let mut ready = Vec::new();
        while busy > 0 {
            self.wire.wait(&mut ready)?;
            for index in ready.drain(..) {
                if self.flights[index].received == self.size {
                    // It is done, and the edge was that of room to send.
                    continue;
                }
                self.receive(index, check)?;
                let flight = &self.flights[index];
                if flight.received < self.size {
                    self.send(index)?;
                    continue;
                }
                exchanges += 1;
                let time = Instant::now();
                if let Some(times) = &mut self.times {
                    times.record(time - flight.began);
                }
                if deadline.is_some_and(|deadline| time < deadline || exchanges < least) {
                    self.begin(index, time)?;
                } else {
                    busy -= 1;
                }
            }
        }
        Ok(exchanges * self.operations)
    }
}

impl Load for Exchange {
    fn open(&mut self) -> io::Result<()> {
        if !self.flights.is_empty() {
            return Ok(());
        }
        let origin = Origin::fresh();
        for index in 0..self.connections {
            let socket = origin.connect(&self.server)?;
            self.wire.watch(&socket, index)?;
            self.flights.push(Flight {
                socket,
                began: Instant::now(),
                sent: 0,
                received: 0,
            });
        }
        if !self.is_bulk() {
            // Once around: every connection is accepted, and buffers are there, before time counts.
            let times = self.times.take();
            self.batch(None, Check::Contents)?;
            self.times = times;
        }
        Ok(())
    }

    fn run(&mut self, until: Until, check: Check) -> io::Result<u64> {
        match until {
            // A batch of bulk is long: whole ones only.
            Until::Elapsed(time) if self.is_bulk() => again_until(time, || self.batch(None, check)),
            Until::Elapsed(time) => self.batch(Some(Instant::now() + time), check),
            Until::Batch => self.batch(None, check),
        }
    }

    fn close(&mut self) {
        self.flights.clear();
    }

    fn times(&mut self) -> Option<&mut Histogram> {
        self.times.as_mut()
    }
}
