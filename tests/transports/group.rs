//! Groups of loops: how they begin and end together, what they share, and what they hand over.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::error::Error;
use std::future::{IntoFuture, pending};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use evloop::signals::SIGTERM;
use evloop::{
    ConnectionLimit, EndpointError, GroupError, LoopGroup, Protocol, Server, ShutdownPhase,
    StreamReader, StreamWriter, Transport, Worker, connect_accepted_socket, get_running_loop,
    open_connection, reuse_port_sockets, sleep, start_server, timeout,
};
use futures::channel::oneshot;
use futures::future::{Either, select};
use signal_hook::low_level::raise;
use socket2::SockRef;

use crate::common::own_process::{self, held};
use crate::common::peers::skip;
use crate::common::{PATIENCE, Peer, in_thread, listener, run, within};

/// Waits until every worker of the group has come here.
async fn meet(worker: &Worker) {
    thread_local!(static CAME: Cell<usize> = const { Cell::new(0) });
    for index in 0..worker.count() {
        let came = || CAME.set(CAME.get() + 1);
        // One that has met us, and all others, may have ended since.
        let _ = worker.threadsafe(index).call_soon_threadsafe(came);
    }
    within("the other workers", async {
        while CAME.get() < worker.count() {
            sleep(Duration::from_millis(1)).await.expect("a loop");
        }
    })
    .await;
}

/// Waits until this worker's loop is closed.
async fn end_of(worker: &Worker, index: usize) {
    within("the end of a worker", async {
        while !worker.threadsafe(index).is_closed() {
            sleep(Duration::from_millis(1)).await.expect("a loop");
        }
    })
    .await;
}

/// Waits for the group's end, which is not to be waited for in vain.
async fn until_stopped(waited_in_vain: &AtomicBool) {
    let _ = timeout(PATIENCE, pending::<()>()).await;
    waited_in_vain.store(true, Ordering::SeqCst);
}

/// Counts its drop.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

// ------------------------------------------------------------------------------ begin and end

#[test]
fn each_worker_is_a_loop_on_a_thread_of_its_own_and_may_borrow() {
    let names = ["zero", "one", "two"].map(String::from);
    let group = LoopGroup::new(3).unwrap().thread_name("crew");
    let told = group.run(|worker| {
        // Within the loop already.
        let handle = get_running_loop();
        let name = &names[worker.index()];
        async move {
            assert!(handle?.is_running());
            meet(&worker).await;
            let thread = thread::current();
            let (index, count) = (worker.index(), worker.count());
            let thread_name = thread.name().unwrap_or_default().to_owned();
            Ok::<_, io::Error>((
                thread.id(),
                format!("{index} of {count}: {name} {thread_name}"),
            ))
        }
    });
    let (threads, told): (Vec<_>, Vec<_>) = told.unwrap().into_iter().unzip();
    assert_eq!(
        told,
        [
            "0 of 3: zero crew-0",
            "1 of 3: one crew-1",
            "2 of 3: two crew-2"
        ]
    );
    assert!(!threads.contains(&thread::current().id()));
    assert_ne!(threads[0], threads[1]);
    assert_ne!(threads[1], threads[2]);
}

#[test]
fn a_group_can_be_run_again() {
    let group = LoopGroup::new(2).unwrap();
    let sum = |worker: Worker| async move {
        meet(&worker).await;
        Ok::<_, io::Error>(worker.index())
    };
    assert_eq!(group.run(sum).unwrap(), [0, 1]);
    assert_eq!(group.run(sum).unwrap(), [0, 1]);
}

#[test]
fn no_count_is_one_worker_for_each_core_and_a_million_is_refused() {
    let cores = thread::available_parallelism().unwrap().get();
    let count = |workers| LoopGroup::new(workers).map(|group| group.count());
    assert_eq!(count(0).unwrap(), cores.min(LoopGroup::MAX_WORKERS));
    assert_eq!(
        count(LoopGroup::MAX_WORKERS).unwrap(),
        LoopGroup::MAX_WORKERS
    );
    for workers in [LoopGroup::MAX_WORKERS + 1, 1_000_000, usize::MAX] {
        let error = count(workers).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = format!("{workers} workers are too many: 1024 at most");
        assert_eq!(error.to_string(), text);
    }
    let workers = LoopGroup::new(0)
        .unwrap()
        .run(|worker| async move { Ok::<_, io::Error>(worker.count()) });
    assert_eq!(workers.unwrap(), vec![cores; cores]);
}

#[test]
fn a_worker_that_is_done_leaves_the_others_running() {
    let done = LoopGroup::new(2).unwrap().run(|worker| async move {
        if worker.index() == 1 {
            // Whether this one is stopped meanwhile is seen for certain in `src/group.rs`.
            end_of(&worker, 0).await;
        }
        Ok::<_, io::Error>(worker.index())
    });
    assert_eq!(done.unwrap(), [0, 1]);
}

#[test]
#[should_panic(expected = "a part for each worker")]
fn there_is_a_part_for_each_worker() {
    let group = LoopGroup::new(2).unwrap();
    let _ = group.run_with(vec![1], |_, _| async { Ok::<(), io::Error>(()) });
}

#[test]
#[should_panic(expected = "while a loop is running")]
fn a_group_does_not_stop_a_loop_that_runs() {
    let _ = evloop::run(async {
        let group = LoopGroup::new(1).unwrap();
        group.run(|_| async { Ok::<(), io::Error>(()) })
    });
}

// ------------------------------------------------------------------------------ failures

/// Runs three workers that wait for ever, but for what `of_one` does in the worker 1. All is gone
/// at the end.
#[track_caller]
fn with_one_that<E: Send>(of_one: impl Fn() -> Result<(), E> + Sync) -> GroupError<E> {
    let dropped = Arc::new(AtomicUsize::new(0));
    let waited_in_vain = AtomicBool::new(false);
    let failed = LoopGroup::new(3).unwrap().run(|worker| {
        let counted = || Counted(Arc::clone(&dropped));
        let (of_main, of_task, of_one) = (counted(), counted(), &of_one);
        let waited_in_vain = &waited_in_vain;
        async move {
            let _of_main = of_main;
            let handle = get_running_loop().expect("a loop");
            drop(handle.create_task(async move {
                let _of_task = of_task;
                pending::<()>().await;
            }));
            meet(&worker).await;
            if worker.index() == 1 {
                of_one()?;
            }
            until_stopped(waited_in_vain).await;
            Ok(())
        }
    });
    assert!(!waited_in_vain.load(Ordering::SeqCst));
    assert_eq!(dropped.load(Ordering::SeqCst), 6);
    match failed {
        Ok(_) => panic!("nobody failed"),
        Err(error) => error,
    }
}

#[test]
fn a_panic_of_one_worker_ends_the_group_with_its_message() {
    let error = with_one_that::<io::Error>(|| panic!("one is {}", "enough"));
    assert!(
        matches!(&error, GroupError::Panicked { worker: 1, message } if message == "one is enough"),
        "{error:?}"
    );
    assert_eq!(error.worker(), 1);
    let error = io::Error::from(error);
    assert_eq!(error.kind(), ErrorKind::Other);
    assert_eq!(error.to_string(), "worker 1 panicked: one is enough");
}

#[test]
fn an_error_of_one_worker_ends_the_group_and_keeps_its_kind() {
    let error = with_one_that(|| Err(io::Error::new(ErrorKind::AddrInUse, "it is mine")));
    assert!(
        matches!(&error, GroupError::Failed { worker: 1, error } if error.kind() == ErrorKind::AddrInUse),
        "{error:?}"
    );
    let error = io::Error::from(error);
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(error.to_string(), "worker 1: it is mine");
    type Any = Box<dyn Error + Send + Sync>;
    assert!(error.downcast::<GroupError<Any>>().is_ok());

    // Errors of other kinds.
    let error = io::Error::from(with_one_that(|| Err("in so many words")));
    assert_eq!(error.kind(), ErrorKind::Other);
    assert_eq!(error.to_string(), "worker 1: in so many words");
}

#[test]
fn a_loop_that_somebody_stops_ends_the_group() {
    let error = with_one_that::<io::Error>(|| {
        get_running_loop()?.stop();
        Ok(())
    });
    assert!(
        matches!(error, GroupError::Stopped { worker: 1 }),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "worker 1: Event loop stopped before Future completed."
    );
}

#[test]
fn of_two_workers_that_fail_the_first_is_told() {
    let error = LoopGroup::new(2).unwrap().run(|worker| async move {
        if worker.index() == 0 {
            end_of(&worker, 1).await;
        }
        Err::<(), _>(format!("{} fails", worker.index()))
    });
    assert_eq!(error.unwrap_err().to_string(), "worker 1: 1 fails");
}

/// What the failed one has left takes its time to go: here it waits for the other one.
#[test]
fn the_others_are_stopped_before_the_loop_that_failed_is_closed() {
    struct Waits<'a>(mpsc::Receiver<()>, &'a AtomicBool);

    impl Drop for Waits<'_> {
        fn drop(&mut self) {
            // Nothing is ever sent: it ends when the sender goes.
            let waited = self.0.recv_timeout(PATIENCE);
            let is_gone = waited == Err(mpsc::RecvTimeoutError::Disconnected);
            self.1.store(is_gone, Ordering::SeqCst);
        }
    }

    let was_stopped: &'static AtomicBool = Box::leak(Box::default());
    let (sender, receiver) = mpsc::channel();
    let parts = vec![(Some(sender), None), (None, Some(receiver))];
    let error =
        LoopGroup::new(2)
            .unwrap()
            .run_with(parts, |worker, (sender, receiver)| async move {
                let _sender = sender;
                let handle = get_running_loop()?;
                let left = receiver.map(|receiver| Waits(receiver, was_stopped));
                drop(handle.create_task(async move {
                    let _left = left;
                    pending::<()>().await;
                }));
                meet(&worker).await;
                if worker.index() == 1 {
                    return Err(io::Error::other("one is enough"));
                }
                pending().await
            });
    let error = error.map(|_: Vec<()>| ()).unwrap_err();
    assert_eq!(error.to_string(), "worker 1: one is enough");
    assert!(was_stopped.load(Ordering::SeqCst));
}

#[test]
fn a_panic_before_the_future_of_a_worker_is_one_of_that_worker() {
    let waited_in_vain = AtomicBool::new(false);
    let error = LoopGroup::new(2).unwrap().run(|worker| {
        assert!(worker.index() != 0, "no future");
        async {
            until_stopped(&waited_in_vain).await;
            Ok::<(), io::Error>(())
        }
    });
    assert!(!waited_in_vain.into_inner());
    assert_eq!(
        error.unwrap_err().to_string(),
        "worker 0 panicked: no future"
    );
}

#[test]
fn a_loop_that_cannot_be_made_is_an_error_and_no_main_begins() {
    let name = "group::a_loop_that_cannot_be_made_is_an_error_and_no_main_begins";
    if !own_process::enter_with_descriptors(name, 64) {
        return;
    }
    let before = held();
    let begun = AtomicUsize::new(0);
    let run = |workers| {
        LoopGroup::new(workers).unwrap().run(|_| {
            begun.fetch_add(1, Ordering::SeqCst);
            async { Ok::<(), io::Error>(()) }
        })
    };
    let error = run(100).unwrap_err();
    let GroupError::NoLoop { worker, error } = error else {
        panic!("{error:?}");
    };
    assert!((1..64).contains(&worker), "{worker}");
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    assert_eq!(begun.load(Ordering::SeqCst), 0);
    assert_eq!(held(), before);
    // A smaller one is possible afterwards.
    assert!(run(4).is_ok());
    assert_eq!(begun.load(Ordering::SeqCst), 4);
    assert_eq!(held(), before);
}

#[test]
fn sigterm_reaches_every_worker() {
    if !own_process::enter("group::sigterm_reaches_every_worker") {
        return;
    }
    let ended = LoopGroup::new(3).unwrap().run(|worker| async move {
        let handle = get_running_loop()?;
        let stopped = handle.create_future();
        let told = stopped.clone();
        handle.add_signal_handler(SIGTERM, move || told.set_result(()).expect("once"))?;
        meet(&worker).await;
        if worker.index() == 2 {
            raise(SIGTERM)?;
        }
        within("the signal", stopped)
            .await
            .expect("nobody cancels it");
        Ok::<_, io::Error>(worker.index())
    });
    assert_eq!(ended.unwrap(), [0, 1, 2]);
}

// ------------------------------------------------------------------------------ one port

/// Port 0 of the loopback, of both families where the machine has both.
fn loopbacks() -> Vec<SocketAddr> {
    let mut all = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        all.push((Ipv6Addr::LOCALHOST, 0).into());
    }
    all
}

fn address_of(socket: &OwnedFd) -> SocketAddr {
    let address = SockRef::from(socket).local_addr().expect("an address");
    address.as_socket().expect("of the internet")
}

#[test]
fn the_sockets_of_several_loops_have_one_port() {
    let addresses = loopbacks();
    let sockets = reuse_port_sockets(&addresses, 3).unwrap();
    assert_eq!(sockets.len(), 3);
    let port = address_of(&sockets[0][0]).port();
    assert_ne!(port, 0);
    for sockets in &sockets {
        assert_eq!(sockets.len(), addresses.len());
        for (socket, asked) in sockets.iter().zip(&addresses) {
            let expected = SocketAddr::new(asked.ip(), port);
            assert_eq!(address_of(socket), expected);
            let socket = SockRef::from(socket);
            assert!(socket.reuse_port().unwrap() && socket.reuse_address().unwrap());
            assert!(socket.nonblocking().unwrap());
            if expected.is_ipv6() {
                assert!(socket.only_v6().unwrap());
            }
            // Nobody is let in before a loop is there.
            let refused = TcpStream::connect(expected).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
    }
    assert!(reuse_port_sockets(&addresses, 0).unwrap().is_empty());
    let nowhere = reuse_port_sockets(&[], 2).unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_port_that_its_owner_does_not_share_cannot_be_shared() {
    let (_owner, address) = listener();
    let error = reuse_port_sockets(&[address], 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let error = error.downcast::<EndpointError>().unwrap();
    assert!(
        matches!(&error, EndpointError::Bind { address: taken, .. } if taken.port() == Some(address.port())),
        "{error}"
    );
}

/// Runs `clients` on a thread of its own. What it is given has the workers wait for as long as it
/// is there, and says when each of them is ready.
fn beside<R: Send + 'static>(
    workers: usize,
    clients: impl FnOnce(&dyn Fn()) -> R + Send + 'static,
    group: impl FnOnce(Vec<oneshot::Receiver<()>>, mpsc::Sender<()>),
) -> R {
    let (ends, waits): (Vec<oneshot::Sender<()>>, Vec<_>) =
        (0..workers).map(|_| oneshot::channel()).unzip();
    let (ready, is_ready) = mpsc::channel();
    let clients = thread::spawn(move || {
        let _ends = ends;
        clients(&|| {
            for _ in 0..workers {
                is_ready.recv_timeout(PATIENCE).expect("a worker");
            }
        })
    });
    group(waits, ready);
    clients.join().expect("the clients to end well")
}

/// Other systems share the port, but do not spread what comes.
#[test]
#[cfg(target_os = "linux")]
fn every_worker_gets_connections_on_every_address() {
    let sockets = reuse_port_sockets(&loopbacks(), 3).unwrap();
    let addresses: Vec<_> = sockets[0].iter().map(address_of).collect();
    let served_on = addresses.clone();
    let clients = move |all_are_ready: &dyn Fn()| {
        all_are_ready();
        for address in served_on {
            let mut served = BTreeSet::new();
            // By a hash of the ports, so a third of them come to each.
            for _ in 0..1000 {
                served.extend(Peer::connect(address).receive_all());
                if served.len() == 3 {
                    break;
                }
            }
            assert_eq!(served, BTreeSet::from([0, 1, 2]), "on {address}");
        }
    };
    beside(3, clients, |waits, ready| {
        let parts = sockets.into_iter().zip(waits).collect();
        let served = LoopGroup::new(3)
            .unwrap()
            .run_with(parts, |worker, (sockets, wait)| {
                let ready = ready.clone();
                async move {
                    let index = worker.index() as u8;
                    let greet = move |_: StreamReader, writer: StreamWriter| writer.write(&[index]);
                    let mut servers = Vec::new();
                    for socket in sockets {
                        servers.push(start_server(greet, socket).await?);
                    }
                    ready.send(()).expect("somebody waits");
                    let _ = wait.await;
                    for server in servers {
                        server.close();
                        server.wait_closed().await?;
                    }
                    Ok::<_, io::Error>(())
                }
            });
        served.unwrap();
    });
    // The workers had the sockets themselves, so nothing listens any more.
    for address in addresses {
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

/// One worker leaves and drains what it has; whoever comes then is served by the others.
#[test]
#[cfg(target_os = "linux")]
fn a_worker_may_leave_while_the_others_serve_on() {
    const LEAVES: u8 = 1;
    let sockets = reuse_port_sockets(&[([127, 0, 0, 1], 0).into()], 2).unwrap();
    let address = address_of(&sockets[0][0]);
    let clients = move |all_are_ready: &dyn Fn()| {
        all_are_ready();
        let greeted = |peer: &Peer| peer.receive(1)[0];
        // Only when nobody waits in its queue is nobody lost there.
        let mut peers: Vec<(Peer, u8)> = Vec::new();
        while !peers.iter().any(|(_, worker)| *worker == LEAVES) {
            let peer = Peer::connect(address);
            let worker = greeted(&peer);
            peers.push((peer, worker));
            assert!(peers.len() < 200, "all with one worker");
        }
        let (its, _) = peers.iter().find(|(_, worker)| *worker == LEAVES).unwrap();
        its.send(b"leave");
        // It is told when the worker accepts nobody any more.
        assert_eq!(its.receive(7), b"leaving");
        for _ in 0..50 {
            assert_ne!(greeted(&Peer::connect(address)), LEAVES);
        }
        // Those whom it has are served on, until they go.
        for (peer, worker) in &peers {
            peer.send(b"still there?");
            assert_eq!(peer.receive(12), b"still there?", "with worker {worker}");
        }
    };
    beside(2, clients, |waits, ready| {
        let parts = sockets.into_iter().flatten().zip(waits).collect();
        let served = LoopGroup::new(2)
            .unwrap()
            .run_with(parts, |worker, (socket, wait)| {
                let ready = ready.clone();
                async move { greet_until_told(&worker, socket, wait, ready).await }
            });
        served.unwrap();
    });
}

/// Greets with the worker's index and echoes, until somebody says "leave", or till the end.
#[cfg(target_os = "linux")]
async fn greet_until_told(
    worker: &Worker,
    socket: OwnedFd,
    wait: oneshot::Receiver<()>,
    ready: mpsc::Sender<()>,
) -> io::Result<()> {
    let index = worker.index() as u8;
    let told = get_running_loop()?.create_future();
    let tell = told.clone();
    let greet = move |mut reader: StreamReader, writer: StreamWriter| {
        let tell = tell.clone();
        async move {
            writer.write(&[index]);
            loop {
                let data = reader.read(100).await?;
                match &data[..] {
                    b"" => return Ok::<_, io::Error>(()),
                    b"leave" => tell.set_result(writer.transport().clone()).expect("once"),
                    _ => writer.write(&data),
                }
            }
        }
    };
    let server = start_server(greet, socket).await?;
    ready.send(()).expect("somebody waits");
    if let Either::Left((who, _)) = select(told, wait).await {
        let shutdown = server.shutdown().drain(PATIENCE).into_future();
        let shutdown = get_running_loop()?.create_task(shutdown);
        while server.is_serving() {
            sleep(Duration::from_millis(1)).await?;
        }
        who.expect("nobody cancels it").write(b"leaving");
        let report = shutdown.await??;
        assert!(
            report
                .connections()
                .iter()
                .all(|end| end.phase() == ShutdownPhase::Drain)
        );
        return Ok(());
    }
    server.shutdown().await.map(drop)
}

/// Those in the queue of a socket that is closed: the kernel resets them, or gives them to another
/// socket of the port if it is told to.
#[test]
#[cfg(target_os = "linux")]
fn who_waits_for_a_worker_that_leaves_is_lost_unless_the_kernel_hands_them_over() {
    const CLIENTS: usize = 20;
    const SETTING: &str = "/proc/sys/net/ipv4/tcp_migrate_req";
    if !own_process::enter_network(
        "group::who_waits_for_a_worker_that_leaves_is_lost_unless_the_kernel_hands_them_over",
    ) {
        return;
    }
    for (setting, is_handed_over) in [("0", false), ("1", true)] {
        if let Err(error) = std::fs::write(SETTING, setting) {
            skip(&format!("{SETTING}: {error}"));
            return;
        }
        run(async {
            // One place for both of them, so that the others wait.
            let limit = ConnectionLimit::new(1);
            let mut servers = Vec::new();
            let sockets = reuse_port_sockets(&[([127, 0, 0, 1], 0).into()], 2).unwrap();
            let address = address_of(&sockets[0][0]);
            let greet = |mut reader: StreamReader, writer: StreamWriter| async move {
                writer.write(b"welcome");
                reader.read_to_end(10).await.map(drop)
            };
            for socket in sockets.into_iter().flatten() {
                let server = start_server(greet, socket).max_connections(limit.clone());
                servers.push(server.await.unwrap());
            }
            let peers: Vec<_> = (0..CLIENTS).map(|_| Peer::connect(address)).collect();
            let accepted = |server: &Server| server.metrics().accepted();
            let first = within("the first", async {
                loop {
                    if let Some(first) = servers.iter().position(|it| accepted(it) > 0) {
                        return first;
                    }
                    sleep(Duration::from_millis(1)).await.unwrap();
                }
            })
            .await;
            // The other one leaves, and nobody was accepted there.
            servers[1 - first].close();
            let outcomes = in_thread(move || {
                for peer in &peers {
                    // It may be reset.
                    let _ = peer.0.shutdown(Shutdown::Write);
                }
                let outcomes = peers.iter().map(Peer::receive_all_or_error);
                outcomes.collect::<Vec<_>>()
            });
            let outcomes = within("the clients", outcomes).await;
            let (served, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
            assert!(served.iter().flatten().all(|data| data == b"welcome"));
            assert_eq!(lost.is_empty(), is_handed_over, "{lost:?}");
            assert_eq!(accepted(&servers[first]), served.len() as u64);
            for error in lost.into_iter().flat_map(Result::err) {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            }
        });
    }
}

// ------------------------------------------------------------------------------ handing over

struct Greeter(u8);

impl Protocol for Greeter {
    fn connection_made(&mut self, transport: Transport) {
        transport.write(&[self.0]);
        transport.close();
    }
}

/// Greets on the thread of the worker `index`: with a protocol, and with streams.
fn greet(index: u8, socket: TcpStream, with_streams: bool) {
    let handle = get_running_loop().expect("a callback has its loop");
    assert_eq!(thread::current().name(), Some(&*format!("evloop-{index}")));
    drop(handle.create_task(async move {
        if with_streams {
            let (_reader, writer) = open_connection(socket).await.expect("a connection");
            writer.write(&[index]);
            writer.close();
            writer.wait_closed().await.expect("a good end");
        } else {
            let connected = connect_accepted_socket(move || Greeter(index), socket).await;
            connected.expect("a connection");
        }
    }));
}

#[test]
fn one_worker_accepts_and_hands_the_sockets_over() {
    let (listener, address) = listener();
    listener.set_nonblocking(true).unwrap();
    let clients = move |_: &dyn Fn()| {
        let peers = [(); 6].map(|()| Peer::connect(address));
        peers.map(|peer| peer.receive_all())
    };
    let greeted = beside(3, clients, |waits, _ready| {
        let listener = &listener;
        let done = LoopGroup::new(3)
            .unwrap()
            .run_with(waits, |worker, wait| async move {
                if worker.index() == 0 {
                    let handle = get_running_loop()?;
                    for n in 0..6_u8 {
                        let accepted = within("a client", handle.sock_accept(listener)).await;
                        let (socket, _) = accepted?;
                        let (index, with_streams) = (n % 3, n >= 3);
                        let there = worker.threadsafe(index.into());
                        there.call_soon_threadsafe(move || greet(index, socket, with_streams))?;
                    }
                }
                // Nobody says anything: it is dropped when the clients are done.
                let _ = wait.await;
                Ok::<_, io::Error>(())
            });
        done.unwrap();
    });
    // Who connected first was accepted first.
    assert_eq!(greeted, [[0], [1], [2], [0], [1], [2]]);
}
