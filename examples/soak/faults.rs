//! What happens to the whole process: it runs out of descriptors, and it gets signals.

use std::fs::File;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use evloop::{get_running_loop, sleep};
use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::clients::World;
use crate::random::Random;
use crate::server::Port;
use crate::tally::Fault;

/// Allows the process so few descriptors that they can be used up in no time.
pub(crate) fn limit_descriptors() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let current = Some(limit.current.unwrap_or(DESCRIPTORS).min(DESCRIPTORS));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, ..limit })?)
}

/// Now and then uses up all descriptors while a connection comes in. The server says that it cannot
/// accept it, and does when there are some again.
pub(crate) async fn starve(world: Rc<World>, mut random: Random) -> io::Result<()> {
    while Instant::now() < world.end {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let before = world.tally.seen(Fault::NoDescriptor);
        let mut hoard = Vec::new();
        let address = world.address(Port::Plain, &mut random);
        hoard_all(&mut hoard);
        get_running_loop()?.sock_connect(&socket, address).await?;
        let began = Instant::now();
        // Others close theirs meanwhile, so there is always one more to be had.
        while world.tally.seen(Fault::NoDescriptor) == before && began.elapsed() < PATIENCE {
            hoard_all(&mut hoard);
            sleep(Duration::from_millis(1)).await?;
        }
        drop(hoard);
        let mut stream = world.adopt(socket).await?;
        world.talk(&mut stream, &mut random, 2000).await?;
        world.leave(stream).await?;
        sleep(Duration::from_millis(500 + random.below(1000))).await?;
    }
    Ok(())
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
const PATIENCE: Duration = Duration::from_secs(5);
