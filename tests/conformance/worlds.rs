//! The worlds, and how a behaviour is shown in each of them.

use std::any;
use std::env;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::thread;

use evloop::rustls::crypto::aws_lc_rs;
use evloop::rustls::pki_types::pem::PemObject;
use evloop::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use evloop::rustls::{ServerConfig, SupportedProtocolVersion, version};
use evloop::testing::{Conditions, Simulation, explore};
use evloop::{TlsClientContext, TlsServerContext, get_running_loop};

use crate::common;
use crate::common::certs::cert;
use crate::common::folder::Folder;
use crate::differences;
use crate::net::{Net, Place};

/// What carries the bytes, and whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) link: Link,
    pub(crate) weather: Weather,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Tcp,
    Unix,
    Tls13,
    Tls12,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// The system's own sockets.
    Real,
    /// The simulation on a good day.
    Fair,
    /// The simulation, slow and in pieces.
    Rough,
}

impl World {
    pub(crate) fn is_simulated(self) -> bool {
        self.weather != Weather::Real
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.link {
            Link::Tcp => "TCP",
            Link::Unix => "unix sockets",
            Link::Tls13 => "TLS 1.3",
            Link::Tls12 => "TLS 1.2",
        })?;
        f.write_str(match self.weather {
            Weather::Real => "",
            Weather::Fair => ", simulated",
            Weather::Rough => ", simulated, in rough weather",
        })
    }
}

/// Shows a behaviour in every world, and fails where it is not as expected. A connection of it is
/// seen from both of its ends: a second time `here` is the end that accepts.
#[track_caller]
pub(crate) fn everywhere<F: AsyncFn(Net)>(expected: &[&str], behaviour: F) {
    let name = name_of::<F>();
    for world in WORLDS {
        let expected = match differences::of(name, world) {
            Some(difference) => match difference.answer {
                Some(answer) => answer,
                None => continue,
            },
            None => expected,
        };
        for accepting in [false, true] {
            let _named = Named(world, accepting);
            let mut linked = false;
            if world.weather == Weather::Real {
                let answer = really(world, accepting, &behaviour, &mut linked);
                assert_eq!(answer, expected, "{world}");
            } else {
                explore(0..seeds(world.weather), |simulation| {
                    let answer = seemingly(simulation, world, accepting, &behaviour, &mut linked)?;
                    assert_eq!(answer, expected, "{world}");
                    Ok(())
                });
            }
            if !linked {
                break;
            }
        }
    }
}

/// How many seeds each behaviour is tried with: those that `EVLOOP_CONFORMANCE_SEEDS` asks for, to
/// hunt, or some.
fn seeds(weather: Weather) -> u64 {
    match env::var("EVLOOP_CONFORMANCE_SEEDS") {
        Ok(count) => count.parse().expect("a number of seeds"),
        Err(_) if weather == Weather::Fair => 2,
        Err(_) => 5,
    }
}

/// The function in which the behaviour stands.
fn name_of<F>() -> &'static str {
    let path = any::type_name::<F>().trim_end_matches("::{{closure}}");
    path.rsplit("::").next().unwrap_or(path)
}

/// Over the system's own sockets.
fn really(
    world: World,
    accepting: bool,
    behaviour: &impl AsyncFn(Net),
    linked: &mut bool,
) -> Vec<String> {
    common::run(async {
        let handle = get_running_loop().expect("a loop");
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let place = Place {
            world,
            accepting,
            loops: [handle.clone(), handle],
            ips: [loopback, loopback],
            folder: (world.link == Link::Unix).then(Folder::new),
            tls: contexts(world.link),
        };
        told(place, behaviour, linked).await
    })
}

/// In the simulation: on two hosts, or on one, if there is no network between them.
fn seemingly(
    simulation: &mut Simulation,
    world: World,
    accepting: bool,
    behaviour: &impl AsyncFn(Net),
    linked: &mut bool,
) -> io::Result<Vec<String>> {
    if world.weather == Weather::Rough {
        simulation.network().set_conditions(Conditions::rough())?;
    }
    let here = simulation.host("here");
    let there = match world.link {
        Link::Unix => here.clone(),
        _ => simulation.host("there"),
    };
    let place = Place {
        world,
        accepting,
        ips: [&here, &there].map(|host| host.addresses().0.into()),
        loops: [&here, &there].map(|host| (**host).clone()),
        folder: None,
        tls: contexts(world.link),
    };
    Ok(simulation.run_until_complete(&here, told(place, behaviour, linked))?)
}

async fn told(place: Place, behaviour: &impl AsyncFn(Net), linked: &mut bool) -> Vec<String> {
    let net = Net::new(place);
    behaviour(net.clone()).await;
    *linked |= net.is_linked();
    net.said()
}

pub(crate) fn contexts(link: Link) -> Option<(TlsClientContext, TlsServerContext)> {
    let version = match link {
        Link::Tls13 => &version::TLS13,
        Link::Tls12 => &version::TLS12,
        Link::Tcp | Link::Unix => return None,
    };
    let client = TlsClientContext::builder()
        .root_file(cert("ca.pem"))
        .build();
    Some((client.expect("a context"), server_context(version)))
}

fn server_context(version: &'static SupportedProtocolVersion) -> TlsServerContext {
    let chain = CertificateDer::from_pem_file(cert("server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(cert("server.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version that is known")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .expect("a certificate and its key");
    Arc::new(config).into()
}

/// Says in which world a test has failed, however it did.
struct Named(World, bool);

impl Drop for Named {
    #[expect(clippy::print_stderr, reason = "it speaks to whoever runs the test")]
    fn drop(&mut self) {
        if thread::panicking() {
            let Self(world, accepting) = self;
            let end = if *accepting { "accepts" } else { "connects" };
            eprintln!("this was over {world}; here is the end that {end}");
        }
    }
}

const WORLDS: [World; 11] = {
    use Link::{Tcp, Tls12, Tls13, Unix};
    use Weather::{Fair, Real, Rough};
    const fn world(link: Link, weather: Weather) -> World {
        World { link, weather }
    }
    [
        world(Tcp, Real),
        world(Unix, Real),
        world(Tls13, Real),
        world(Tls12, Real),
        world(Tcp, Fair),
        world(Unix, Fair),
        world(Tls13, Fair),
        world(Tls12, Fair),
        world(Tcp, Rough),
        world(Unix, Rough),
        world(Tls13, Rough),
    ]
};
