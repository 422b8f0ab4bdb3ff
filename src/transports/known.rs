//! What is known of a connection's ends, beside the address that accept or connect returned.
//!
//! Owns: [`Known`]. Why: most connections of a server know the same, its address, so they share one
//! record; whoever learns more has one of its own. Invariants: what was known stays known.
//! asyncio's counterpart: the dictionary `_extra`.

use std::rc::Rc;

use crate::sys::Address;

#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    sock_name: Option<Address>,
    real_peer: Option<Address>,
}

impl Known {
    /// Of all connections that come to this address.
    pub(crate) fn served_at(address: Address) -> Rc<Self> {
        Rc::new(Self {
            sock_name: Some(address),
            real_peer: None,
        })
    }

    /// Our own address.
    pub(super) fn sock_name(this: Option<&Rc<Self>>) -> Option<Address> {
        this?.sock_name.clone()
    }

    /// Who is behind the peer, where somebody said.
    pub(super) fn real_peer(this: Option<&Rc<Self>>) -> Option<Address> {
        this?.real_peer.clone()
    }

    pub(super) fn set_sock_name(this: &mut Option<Rc<Self>>, address: Address) {
        Rc::make_mut(this.get_or_insert_default()).sock_name = Some(address);
    }

    pub(super) fn set_real_peer(this: &mut Option<Rc<Self>>, address: Address) {
        Rc::make_mut(this.get_or_insert_default()).real_peer = Some(address);
    }
}
