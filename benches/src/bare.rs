//! One connection of a server without a runtime: what the bare loops do when it is ready.
//!
//! The bare epoll loop and the bare mio loop differ in how they learn of readiness, not in what
//! they do about it. Both are told of edges, so both read until there is nothing left. A read
//! that did not fill the buffer has emptied the socket; when the event says that the peer is done
//! we read on all the same, because the end may have come with these very bytes.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};

use crate::contract::{self, COUNT, Work};

/// What is left of a connection after it was served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// It waits for the next edge.
    Open,
    /// It is over: drop it.
    Over,
}

/// A connection and what it is in the middle of.
pub struct Connection<S> {
    stream: S,
    duty: Duty,
    /// What could not be sent yet; empty nearly always.
    unsent: Vec<u8>,
}

enum Duty {
    Echo,
    /// The beginning of a line whose end has not come yet.
    Lines {
        partial: Vec<u8>,
    },
    Upload {
        received: u64,
    },
    /// The count that is coming in, and then what is left to send of it.
    Request {
        count: [u8; COUNT],
        filled: usize,
    },
    Download {
        left: u64,
    },
    /// Everything is written; it closes when everything is sent.
    Closing,
}

impl<S: Read + Write> Connection<S> {
    pub fn new(stream: S, work: Work) -> Self {
        let duty = match work {
            Work::Echo => Duty::Echo,
            Work::Lines | Work::LinesBuffered => Duty::Lines {
                partial: Vec::new(),
            },
            Work::Upload => Duty::Upload { received: 0 },
            Work::Download => Duty::Request {
                count: [0; COUNT],
                filled: 0,
            },
        };
        Self {
            stream,
            duty,
            unsent: Vec::new(),
        }
    }

    /// Does what can be done now. `buffer` is the loop's, lent; `closed` says that the peer will
    /// send no more.
    pub fn serve(&mut self, buffer: &mut [u8], closed: bool) -> Progress {
        // What breaks a connection ends it: there is nobody to tell.
        self.try_serve(buffer, closed).unwrap_or(Progress::Over)
    }

    fn try_serve(&mut self, buffer: &mut [u8], closed: bool) -> io::Result<Progress> {
        loop {
            if !self.flush()? {
                return Ok(Progress::Open);
            }
            if matches!(self.duty, Duty::Closing) {
                return Ok(Progress::Over);
            }
            let received = match self.stream.read(buffer) {
                Ok(0) => {
                    self.end_received()?;
                    continue;
                }
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Progress::Open),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.received(&buffer[..received])?;
            let emptied = received < buffer.len() && !closed;
            if emptied && !matches!(self.duty, Duty::Download { .. } | Duty::Closing) {
                return Ok(Progress::Open);
            }
        }
    }

    fn received(&mut self, data: &[u8]) -> io::Result<()> {
        match &mut self.duty {
            Duty::Echo => self.send(data),
            Duty::Lines { .. } => {
                self.answer_lines(data);
                self.flush().map(drop)
            }
            Duty::Upload { received } => {
                *received += data.len() as u64;
                Ok(())
            }
            Duty::Request { count, filled } => {
                let part = data.len().min(COUNT - *filled);
                count[*filled..*filled + part].copy_from_slice(&data[..part]);
                *filled += part;
                if *filled == COUNT {
                    let left = u64::from_le_bytes(*count);
                    self.duty = Duty::Download { left };
                }
                Ok(())
            }
            Duty::Download { .. } | Duty::Closing => Ok(()),
        }
    }

    fn end_received(&mut self) -> io::Result<()> {
        if let Duty::Upload { received } = self.duty {
            self.send(&received.to_le_bytes())?;
        }
        self.duty = Duty::Closing;
        Ok(())
    }

    /// Each line is answered with itself; all answers of one read leave together.
    fn answer_lines(&mut self, data: &[u8]) {
        let Duty::Lines { partial } = &mut self.duty else {
            return;
        };
        let mut rest = data;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end + 1);
            self.unsent.append(partial);
            self.unsent.extend_from_slice(line);
            rest = after;
        }
        partial.extend_from_slice(rest);
    }

    /// Sends at once what fits, and keeps the rest.
    fn send(&mut self, data: &[u8]) -> io::Result<()> {
        let sent = write_some(&mut self.stream, data)?;
        self.unsent.extend_from_slice(&data[sent..]);
        Ok(())
    }

    /// Sends what waits. False when the socket takes no more for now.
    fn flush(&mut self) -> io::Result<bool> {
        if let Duty::Download { left } = &mut self.duty {
            while *left > 0 {
                let chunk = contract::chunk(*left);
                let sent = write_some(&mut self.stream, chunk)?;
                *left -= sent as u64;
                if sent < chunk.len() {
                    return Ok(false);
                }
            }
            self.duty = Duty::Closing;
        }
        if self.unsent.is_empty() {
            return Ok(true);
        }
        let sent = write_some(&mut self.stream, &self.unsent)?;
        self.unsent.drain(..sent);
        Ok(self.unsent.is_empty())
    }
}

/// Writes until everything is written or the socket takes no more, and says how much it was.
fn write_some(stream: &mut impl Write, data: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < data.len() {
        match stream.write(&data[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
