//! The protocol behind a stream.
//!
//! Owns: [`StreamReaderProtocol`]. Why: streams stand on transports by their public side only,
//! as any protocol of a user's. Invariants: it holds the side of the reader that is fed, so the
//! reader may wait, or be gone. asyncio's counterpart: `asyncio.StreamReaderProtocol`.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::streams::callback::ClientConnectedCb;
use crate::streams::feeder::StreamFeeder;
use crate::streams::reader::StreamReader;
use crate::streams::state::StreamState;
use crate::streams::writer::StreamWriter;
use crate::transports::{Protocol, Transport};

/// Feeds a [`StreamReader`] from a transport. Mirrors `asyncio.StreamReaderProtocol`.
///
/// With a callback, as a server has it, the reader and a writer are handed to the callback when
/// the connection is there. Without one they are taken with
/// [`take_reader`](Self::take_reader) and [`StreamWriter::new`]. `open_connection` is no more
/// than this:
///
/// ```
/// use std::io;
///
/// use evloop::{
///     Endpoint, StreamReader, StreamReaderProtocol, StreamWriter, create_connection,
/// };
///
/// async fn open_connection(
///     endpoint: impl Into<Endpoint>,
/// ) -> io::Result<(StreamReader, StreamWriter)> {
///     let factory = || StreamReaderProtocol::new(StreamReader::new(), None);
///     let (transport, protocol) = create_connection(factory, endpoint).await?;
///     let writer = StreamWriter::new(transport, &protocol.borrow());
///     let reader = protocol.borrow_mut().take_reader().unwrap();
///     Ok((reader, writer))
/// }
/// ```
pub struct StreamReaderProtocol {
    feeder: StreamFeeder,
    /// Until it is handed to the callback, or taken.
    reader: Option<StreamReader>,
    callback: Option<ClientConnectedCb>,
}

impl StreamReaderProtocol {
    /// A protocol that feeds `reader`, and hands it to the callback if there is one. Mirrors
    /// `StreamReaderProtocol(stream_reader, client_connected_cb)`.
    pub fn new(reader: StreamReader, client_connected_cb: Option<ClientConnectedCb>) -> Self {
        Self {
            feeder: reader.feeder(),
            reader: Some(reader),
            callback: client_connected_cb,
        }
    }

    /// The reader, once, unless a callback has it.
    pub fn take_reader(&mut self) -> Option<StreamReader> {
        self.reader.take()
    }

    pub(crate) fn state(&self) -> &Rc<StreamState> {
        self.feeder.state()
    }
}

// Here, since a writer need not know what feeds its reader.
impl StreamWriter {
    /// A writer on a transport whose protocol is `protocol`. Mirrors
    /// `StreamWriter(transport, protocol, reader, loop)`.
    pub fn new(transport: Transport, protocol: &StreamReaderProtocol) -> Self {
        Self::on(transport, Rc::clone(protocol.state()))
    }
}

impl Protocol for StreamReaderProtocol {
    fn connection_made(&mut self, transport: Transport) {
        // A reader that was given a transport before keeps it.
        let _ = self.feeder.set_transport(transport.clone());
        if let Some(callback) = self.callback.take() {
            let writer = StreamWriter::new(transport, self);
            if let Some(reader) = self.reader.take() {
                callback.call(reader, writer);
            }
        }
    }

    fn data_received(&mut self, data: &[u8]) {
        // A transport delivers nothing after its end.
        let _ = self.feeder.feed_data(data);
    }

    fn data_handed_over(&mut self, data: Vec<u8>) {
        let _ = self.state().feed_owned(data);
    }

    fn eof_received(&mut self) -> bool {
        self.feeder.feed_eof();
        true
    }

    fn connection_lost(&mut self, exc: Option<Arc<io::Error>>) {
        self.state().connection_lost(exc);
    }

    fn resume_writing(&mut self) {
        self.state().resume_writing();
    }
}

impl fmt::Debug for StreamReaderProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReaderProtocol")
            .finish_non_exhaustive()
    }
}
