//! Names and addresses, for whoever asks the loop.
//!
//! Owns: [`GetAddrInfo`], [`GetNameInfo`], and the place of the loop's resolver. Why: what connects
//! and serves looks names up by itself; whoever wants the addresses has to ask the same resolver.
//! Invariants: the loop's thread never waits; a literal is answered without one. asyncio's
//! counterpart: `loop.getaddrinfo`, `loop.getnameinfo`.

use std::future::{Future, IntoFuture};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use crate::endpoints::resolve::look_up;
use crate::event_loop::{LoopHandle, loop_of};
use crate::sys::{
    AddrInfo, Family, Proto, Query, Resolver, ResolverFuture, Service, SocketType, getnameinfo,
};

impl LoopHandle {
    /// The addresses of a host (`None`: this machine) and a port, by number or by the name of a
    /// service. Mirrors `loop.getaddrinfo`, whose keyword arguments are the setters of what is
    /// returned.
    ///
    /// The loop's resolver is asked, by default the system's on the
    /// [default executor](Self::run_in_executor). A literal address of one kind of socket is
    /// answered at once. Dropping the future gives the lookup up; the system's cannot be
    /// interrupted, and its answer is dropped.
    ///
    /// # Errors
    ///
    /// The system's, in its own words: `NotFound` if the host has no address or nobody knows it,
    /// `InvalidInput` for a contradiction. An [`ExecutorError`](crate::ExecutorError) where there
    /// is nobody to ask it.
    ///
    /// ```
    /// use evloop::{Family, SocketType, get_running_loop};
    ///
    /// evloop::run(async {
    ///     let handle = get_running_loop()?;
    ///     let found = handle
    ///         .getaddrinfo("localhost", 80)
    ///         .family(Family::Inet)
    ///         .type_(SocketType::Stream)
    ///         .await?;
    ///     assert_eq!(found[0].address.to_string(), "127.0.0.1:80");
    ///     Ok::<(), std::io::Error>(())
    /// })?
    /// # ; Ok::<(), std::io::Error>(())
    /// ```
    pub fn getaddrinfo<'a>(
        &self,
        host: impl Into<Option<&'a str>>,
        port: impl Into<Service>,
    ) -> GetAddrInfo {
        GetAddrInfo {
            loop_number: self.number(),
            query: Query::new(host.into().map(str::to_owned), port.into()),
        }
    }

    /// The host and the service of an address, as names where there are any. `flags` are the
    /// `NI_…` of [`netdb`](crate::netdb), or 0. Mirrors `loop.getnameinfo`.
    ///
    /// The loop's resolver is asked, by default the system's on the
    /// [default executor](Self::run_in_executor). Dropping the future gives the lookup up.
    ///
    /// # Errors
    ///
    /// The system's; an [`ExecutorError`](crate::ExecutorError) where there is nobody to ask it.
    ///
    /// ```
    /// use evloop::{get_running_loop, netdb};
    ///
    /// evloop::run(async {
    ///     let handle = get_running_loop()?;
    ///     let numeric = netdb::NI_NUMERICHOST | netdb::NI_NUMERICSERV;
    ///     let found = handle.getnameinfo(([127, 0, 0, 1], 80).into(), numeric).await?;
    ///     assert_eq!(found, ("127.0.0.1".to_owned(), "80".to_owned()));
    ///     Ok::<(), std::io::Error>(())
    /// })?
    /// # ; Ok::<(), std::io::Error>(())
    /// ```
    pub fn getnameinfo(&self, address: SocketAddr, flags: i32) -> GetNameInfo {
        GetNameInfo {
            loop_number: self.number(),
            address,
            flags,
        }
    }

    /// Has `resolver` look up the names of this loop from now on, in place of the system. In
    /// asyncio one overrides `loop.getaddrinfo`.
    pub fn set_resolver(&self, resolver: impl Resolver + 'static) {
        if !self.is_closed() {
            drop(self.services().resolver.put(Rc::new(resolver)));
        }
    }

    /// Goes back to the system's resolver.
    pub fn clear_resolver(&self) {
        drop(self.services().resolver.take());
    }
}

/// A lookup of addresses: awaiting it makes it. Made by [`LoopHandle::getaddrinfo`].
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct GetAddrInfo {
    loop_number: u64,
    query: Query,
}

impl GetAddrInfo {
    /// Only addresses of this family.
    pub fn family(mut self, family: Family) -> Self {
        self.query.family = family;
        self
    }

    /// Only this kind of socket: `type=`, which is no name in Rust.
    pub fn type_(mut self, socket_type: SocketType) -> Self {
        self.query.socket_type = socket_type;
        self
    }

    /// Only this protocol.
    pub fn proto(mut self, proto: Proto) -> Self {
        self.query.proto = proto;
        self
    }

    /// The `AI_…` of [`netdb`](crate::netdb), joined by `|`.
    pub fn flags(mut self, flags: i32) -> Self {
        self.query.flags = flags;
        self
    }
}

impl IntoFuture for GetAddrInfo {
    type Output = io::Result<Vec<AddrInfo>>;
    type IntoFuture = ResolverFuture<Vec<AddrInfo>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let handle = loop_of(self.loop_number)?;
            look_up(&handle, self.query).await
        })
    }
}

/// A lookup of names: awaiting it makes it. Made by [`LoopHandle::getnameinfo`].
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct GetNameInfo {
    loop_number: u64,
    address: SocketAddr,
    flags: i32,
}

impl IntoFuture for GetNameInfo {
    type Output = io::Result<(String, String)>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let handle = loop_of(self.loop_number)?;
            let Self { address, flags, .. } = self;
            match handle.services().resolver.get() {
                Some(resolver) => {
                    let answer = resolver.getnameinfo(address, flags);
                    drop(resolver);
                    answer.await
                }
                None => {
                    let answer = handle.run_in_executor(move || getnameinfo(address, flags));
                    answer.await?
                }
            }
        })
    }
}
