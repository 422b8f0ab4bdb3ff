//! Connections that come from a proxy.

use std::time::Duration;

use evloop::{PeerName, RealPeer, Transport};

use crate::arguments::Options;

/// How long a connection may take for its header, if it is to have one.
pub(crate) fn timeout(options: &Options) -> Option<Duration> {
    options.proxy_protocol.then_some(HEADER_TIMEOUT)
}

/// Logs for whom a proxy speaks.
pub(crate) fn note(transport: &Transport) {
    let peer = transport.get_extra_info(PeerName);
    if let (Some(client), Some(peer)) = (transport.get_extra_info(RealPeer), peer) {
        if client != peer {
            log::info!("{client} by way of {peer}");
        }
    }
}

/// A lost packet is sent again after 3 seconds at most.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
