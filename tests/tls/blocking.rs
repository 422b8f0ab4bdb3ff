//! Peers that are rustls on blocking sockets, whose bytes the tests have in their hands.

use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};

use crate::common::Peer;
use crate::support::cert;

pub(crate) type ServerPeer = StreamOwned<ServerConnection, TcpStream>;
pub(crate) type ClientPeer = StreamOwned<ClientConnection, TcpStream>;

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A configuration that trusts the tests' authority.
pub(crate) fn client_config() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(cert("ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// One that shows the usual certificate.
pub(crate) fn server_config() -> Arc<ServerConfig> {
    server_config_of(rustls::DEFAULT_VERSIONS)
}

pub(crate) fn server_config_of(
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(cert("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(cert("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

/// Shakes hands as the server.
pub(crate) fn served(peer: Peer, config: Arc<ServerConfig>) -> ServerPeer {
    let mut peer = StreamOwned::new(ServerConnection::new(config).unwrap(), peer.0);
    while peer.conn.is_handshaking() {
        peer.conn.complete_io(&mut peer.sock).unwrap();
    }
    peer
}

/// Shakes hands as the client.
pub(crate) fn joined(peer: Peer) -> ClientPeer {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(client_config(), name).unwrap();
    let mut peer = StreamOwned::new(connection, peer.0);
    while peer.conn.is_handshaking() {
        peer.conn.complete_io(&mut peer.sock).unwrap();
    }
    peer
}
