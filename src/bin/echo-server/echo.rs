//! The echo itself, with both faces of the library.

use evloop::{Protocol, StreamReader, StreamWriter, Transport};

use crate::proxy;

// The streams API.

/// A connection that breaks is logged by the library, and there is nobody else to tell.
pub(crate) async fn echo(mut reader: StreamReader, writer: StreamWriter) {
    proxy::note(writer.transport());
    loop {
        // What was read is gone before we wait: the writer has what is not sent yet.
        match reader.read(READ_SIZE).await {
            Ok(data) if !data.is_empty() => writer.write(&data),
            _ => break,
        }
        if writer.drain().await.is_err() {
            break;
        }
    }
    // Once everything is sent.
    writer.close();
}

// The protocol API.

pub(crate) struct Echo {
    limit: usize,
    transport: Option<Transport>,
}

impl Echo {
    pub(crate) fn factory(limit: usize) -> impl FnMut() -> Self {
        move || Self {
            limit,
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
            transport.resume_reading();
        }
    }
}

/// Read at most so much at once: what the write buffer may hold above its high-water mark.
const READ_SIZE: usize = 64 * 1024;
