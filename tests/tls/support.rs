//! Certificates, contexts, and servers to talk to.

use std::path::PathBuf;

use evloop::{TlsClientContext, TlsServerContext};

/// One of the files that `tests/certs/make.sh` has made.
pub(crate) fn cert(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/certs")
        .join(name)
}

/// A server that shows this certificate.
pub(crate) fn server_context(name: &str) -> TlsServerContext {
    TlsServerContext::from_pem_files(cert(&format!("{name}.pem")), cert(&format!("{name}.key")))
        .unwrap()
}

/// A client that trusts the tests' authority.
pub(crate) fn client_context() -> TlsClientContext {
    TlsClientContext::builder()
        .root_file(cert("ca.pem"))
        .build()
        .unwrap()
}
