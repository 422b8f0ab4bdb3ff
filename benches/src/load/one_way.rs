//! Bulk in one direction: a connection is used for one transfer, up or down, and checked by its
//! lengths.

use std::io::{self, Read, Write};

use evloop_benches::contract::{CHUNK, COUNT};
use evloop_benches::tls::Link;

use crate::load::wire::{Origin, Target, Wire, now};
use crate::load::{Check, Histogram, Load, SCRATCH, Until, again_until, wrong};

pub struct OneWay {
    server: Target,
    connections: usize,
    /// Bytes that one connection moves.
    share: usize,
    direction: Direction,
    wire: Wire,
    transfers: Vec<Transfer>,
    /// What goes out: a chunk again and again, or the count.
    outgoing: Vec<u8>,
    scratch: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Direction {
    Up,
    Down,
}

struct Transfer {
    socket: Link,
    sent: usize,
    received: usize,
    /// The first bytes that came: after an upload, the server's count.
    head: [u8; COUNT],
    ended: bool,
}

impl OneWay {
    pub fn upload(server: Target, connections: usize, share: usize) -> io::Result<Self> {
        Self::new(server, connections, share, Direction::Up, vec![0; CHUNK])
    }

    pub fn download(server: Target, connections: usize, share: usize) -> io::Result<Self> {
        let count = (share as u64).to_le_bytes().to_vec();
        Self::new(server, connections, share, Direction::Down, count)
    }

    fn new(
        server: Target,
        connections: usize,
        share: usize,
        direction: Direction,
        outgoing: Vec<u8>,
    ) -> io::Result<Self> {
        Ok(Self {
            server,
            connections,
            share,
            direction,
            wire: Wire::new()?,
            transfers: Vec::new(),
            outgoing,
            scratch: vec![0; SCRATCH],
        })
    }

    /// Bytes that go out in all.
    fn to_send(&self) -> usize {
        match self.direction {
            Direction::Up => self.share,
            Direction::Down => COUNT,
        }
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let to_send = self.to_send();
        let transfer = &mut self.transfers[index];
        if transfer.sent == to_send {
            return Ok(());
        }
        while transfer.sent < to_send {
            let begin = transfer.sent % self.outgoing.len();
            let end = self.outgoing.len().min(begin + to_send - transfer.sent);
            match now((&transfer.socket).write(&self.outgoing[begin..end]))? {
                Some(count) => transfer.sent += count,
                None => return Ok(()),
            }
        }
        match self.direction {
            Direction::Up => transfer.socket.finish(),
            Direction::Down => Ok(()),
        }
    }

    fn receive(&mut self, index: usize) -> io::Result<()> {
        let transfer = &mut self.transfers[index];
        while let Some(count) = now((&transfer.socket).read(&mut self.scratch))? {
            if count == 0 {
                transfer.ended = true;
                break;
            }
            if transfer.received < COUNT {
                let length = count.min(COUNT - transfer.received);
                transfer.head[transfer.received..][..length]
                    .copy_from_slice(&self.scratch[..length]);
            }
            transfer.received += count;
        }
        Ok(())
    }

    /// Whether the server did what was asked for.
    fn judge(&self, transfer: &Transfer) -> io::Result<()> {
        let right = match self.direction {
            Direction::Up => {
                transfer.received == COUNT
                    && u64::from_le_bytes(transfer.head) == transfer.sent as u64
                    && transfer.sent == self.share
            }
            Direction::Down => transfer.received == self.share,
        };
        if right {
            Ok(())
        } else {
            Err(wrong(
                "a transfer came to an end with bytes missing or too many",
            ))
        }
    }

    fn batch(&mut self) -> io::Result<u64> {
        self.open()?;
        let mut busy = self.transfers.len();
        for index in 0..busy {
            self.send(index)?;
        }
        let mut ready = Vec::new();
        while busy > 0 {
            self.wire.wait(&mut ready)?;
            for index in ready.drain(..) {
                if self.transfers[index].ended {
                    continue;
                }
                self.receive(index)?;
                if self.transfers[index].ended {
                    self.judge(&self.transfers[index])?;
                    busy -= 1;
                } else {
                    self.send(index)?;
                }
            }
        }
        self.transfers.clear();
        Ok((self.share * self.connections) as u64)
    }
}

impl Load for OneWay {
    fn open(&mut self) -> io::Result<()> {
        if !self.transfers.is_empty() {
            return Ok(());
        }
        let origin = Origin::fresh();
        for index in 0..self.connections {
            let socket = origin.connect(&self.server)?;
            self.wire.watch(&socket, index)?;
            self.transfers.push(Transfer {
                socket,
                sent: 0,
                received: 0,
                head: [0; COUNT],
                ended: false,
            });
        }
        Ok(())
    }

    fn run(&mut self, until: Until, _: Check) -> io::Result<u64> {
        match until {
            Until::Elapsed(time) => again_until(time, || self.batch()),
            Until::Batch => self.batch(),
        }
    }

    fn close(&mut self) {
        self.transfers.clear();
    }

    fn times(&mut self) -> Option<&mut Histogram> {
        None
    }
}
