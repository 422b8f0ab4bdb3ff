//! The server that has to stand it all: an echo, plain and encrypted, on a loop and a thread of its
//! own.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use evloop::signals::SIGUSR1;
use evloop::{
    ExceptionContext, PeerName, StreamReader, StreamWriter, TlsServerContext, get_running_loop,
    start_server,
};

use socket2::{Domain, Socket, Type};

use crate::tally::{Fault, Tally};

/// What a client comes to.
#[derive(Clone, Copy)]
pub(crate) enum Port {
    Plain,
    Encrypted,
    /// Encrypted, and a handshake has little time. On a busy machine an honest one may need more.
    Impatient,
}

pub(crate) struct Server {
    /// By [`Port`]; all addresses of 127.0.0.0/8 lead there.
    pub(crate) ports: [u16; 3],
    stop: Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Server {
    pub(crate) fn start(tally: &Arc<Tally>) -> io::Result<Self> {
        let (tell, told) = channel();
        let (stop, stopped) = channel();
        let tally = Arc::clone(tally);
        let thread = thread::spawn(move || evloop::run(serve(tally, &tell, stopped))?);
        let ports = told.recv().map_err(io::Error::other)?;
        Ok(Self {
            ports,
            stop,
            thread,
        })
    }

    /// Ends it, and waits for its last connection.
    pub(crate) fn stop(self) -> io::Result<()> {
        drop(self.stop);
        let ended = self.thread.join();
        ended.unwrap_or_else(|_| Err(io::Error::other("the server has panicked")))
    }
}

async fn serve(
    tally: Arc<Tally>,
    tell: &Sender<[u16; 3]>,
    stopped: Receiver<()>,
) -> io::Result<()> {
    let handle = get_running_loop()?;
    let watching = Arc::clone(&tally);
    handle.set_exception_handler(move |_, context| report(&watching, context));
    let signals = Arc::clone(&tally);
    handle.add_signal_handler(SIGUSR1, move || signals.fault(Fault::Signal))?;

    let context = TlsServerContext::from_pem_files(certs("server.pem"), certs("server.key"))?;
    let for_each = |encrypted| {
        let tally = Arc::clone(&tally);
        move |reader, writer| echo(Arc::clone(&tally), encrypted, reader, writer)
    };
    let plain = start_server(for_each(false), listener()?)
        .backlog(BACKLOG)
        .await?;
    let encrypted = start_server(for_each(true), listener()?)
        .backlog(BACKLOG)
        .ssl(context.clone())
        .await?;
    let impatient = start_server(for_each(true), listener()?)
        .backlog(BACKLOG)
        .ssl(context)
        .ssl_handshake_timeout(PATIENCE)
        .await?;
    let servers = [plain, encrypted, impatient];
    let ports = servers
        .each_ref()
        .map(|server| server.sockets()[0].port().unwrap_or(0));
    tell.send(ports).map_err(io::Error::other)?;

    // Nothing is ever sent: the other end is dropped.
    let stopped = handle.run_in_executor(move || stopped.recv().is_ok());
    stopped.await.map_err(io::Error::other)?;
    for server in servers {
        let report = server
            .shutdown()
            .drain(AT_THE_END)
            .close(AT_THE_END)
            .await?;
        let left = report.connections().len();
        if left > 0 {
            tally.wrong(format!("{left} connections at the end of the server"));
        }
    }
    Ok(())
}

/// A socket whose connections have little room to send in: whoever reads slowly is noticed soon.
fn listener() -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_send_buffer_size(16 * 1024)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    Ok(socket.into())
}

/// Echoes to the end, and notes what it has seen.
async fn echo(tally: Arc<Tally>, encrypted: bool, mut reader: StreamReader, writer: StreamWriter) {
    let echoed = async {
        loop {
            let bytes = reader.read(64 * 1024).await?;
            if bytes.is_empty() {
                break;
            }
            writer.write(bytes);
            drain(&tally, &writer).await?;
        }
        writer.close();
        writer.wait_closed().await
    };
    if let Err(error) = echoed.await {
        match error.kind() {
            ErrorKind::UnexpectedEof if encrypted => tally.fault(Fault::CutOff),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => tally.fault(Fault::Reset),
            _ => tally.wrong(format!("the server: {error}")),
        }
    }
}

async fn drain(tally: &Tally, writer: &StreamWriter) -> io::Result<()> {
    let mut drained = pin!(writer.drain());
    let mut waited = false;
    poll_fn(|cx| {
        let polled = drained.as_mut().poll(cx);
        if polled.is_pending() && !waited {
            waited = true;
            tally.had_to_wait_for(writer.get_extra_info(PeerName).as_ref());
        }
        polled
    })
    .await
}

/// The loop's own report: a listener that gets no descriptor. Nothing else is to be reported.
fn report(tally: &Tally, context: &ExceptionContext) {
    let error = context
        .exception()
        .and_then(|error| error.downcast_ref::<io::Error>());
    match error.and_then(io::Error::raw_os_error) {
        Some(libc::EMFILE | libc::ENFILE) => tally.fault(Fault::NoAccept),
        _ => tally.wrong(format!("the server reports: {context}")),
    }
}

/// The tests' certificates, which nobody trusts.
pub(crate) fn certs(name: &str) -> String {
    format!("{}/tests/certs/{name}", env!("CARGO_MANIFEST_DIR"))
}

const BACKLOG: u32 = 4096;
/// For a handshake.
const PATIENCE: Duration = Duration::from_millis(500);
/// For each phase of the end, when all clients have gone.
const AT_THE_END: Duration = Duration::from_secs(10);
