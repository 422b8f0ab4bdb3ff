//! The clients: each kind does one thing to the server, again and again.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evloop::rustls::ClientConfig;
use evloop::{
    SockName, StreamReader, StreamWriter, TlsClientContext, get_running_loop, open_connection,
    sleep, timeout,
};
use socket2::{Domain, Socket, Type};

use crate::dripped;
use crate::random::Random;
use crate::server::Port;
use crate::tally::{Fault, Tally};

/// What all clients know.
pub(crate) struct World {
    pub(crate) tally: Arc<Tally>,
    pub(crate) ports: [u16; 3],
    pub(crate) context: TlsClientContext,
    /// The same, for those who shake hands by hand.
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) end: Instant,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Echo,
    TlsEcho,
    Churn,
    HalfCloser,
    Resetter,
    SlowReader,
    SlowHandshake,
    SilentHandshake,
    Garbage,
    CutOff,
}

/// How many of each kind there are at a time.
pub(crate) const CROWD: [(Kind, u64); 10] = [
    (Kind::Echo, 8),
    (Kind::TlsEcho, 4),
    (Kind::Churn, 4),
    (Kind::HalfCloser, 4),
    (Kind::Resetter, 6),
    (Kind::SlowReader, 2),
    (Kind::SlowHandshake, 8),
    (Kind::SilentHandshake, 16),
    (Kind::Garbage, 2),
    (Kind::CutOff, 2),
];

/// A stream to the server.
type Stream = (StreamReader, StreamWriter);

/// One client of a kind, until the end.
pub(crate) async fn run(world: Rc<World>, kind: Kind, mut random: Random) {
    while Instant::now() < world.end {
        let round = round(&world, kind, &mut random);
        let began = Instant::now();
        match timeout(HANG, round).await {
            Ok(outcome) if began.elapsed() < HANG => judge(&world, kind, outcome).await,
            // Also who went on only because the time was over.
            _ => {
                world.tally.hangs.add(1);
                world.tally.surprise(format!("{kind:?} hangs"));
            }
        }
    }
}

async fn judge(world: &World, kind: Kind, outcome: io::Result<()>) {
    match outcome {
        Err(error) if is_starved(&error) => {
            world.tally.fault(Fault::NoConnect);
            let _ = sleep(Duration::from_millis(20)).await;
        }
        Err(error) => world.tally.wrong(format!("{kind:?}: {error}")),
        Ok(()) => {}
    }
}

async fn round(world: &World, kind: Kind, random: &mut Random) -> io::Result<()> {
    match kind {
        Kind::Echo => {
            let mut stream = world.plain(random).await?;
            world.talk(&mut stream, random, 64 * 1024).await?;
            world.leave(stream).await
        }
        Kind::TlsEcho => {
            let mut stream = world.encrypted(random).await?;
            world.talk(&mut stream, random, 64 * 1024).await?;
            world.leave(stream).await
        }
        Kind::Churn => {
            let stream = world.plain(random).await?;
            world.leave(stream).await
        }
        Kind::HalfCloser => world.half_close(random).await,
        Kind::Resetter => world.reset(random).await,
        Kind::SlowReader => world.read_slowly(random).await,
        Kind::SlowHandshake => dripped::shake_hands(world, random).await,
        Kind::SilentHandshake => world.say_nothing(random).await,
        Kind::Garbage => world.send_garbage(random).await,
        Kind::CutOff => world.cut_off(random).await,
    }
}

impl World {
    /// One of the addresses that lead to the server: many, or the system has no ports left for
    /// those that it remembers.
    pub(crate) fn address(&self, port: Port, random: &mut Random) -> SocketAddr {
        let [a, b] = [1 + random.below(250) as u8, 1 + random.below(250) as u8];
        let port = self.ports[port as usize];
        (Ipv4Addr::new(127, 0, a, b), port).into()
    }

    async fn plain(&self, random: &mut Random) -> io::Result<Stream> {
        let stream = open_connection(self.address(Port::Plain, random)).await?;
        self.tally.plain.add(1);
        Ok(stream)
    }

    async fn encrypted(&self, random: &mut Random) -> io::Result<Stream> {
        let address = self.address(Port::Encrypted, random);
        let stream = open_connection(address)
            .ssl(&self.context)
            .server_hostname("localhost")
            .await?;
        self.tally.encrypted.add(1);
        Ok(stream)
    }

    /// A connection of a socket that was set up in another way.
    async fn odd(
        &self,
        random: &mut Random,
        set_up: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> io::Result<Stream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        set_up(&socket)?;
        let address = self.address(Port::Plain, random);
        get_running_loop()?.sock_connect(&socket, address).await?;
        self.adopt(socket).await
    }

    /// A socket that is connected.
    pub(crate) async fn adopt(&self, socket: Socket) -> io::Result<Stream> {
        let stream = open_connection(OwnedFd::from(socket)).await?;
        self.tally.plain.add(1);
        Ok(stream)
    }

    /// Some questions and their answers; now and then a read that is given up.
    pub(crate) async fn talk(
        &self,
        (reader, writer): &mut Stream,
        random: &mut Random,
        most: u64,
    ) -> io::Result<()> {
        for _ in 0..1 + random.below(8) {
            let n = random.size(most);
            let question = random.bytes(n);
            if random.below(4) == 0 {
                self.give_up(reader).await?;
            }
            writer.write(&question);
            writer.drain().await?;
            self.compare(reader, &question).await?;
        }
        Ok(())
    }

    /// Nothing has been asked, so nothing may come.
    async fn give_up(&self, reader: &mut StreamReader) -> io::Result<()> {
        match timeout(Duration::from_micros(200), reader.read(1)).await {
            Err(_) => self.tally.fault(Fault::ReadGivenUp),
            Ok(Ok(_)) => self.tally.mismatches.add(1),
            Ok(Err(error)) => return Err(error),
        }
        Ok(())
    }

    async fn compare(&self, reader: &mut StreamReader, expected: &[u8]) -> io::Result<()> {
        let answer = reader.readexactly(expected.len()).await?;
        self.is_right(&answer, expected);
        Ok(())
    }

    /// Counts what was compared, and whether it is the same.
    pub(crate) fn is_right(&self, answer: &[u8], expected: &[u8]) -> bool {
        self.tally.operations.add(1);
        self.tally.bytes.add(answer.len() as u64);
        let is_right = answer == expected;
        self.tally.mismatches.add(u64::from(!is_right));
        is_right
    }

    pub(crate) async fn leave(&self, (_reader, writer): Stream) -> io::Result<()> {
        writer.close();
        writer.wait_closed().await
    }

    async fn half_close(&self, random: &mut Random) -> io::Result<()> {
        let (mut reader, writer) = self.plain(random).await?;
        let n = random.size(128 * 1024);
        let question = random.bytes(n);
        writer.write(&question);
        writer.write_eof()?;
        self.compare(&mut reader, &question).await?;
        if reader.read(1).await?.is_empty() {
            self.tally.fault(Fault::HalfClose);
        } else {
            self.tally.mismatches.add(1);
        }
        self.leave((reader, writer)).await
    }

    async fn reset(&self, random: &mut Random) -> io::Result<()> {
        // Closed, such a socket is reset.
        let set_up = |socket: &Socket| socket.set_linger(Some(Duration::ZERO));
        let mut stream = self.odd(random, set_up).await?;
        let n = random.size(2000);
        let question = random.bytes(n);
        stream.1.write(&question);
        if random.below(2) == 0 {
            self.compare(&mut stream.0, &question).await?;
        }
        stream.1.transport().abort();
        Ok(())
    }

    async fn read_slowly(&self, random: &mut Random) -> io::Result<()> {
        let set_up = |socket: &Socket| socket.set_recv_buffer_size(4096);
        let (mut reader, writer) = self.odd(random, set_up).await?;
        if let Some(name) = writer.get_extra_info(SockName) {
            self.tally.will_be_slow(&name);
        }
        let question = random.bytes(MUCH);
        // Nobody reads, so the answer piles up until the server waits.
        writer.write(&question);
        sleep(Duration::from_millis(5 + random.below(20))).await?;
        self.compare(&mut reader, &question).await?;
        self.leave((reader, writer)).await
    }

    async fn say_nothing(&self, random: &mut Random) -> io::Result<()> {
        let stream = open_connection(self.address(Port::Impatient, random)).await?;
        self.tally.plain.add(1);
        self.is_refused(stream, Fault::SilentHandshake).await
    }

    async fn send_garbage(&self, random: &mut Random) -> io::Result<()> {
        let stream = open_connection(self.address(Port::Impatient, random)).await?;
        self.tally.plain.add(1);
        let n = 5 + random.size(300);
        let mut garbage = random.bytes(n);
        // No type of a record that there is.
        garbage[0] |= 0x80;
        stream.1.write(&garbage);
        self.is_refused(stream, Fault::Garbage).await
    }

    /// The server ends it, with or without an alert.
    async fn is_refused(&self, stream: Stream, fault: Fault) -> io::Result<()> {
        let (mut reader, _writer) = stream;
        match reader.read_to_end(1024).await.map_err(io::Error::from) {
            Ok(_) => self.tally.fault(fault),
            Err(error) if is_reset(&error) => self.tally.fault(fault),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Ends the connection without the goodbye of TLS.
    async fn cut_off(&self, random: &mut Random) -> io::Result<()> {
        let mut stream = self.encrypted(random).await?;
        self.talk(&mut stream, random, 2000).await?;
        stream.1.transport().abort();
        Ok(())
    }
}

/// Whether the process has no descriptors left.
pub(crate) fn is_starved(error: &io::Error) -> bool {
    let text = error.to_string();
    text.contains("Too many open files") || error.raw_os_error() == Some(libc::EMFILE)
}

fn is_reset(error: &io::Error) -> bool {
    let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    kinds.contains(&error.kind())
}

/// So long at most anything may take that a client does; a loaded machine is slow, and does not hang.
pub(crate) const HANG: Duration = Duration::from_secs(60);
/// More than a system that has little room takes.
const MUCH: usize = 256 * 1024;
