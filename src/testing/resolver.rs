//! The names of simulated hosts.
//!
//! Owns: [`SimResolver`]. Why: `("db", 5432)` is to mean the host that the simulation calls so.
//! Invariants: nothing outside the simulation is asked. asyncio's counterpart: none.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use crate::event_loop::cells::Shared;
use crate::sys::{AddrInfo, Query, Resolver, ResolverFuture, Service, SocketType, netdb};
use crate::tasks::sleep;
use crate::testing::ids::HostId;
use crate::testing::world::World;

/// What a host's loop asks for names.
pub(super) struct SimResolver {
    pub(super) world: Rc<Shared<World>>,
    pub(super) host: HostId,
}

impl Resolver for SimResolver {
    fn getaddrinfo(&self, query: Query) -> ResolverFuture<Vec<AddrInfo>> {
        let (delay, fails) = self.world.with(|world| {
            let (latency, failures) = {
                let link = world.link(self.host, self.host);
                (link.latency.clone(), world.conditions.lookup_failures)
            };
            let fails = world.random.chance(failures);
            world.tally.lookup_failures += u64::from(fails);
            (world.random.duration(latency), fails)
        });
        let answer = if fails {
            let why = "Temporary failure in name resolution";
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        } else {
            self.world.with(|world| answer(world, &query))
        };
        Box::pin(async move {
            sleep(delay).await?;
            answer
        })
    }

    fn getnameinfo(&self, address: SocketAddr, flags: i32) -> ResolverFuture<(String, String)> {
        let name = self.world.with(|world| {
            let host = world.host_of(self.host, address.ip());
            host.map(|host| world.name(host).to_owned())
        });
        let numeric = flags & netdb::NI_NUMERICHOST != 0;
        let name = name
            .filter(|_| !numeric)
            .unwrap_or_else(|| address.ip().to_string());
        let answer = Ok((name, address.port().to_string()));
        Box::pin(std::future::ready(answer))
    }
}

fn answer(world: &World, query: &Query) -> io::Result<Vec<AddrInfo>> {
    let port = match &query.port {
        Service::Port(port) => *port,
        Service::Name(name) => name.parse().map_err(|_| unknown(name, "service"))?,
    };
    let ips: Vec<IpAddr> = match query.host.as_deref() {
        None if query.flags & netdb::AI_PASSIVE != 0 => {
            vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
        }
        None | Some("localhost") => vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
        Some(name) => match name.parse() {
            Ok(ip) => vec![ip],
            Err(_) => {
                let host = world.hosts.iter().find(|host| host.name == name);
                let host = host.ok_or_else(|| unknown(name, "host"))?;
                vec![host.v6.into(), host.v4.into()]
            }
        },
    };
    let addresses = ips.into_iter().map(|ip| SocketAddr::new(ip, port));
    let answers: Vec<AddrInfo> = addresses
        .filter(|address| query.family.includes(address))
        .map(|address| AddrInfo {
            socket_type: match query.socket_type {
                SocketType::Any => SocketType::Stream,
                socket_type => socket_type,
            },
            ..AddrInfo::from(address)
        })
        .collect();
    match answers.is_empty() {
        true => Err(unknown(
            query.host.as_deref().unwrap_or(""),
            "host of this family",
        )),
        false => Ok(answers),
    }
}

fn unknown(name: &str, what: &str) -> io::Error {
    let why = format!("the simulation has no {what} called {name:?}");
    io::Error::new(io::ErrorKind::NotFound, why)
}
