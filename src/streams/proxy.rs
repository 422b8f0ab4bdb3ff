//! The header of a proxy in front of a stream.
//!
//! Owns: [`read_proxy_header`]. Why: who is to be believed may depend on the peer, so that the
//! server cannot demand a header of everybody. Invariants: it takes the header, all of it and no
//! byte behind it, or nothing. asyncio's counterpart: none.

use std::rc::Rc;

use crate::proxy::{ProxyError, ProxyHeader};
use crate::streams::reader::StreamReader;
use crate::streams::writer::StreamWriter;
use crate::sys::invalid_input;

/// Reads the header of the PROXY protocol, version 1 or 2, that stands in front of everything else,
/// and makes its source the [`RealPeer`](crate::RealPeer) of the connection.
///
/// A server that takes connections from a proxy alone need not call it: see
/// [`StartServer::proxy_protocol`](crate::StartServer::proxy_protocol). What is behind the header
/// stays in the reader, and [`StreamWriter::start_tls`](crate::StreamWriter) goes on with it. Length
/// is bounded, time is not: put a [`timeout`](crate::timeout) around it. Cancellation-safe: a call
/// that is dropped has taken nothing. asyncio has no such function.
///
/// ```
/// use std::time::Duration;
///
/// use evloop::{RealPeer, StreamReader, StreamWriter, read_proxy_header, timeout};
///
/// async fn handle(mut reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
///     let header = read_proxy_header(&mut reader, &writer);
///     timeout(Duration::from_secs(5), header).await??;
///     let client = writer.get_extra_info(RealPeer);
///     println!("{client:?}");
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// [`ProxyError`]; the bytes are still in the reader then. `InvalidInput` inside of
/// [`ProxyError::Io`] if the two are not halves of one stream.
pub async fn read_proxy_header(
    reader: &mut StreamReader,
    writer: &StreamWriter,
) -> Result<ProxyHeader, ProxyError> {
    if !Rc::ptr_eq(writer.state(), reader.state()) {
        let message = "the reader belongs to another stream";
        return Err(invalid_input(message).into());
    }
    let header = reader.header().await?;
    if let Some(source) = &header.source {
        writer.transport().set_real_peer(source.clone());
    }
    Ok(header)
}
