//! The echo itself, with both faces of the library.

use std::io;
use std::sync::Arc;

use evloop::{Protocol, StreamReader, StreamWriter, Transport};

use crate::proxy;
use crate::stats::{Counted, Tally};

// The streams API.

/// A connection that breaks is logged by the library, and there is nobody else to tell.
pub(crate) async fn echo(mut reader: StreamReader, writer: StreamWriter, tally: Arc<Tally>) {
    let mut counted = Counted::new(tally);
    proxy::note(writer.transport());
    loop {
        // What was read is gone before we wait: the writer has what is not sent yet.
        match reader.read(READ_SIZE).await {
            Ok(data) if !data.is_empty() => {
                writer.write(&data);
                counted.echoed(data.len(), writer.transport());
            }
            _ => break,
        }
        if writer.drain().await.is_err() {
            break;
        }
        counted.look_at(writer.transport());
    }
    // Once everything is sent.
    writer.close();
    // Why it is over says the transport, whether it broke or not.
    let _ = writer.wait_closed().await;
    counted.closed(writer.transport());
}

// The protocol API.

pub(crate) struct Echo {
    limit: usize,
    counted: Counted,
    transport: Option<Transport>,
}

impl Echo {
    pub(crate) fn factory(limit: usize, tally: Arc<Tally>) -> impl FnMut() -> Self {
        move || Self {
            limit,
            counted: Counted::new(Arc::clone(&tally)),
            transport: None,
        }
    }
}

impl Protocol for Echo {
    fn connection_made(&mut self, transport: Transport) {
        proxy::note(&transport);
        // The low mark follows from the high one, so the two cannot contradict each other.
        let _ = transport.set_write_buffer_limits(self.limit, None);
        self.transport = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        if let Some(transport) = &self.transport {
            transport.write(data);
            self.counted.echoed(data.len(), transport);
        }
    }

    fn eof_received(&mut self) -> bool {
        // Close once everything is sent.
        false
    }

    fn pause_writing(&mut self) {
        if let Some(transport) = &self.transport {
            transport.pause_reading();
        }
    }

    fn resume_writing(&mut self) {
        if let Some(transport) = &self.transport {
            self.counted.look_at(transport);
            transport.resume_reading();
        }
    }

    fn connection_lost(&mut self, _: Option<Arc<io::Error>>) {
        if let Some(transport) = self.transport.take() {
            self.counted.closed(&transport);
        }
    }
}

/// Read at most so much at once: what the write buffer may hold above its high-water mark.
const READ_SIZE: usize = 64 * 1024;
