//! What happens to the whole process: it runs out of descriptors, and it gets signals.

use std::fs::File;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use evloop::{get_running_loop, sleep, timeout};
use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::clients::{HANG, World};
use crate::random::Random;
use crate::server::Port;
use crate::tally::Fault;

/// Allows the process so few descriptors that they can be used up in no time.
pub(crate) fn limit_descriptors() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let current = Some(limit.current.unwrap_or(DESCRIPTORS).min(DESCRIPTORS));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, ..limit })?)
}

/// Now and then uses up all descriptors while connections come in. The server says that it cannot
/// accept them, and does when there are some again.
pub(crate) async fn starve(world: Rc<World>, mut random: Random) -> io::Result<()> {
    while Instant::now() < world.end {
        for socket in connect_in_vain(&world, &mut random).await? {
            let served = async {
                let mut stream = world.adopt(socket).await?;
                world.talk(&mut stream, &mut random, 2000).await?;
                world.leave(stream).await
            };
            let began = Instant::now();
            match timeout(HANG, served).await {
                Ok(outcome) if began.elapsed() < HANG => outcome?,
                // Also who went on only because the time was over.
                _ => {
                    world.tally.hangs.add(1);
                    let what = "a connection hangs that found no descriptor";
                    world.tally.surprise(what.to_owned());
                }
            }
        }
        sleep(Duration::from_millis(500 + random.below(1000))).await?;
    }
    Ok(())
}

/// Connects until the server has had no descriptor for an accept: what others close meanwhile may be
/// just enough for one. The sockets, of which at least one has to wait.
async fn connect_in_vain(world: &World, random: &mut Random) -> io::Result<Vec<Socket>> {
    let before = world.tally.seen(Fault::NoAccept);
    let (mut hoard, mut sockets) = (Vec::new(), Vec::new());
    let began = Instant::now();
    while world.tally.seen(Fault::NoAccept) == before {
        if began.elapsed() > PATIENCE {
            let what = "a server without descriptors does not say so";
            world.tally.wrong(what.to_owned());
            break;
        }
        hoard_all(&mut hoard);
        // One is for the socket, unless somebody else is faster.
        drop(hoard.pop());
        if let Ok(socket) = Socket::new(Domain::IPV4, Type::STREAM, None) {
            hoard_all(&mut hoard);
            socket.set_nonblocking(true)?;
            let address = world.address(Port::Plain, random);
            get_running_loop()?.sock_connect(&socket, address).await?;
            sockets.push(socket);
        }
        sleep(Duration::from_millis(10)).await?;
    }
    Ok(sockets)
}

fn hoard_all(hoard: &mut Vec<File>) {
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
}

/// Sends a signal, and the next one when it has arrived: signals of a kind are not counted by the
/// system.
pub(crate) async fn signal(world: Rc<World>, mut random: Random) -> io::Result<()> {
    while Instant::now() < world.end {
        let before = world.tally.seen(Fault::Signal);
        kill_process(getpid(), Signal::USR1)?;
        let began = Instant::now();
        while world.tally.seen(Fault::Signal) == before {
            if began.elapsed() > PATIENCE {
                world.tally.hangs.add(1);
                world.tally.wrong("a signal is not seen".to_owned());
                break;
            }
            sleep(Duration::from_millis(1)).await?;
        }
        sleep(Duration::from_millis(1 + random.below(10))).await?;
    }
    Ok(())
}

/// Enough for all clients and their other ends.
const DESCRIPTORS: u64 = 1024;
/// A loaded machine may need long for what is done at once.
const PATIENCE: Duration = Duration::from_secs(30);
