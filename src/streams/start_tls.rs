//! TLS on a stream that is in use.
//!
//! Owns: [`StartStreamTls`]. Why: the reader and the writer stay the same, and from here on what
//! goes through them is encrypted. Invariants: what is written before is sent before; bytes that the
//! reader has, and nobody has read, are a server's beginning of the handshake, and a client's reason
//! to refuse. asyncio's counterpart: `StreamWriter.start_tls`.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;

use crate::event_loop::loop_of;
use crate::streams::writer::StreamWriter;
use crate::tasks::timeout;
use crate::tls::{TlsContext, TlsError, Upgrade, begin, check_open, upgrade_setters};
use crate::transports::CloseOnDrop;

impl StreamWriter {
    /// Encrypts the connection from here on: the reader and this writer go on, when the handshake
    /// is done. Mirrors `StreamWriter.start_tls`.
    ///
    /// The context says which side we are; asyncio concludes it from how the stream was made. What
    /// was written is drained first, for which there is as much time as for the handshake behind it.
    /// Do not read meanwhile: what comes belongs to the handshake. Bytes that were received and not
    /// read (a client may send its first message together with the command that asks for TLS) are
    /// taken for the beginning of the handshake by a server. A client refuses them: it speaks first,
    /// so somebody has put them in.
    ///
    /// Dropping the future ends the connection at once.
    ///
    /// ```
    /// use std::io;
    ///
    /// use evloop::{StreamReader, StreamWriter, TlsServerContext};
    ///
    /// async fn serve(
    ///     reader: &mut StreamReader,
    ///     writer: &mut StreamWriter,
    ///     context: &TlsServerContext,
    /// ) -> io::Result<()> {
    ///     while reader.readline().await? != b"STARTTLS\n" {
    ///         writer.write(b"say STARTTLS first\n");
    ///     }
    ///     writer.write(b"go ahead\n");
    ///     writer.start_tls(context).await?;
    ///     writer.write(b"now nobody else can read this\n");
    ///     writer.drain().await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TlsError`]s, as `io::Error`; those of [`drain`](Self::drain). The connection is closed
    /// then, as a rule: not for `InvalidInput`, for what cannot be meant, nor for
    /// [`TlsError::BytesBefore`].
    pub fn start_tls(&mut self, context: impl Into<TlsContext>) -> StartStreamTls<'_> {
        StartStreamTls {
            writer: self,
            upgrade: Upgrade::new(context.into()),
        }
    }
}

/// An encryption to be begun: awaiting it begins it. Made by [`StreamWriter::start_tls`].
#[must_use = "nothing happens until it is awaited"]
pub struct StartStreamTls<'a> {
    writer: &'a mut StreamWriter,
    upgrade: Upgrade,
}

impl StartStreamTls<'_> {
    upgrade_setters!();

    async fn run(self) -> io::Result<()> {
        let Self { writer, upgrade } = self;
        let transport = writer.transport().clone();
        let handle = loop_of(transport.core().handle().number())?;
        let is_client = upgrade.is_client();
        let limit = upgrade.times.handshake();
        let prepared = upgrade.prepare(&handle).await?;
        let given_up = CloseOnDrop::aborting(&transport);
        let Ok(drained) = timeout(limit, writer.drain()).await else {
            return Err(TlsError::HandshakeTimeout(limit).into_io(true));
        };
        given_up.disarm();
        drained?;
        check_open(&transport)?;
        let protocol = transport.get_protocol();
        let protocol = protocol.ok_or(io::ErrorKind::NotConnected)?;
        let unread = writer.state().unread();
        if is_client && unread > 0 {
            return Err(TlsError::BytesBefore(unread).into());
        }
        let received = writer.state().take_unread();
        let starting = begin(&handle, &transport, prepared, protocol, received);
        // Before anything comes by the new one.
        writer.change_transport(starting.upper.clone());
        starting.finish().await.map(drop)
    }
}

impl<'a> IntoFuture for StartStreamTls<'a> {
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for StartStreamTls<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartStreamTls")
            .field("writer", &self.writer)
            .field("upgrade", &self.upgrade)
            .finish()
    }
}
