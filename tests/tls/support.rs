//! Certificates, contexts, and servers to talk to.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use evloop::{BufferedProtocol, TlsClientContext, TlsServerContext};

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

/// A protocol whose own buffer has room for N bytes, and what has come by it.
pub(crate) struct Small<const N: usize> {
    buffer: [u8; N],
    received: Rc<RefCell<Vec<u8>>>,
}

impl<const N: usize> Small<N> {
    pub(crate) fn new(received: &Rc<RefCell<Vec<u8>>>) -> Self {
        Self {
            buffer: [0; N],
            received: Rc::clone(received),
        }
    }
}

impl<const N: usize> BufferedProtocol for Small<N> {
    fn get_buffer(&mut self, _: Option<usize>) -> &mut [u8] {
        &mut self.buffer
    }

    fn buffer_updated(&mut self, size: usize) {
        let mut received = self.received.borrow_mut();
        received.extend_from_slice(&self.buffer[..size]);
    }
}
