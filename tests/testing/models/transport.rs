//! What a transport promises to its protocol and to its user, in its own tables of states.
//!
//! The model is told of everything that is done to a transport and of every call of its protocol,
//! and takes the steps that follow from them. It complains about what cannot happen by the tables, and
//! about what the tables do not say: which bytes come, when the end is in good order, how flow control
//! alternates.

use evloop::testing::{Next, StateMachine, state_machines};

use crate::models::walked::Walked;
use crate::models::watch::{Judgement, complain_if};

/// One end of a connection, as it has to be.
pub(crate) struct Transport {
    pub(crate) life: State,
    read: State,
    write: State,
    /// No fault of the network's breaks this connection.
    calm: bool,
    made: bool,
    pub(crate) ended: bool,
    aborted: bool,
    /// `eof_received` has said so. `pause_writing` may still come before it is closed.
    about_to_close: bool,
    /// It was lost, and nobody here had asked for it.
    broke: bool,
    write_paused: bool,
    /// How many bytes were written before it was closed, and behind that.
    sent: usize,
    sent_late: usize,
    received: usize,
}

/// A state, and the table that it follows.
pub(crate) struct State {
    machine: StateMachine,
    name: String,
    walked: Walked,
}

impl State {
    pub(crate) fn first_of(machine: &str, walked: &Walked) -> Self {
        let machines = state_machines().into_iter();
        let machine = { machines }.find(|one| one.name() == machine).unwrap();
        let name = machine.states()[0].0.clone();
        let walked = walked.clone();
        Self {
            machine,
            name,
            walked,
        }
    }

    pub(crate) fn step(&mut self, event: &str) -> Judgement {
        let machine = self.machine.name();
        self.walked.note(machine, &self.name, event);
        match self.machine.next(&self.name, event) {
            Next::To(next) => self.name = next.to_owned(),
            Next::Stays => {}
            Next::Never => return Err(format!("{machine}: {event} in {}", self.name)),
        }
        Ok(())
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.name == name
    }
}

/// What a transport says of itself.
pub(crate) struct Answers {
    pub(crate) is_closing: bool,
    pub(crate) is_reading: bool,
    pub(crate) unsent: usize,
    pub(crate) high: usize,
}

impl Transport {
    pub(crate) fn new(calm: bool, walked: &Walked) -> Self {
        Self {
            life: State::first_of("Life", walked),
            read: State::first_of("ReadSide", walked),
            write: State::first_of("WriteSide", walked),
            calm,
            made: false,
            ended: false,
            aborted: false,
            about_to_close: false,
            broke: false,
            write_paused: false,
            sent: 0,
            sent_late: 0,
            received: 0,
        }
    }

    // What is done to it.

    /// A write is to be refused.
    pub(crate) fn refuses(&self) -> bool {
        !self.write.is("Open")
    }

    /// How many bytes were written so far, lost ones left out.
    pub(crate) fn written(&self) -> usize {
        self.sent + self.sent_late
    }

    pub(crate) fn received(&self) -> usize {
        self.received
    }

    pub(crate) fn write(&mut self, size: usize) {
        match self.life.name.as_str() {
            "Open" => self.sent += size,
            // It may have been flushed meanwhile, of which nobody is told; then they are in vain.
            "Flushing" => self.sent_late += size,
            _ => {}
        }
    }

    pub(crate) fn write_eof(&mut self, unsent: bool) -> Judgement {
        if self.life.is("Open") && self.write.is("Open") {
            let event = if unsent { "FinishUnsent" } else { "Finish" };
            self.write.step(event)?;
        }
        Ok(())
    }

    pub(crate) fn close(&mut self, unsent: bool) -> Judgement {
        self.about_to_close = false;
        let event = if unsent { "CloseUnsent" } else { "Close" };
        self.life.step(event)
    }

    /// It is closed when `eof_received` has returned.
    pub(crate) fn close_soon(&mut self) {
        self.about_to_close = self.life.is("Open");
    }

    pub(crate) fn abort(&mut self) -> Judgement {
        self.aborted |= self.is_alive();
        self.about_to_close = false;
        self.life.step("Lose")
    }

    pub(crate) fn pause_reading(&mut self) -> Judgement {
        self.if_open(|read| read.step("Pause"))
    }

    pub(crate) fn resume_reading(&mut self) -> Judgement {
        self.if_open(|read| read.step("Resume"))
    }

    fn if_open(&mut self, f: impl FnOnce(&mut State) -> Judgement) -> Judgement {
        match self.life.is("Open") {
            true => f(&mut self.read),
            false => Ok(()),
        }
    }

    fn is_open(&self) -> bool {
        self.life.is("Open") && !self.about_to_close
    }

    /// Neither lost nor about to be, as far as is known.
    fn is_alive(&self) -> bool {
        self.life.is("Open") || self.life.is("Flushing")
    }

    // What its protocol is told.

    pub(crate) fn connection_made(&mut self) -> Judgement {
        complain_if(self.made, "connection_made comes once")?;
        self.made = true;
        Ok(())
    }

    /// The same has returned. (Reading begins a moment later; until then nothing tells them apart.)
    pub(crate) fn begin(&mut self) -> Judgement {
        self.read.step("Begin")
    }

    pub(crate) fn data_received(&mut self, size: usize, peer: &Self) -> Judgement {
        complain_if(size == 0, "no bytes were received")?;
        complain_if(!self.is_open(), "bytes for one that is closing")?;
        complain_if(!self.read.is("Flowing"), "bytes while nothing is read")?;
        complain_if(self.ended, "bytes behind the end")?;
        self.received += size;
        complain_if(self.received > peer.written(), "more than was written")
    }

    /// `early`: the network has ended something by itself.
    pub(crate) fn eof_received(&mut self, peer: &Self, early: bool) -> Judgement {
        complain_if(!self.is_open(), "an end for one that is closing")?;
        complain_if(!self.read.is("Flowing"), "an end while nothing is read")?;
        complain_if(self.ended, "a second end")?;
        self.read.step("End")?;
        self.ended = true;
        let in_order = peer.refuses() || !peer.is_open();
        complain_if(!in_order && !early, "an end that nobody has made")?;
        let all = self.received >= peer.sent || peer.aborted || peer.broke || early;
        complain_if(!all, "the end came before the last bytes")
    }

    pub(crate) fn pause_writing(&mut self) -> Judgement {
        complain_if(!self.is_alive(), "pause_writing of a lost connection")?;
        complain_if(self.write_paused, "pause_writing twice")?;
        self.write_paused = true;
        Ok(())
    }

    pub(crate) fn resume_writing(&mut self) -> Judgement {
        complain_if(!self.is_alive(), "resume_writing of a lost connection")?;
        complain_if(!self.write_paused, "resume_writing without a pause")?;
        self.write_paused = false;
        Ok(())
    }

    pub(crate) fn connection_lost(&mut self, error: bool, peer: &Self) -> Judgement {
        complain_if(!self.made, "connection_lost before connection_made")?;
        if self.about_to_close {
            // Whether everything was sent by then, nobody knows.
            self.close(true)?;
        }
        if self.is_alive() && error {
            self.break_off(peer)?;
        }
        complain_if(
            self.life.is("Open"),
            "connection_lost(None), and nobody has closed",
        )?;
        let by_itself = self.life.is("Flushing");
        if by_itself {
            self.life.step("Flushed")?;
        }
        complain_if(error != self.broke, "connection_lost tells another story")?;
        self.life.step("Deliver")
    }

    // What it says.

    /// Nobody here has done it: so the network must have, or the other end.
    fn break_off(&mut self, peer: &Self) -> Judgement {
        self.broke = true;
        let why = self.calm && peer.is_open();
        complain_if(why, "a connection that nobody has broken broke")?;
        self.life.step("Lose")
    }

    /// Compares what it says with what it should. That it is lost may be seen here first.
    pub(crate) fn compare(&mut self, says: &Answers, peer: &Self) -> Judgement {
        if says.is_closing && self.about_to_close {
            self.close(true)?;
        }
        if says.is_closing && self.life.is("Open") {
            self.break_off(peer)?;
        }
        complain_if(
            says.is_closing == self.life.is("Open"),
            "is_closing() is wrong",
        )?;
        let paused = ["WaitingPaused", "Paused", "EndedPaused"].map(|name| self.read.is(name));
        let reading = self.life.is("Open") && !paused.contains(&true);
        complain_if(says.is_reading != reading, "is_reading() is wrong")?;
        complain_if(!self.is_alive() && says.unsent > 0, "a husk has bytes")?;
        let most = self.written() - peer.received.min(self.written());
        complain_if(says.unsent > most, "more is unsent than was written")
    }

    /// The same at the beginning of a step, when everything was told that had to be.
    pub(crate) fn compare_flow(&self, says: &Answers) -> Judgement {
        let full = self.life.is("Open") && says.unsent > says.high;
        complain_if(full && !self.write_paused, "full, and nobody was told")
    }

    /// The same when everything is sent and nothing more is to come.
    pub(crate) fn compare_rest(&self) -> Judgement {
        let stuck = self.life.is("Open") && self.write_paused;
        complain_if(stuck, "empty, and nobody was told")
    }
}
