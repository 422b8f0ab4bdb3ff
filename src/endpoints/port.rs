//! One port for several addresses.
//!
//! Owns: [`PickedPort`] and [`with_another_port`]. Why: where the port is left to the system, it
//! picks one for the first address that may be taken on the next; then all begin anew. Invariants:
//! the attempts are counted. asyncio's counterpart: none, each address gets another port there.

use std::io;
use std::net::SocketAddr;

use crate::endpoints::error::EndpointError;

/// The port that the system picked, for all addresses that leave it to the system.
#[derive(Default)]
pub(crate) struct PickedPort(Option<u16>);

impl PickedPort {
    /// The address to bind, and whether its port is one that was picked for another address.
    pub(crate) fn apply(&self, mut address: SocketAddr) -> (SocketAddr, bool) {
        match self.0 {
            Some(port) if address.port() == 0 => {
                address.set_port(port);
                (address, true)
            }
            _ => (address, false),
        }
    }

    /// An address was bound, at this port.
    pub(crate) fn learn(&mut self, port: Option<u16>) {
        self.0 = self.0.or(port);
    }
}

/// Why an attempt failed, and whether another port may do.
pub(crate) type Failure = (EndpointError, bool);

/// Tries until it succeeds, or fails for another reason than a port that the system picked.
pub(crate) fn with_another_port<T>(
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> io::Result<T> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match attempt() {
            Err((_, true)) if attempts < ATTEMPTS => {}
            outcome => return outcome.map_err(|(error, _)| error.into()),
        }
    }
}

/// How many ports the system may pick until one is free for every address.
const ATTEMPTS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Address;

    fn taken(another_may_do: bool) -> Failure {
        let address = Address::from(SocketAddr::from(([127, 0, 0, 1], 80)));
        let source = io::ErrorKind::AddrInUse.into();
        (EndpointError::Bind { address, source }, another_may_do)
    }

    #[test]
    fn a_port_that_was_picked_is_that_of_all_who_asked_for_none() {
        let [mine, any] = [80, 0].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut port = PickedPort::default();
        assert_eq!(port.apply(any), (any, false));
        port.learn(Some(7));
        port.learn(Some(8));
        assert_eq!(port.apply(any), (([127, 0, 0, 1], 7).into(), true));
        assert_eq!(port.apply(mine), (mine, false));
    }

    #[test]
    fn another_port_is_tried_while_that_may_do_but_not_for_ever() {
        let count = |last: Result<(), bool>, failures: u32| {
            let mut attempts = 0;
            let outcome = with_another_port(|| {
                attempts += 1;
                if attempts <= failures {
                    Err(taken(true))
                } else {
                    last.map_err(taken)
                }
            });
            (outcome.is_ok(), attempts)
        };
        assert_eq!(count(Ok(()), 3), (true, 4));
        assert_eq!(count(Err(false), 3), (false, 4));
        assert_eq!(count(Ok(()), u32::MAX), (false, ATTEMPTS));
    }
}
