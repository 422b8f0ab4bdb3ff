//! The programs in `examples/`, run as a user runs them, and everything they print.

mod common;
#[cfg(feature = "tls")]
#[path = "examples/http_headers.rs"]
mod http_headers;
#[cfg(feature = "tls")]
#[path = "examples/tls.rs"]
mod tls;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread;

use common::folder::Folder;
use common::peers::require;
use common::program::{Program, example, good};
use common::{Peer, wait_for};

const CLIENTS: [&str; 2] = ["tcp_echo_client", "tcp_echo_client_protocol"];
const SERVERS: [&str; 2] = ["tcp_echo_server", "tcp_echo_server_protocol"];

// ---------------------------------------------------------------- the echo clients and servers

#[test]
fn every_echo_client_talks_to_every_echo_server() {
    for name in SERVERS {
        let mut server = Program::example(name, &["--port", "0"]);
        let address = server.serving_on();
        let port = address.port().to_string();
        let mut expected = format!("Serving on {address}\n");
        for client in CLIENTS {
            for (args, message) in [
                (&["--port", &port][..], "Hello World!"),
                (&["Grüße\n", "--port", &port][..], "Grüße\\n"),
            ] {
                let ended = Program::example(client, args).wait();
                let words = format!("Send: '{message}'\nReceived: '{message}'\nClose the socket\n");
                assert_eq!(ended, good(words), "{client} to {name}");

                let received = server.line();
                let peer = received.strip_prefix(&format!("Received '{message}' from 127.0.0.1:"));
                let peer: u16 = peer.and_then(|peer| peer.parse().ok()).unwrap_or_default();
                assert_ne!(peer, 0, "{name}: {received}");
                assert_eq!(server.line(), format!("Send: '{message}'"));
                assert_eq!(server.line(), "Close the client socket");
                expected += &received;
                expected += &format!("\nSend: '{message}'\nClose the client socket\n");
            }
        }
        server.interrupt();
        assert_eq!(server.wait(), good(expected), "{name}");
    }
}

#[test]
fn an_echo_is_of_a_hundred_bytes_at_most() {
    for name in SERVERS {
        let mut server = Program::example(name, &["--port", "0"]);
        let address = server.serving_on();
        let port = address.port().to_string();
        let (long, cut) = ("x".repeat(150), "x".repeat(100));
        for client in CLIENTS {
            let ended = Program::example(client, &[&long, "--port", &port]).wait();
            let words = format!("Send: '{long}'\nReceived: '{cut}'\nClose the socket\n");
            assert_eq!(ended, good(words), "{client} to {name}");
        }
        server.interrupt();
        let ended = server.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let echoes = ended.stdout.matches(&format!("Send: '{cut}'\n")).count();
        assert_eq!(echoes, CLIENTS.len(), "{ended:?}");
    }
}

#[test]
fn an_echo_server_names_its_client() {
    for name in SERVERS {
        let mut server = Program::example(name, &["--port", "0"]);
        let address = server.serving_on();
        let client = Peer::connect(address);
        let me = client.0.local_addr().expect("an address");
        client.send(b"Hello World!");
        assert_eq!(client.receive_all(), b"Hello World!", "{name}");
        server.interrupt();
        let expected = format!(
            "Serving on {address}\nReceived 'Hello World!' from {me}\nSend: 'Hello World!'\n\
             Close the client socket\n"
        );
        assert_eq!(server.wait(), good(expected), "{name}");
    }
}

#[test]
fn ctrl_c_ends_an_echo_server_that_has_idle_clients() {
    for name in SERVERS {
        let mut server = Program::example(name, &["--port", "0"]);
        let address = server.serving_on();
        let idle = Peer::connect(address);
        // Accepted after the idle one.
        let other = Peer::connect(address);
        other.send(b"x");
        assert_eq!(other.receive_all(), b"x", "{name}");
        server.interrupt();
        assert_eq!(idle.receive_all(), b"", "{name}");
        let ended = server.wait();
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{name}");
    }
}

#[test]
fn without_an_option_the_port_is_8888() {
    let mut server = Program::example("tcp_echo_server", &[]);
    let Some(first) = server.line_or_end() else {
        // Somebody else has it: then this is what the server must complain about.
        let ended = server.wait();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("127.0.0.1:8888"), "{ended:?}");
        return;
    };
    assert_eq!(first, "Serving on 127.0.0.1:8888");
    for client in CLIENTS {
        let ended = Program::example(client, &[]).wait();
        let words = "Send: 'Hello World!'\nReceived: 'Hello World!'\nClose the socket\n";
        assert_eq!(ended, good(words), "{client}");
    }
    server.interrupt();
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn an_echo_client_without_a_server_says_what_it_tried() {
    for client in CLIENTS {
        // Nobody listens on port 1 of the loopback.
        let ended = Program::example(client, &["--port", "1"]).wait();
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{client}");
        assert!(ended.stderr.contains("127.0.0.1:1"), "{ended:?}");
    }
}

#[test]
fn arguments_that_make_no_sense_give_the_usage() {
    let echo_clients = CLIENTS.map(|name| (name, &["--port", "65536"][..]));
    let servers = SERVERS.map(|name| (name, &["--port"][..]));
    let more = [
        ("tcp_echo_client", &["one", "two"][..]),
        ("tcp_echo_client_protocol", &["--prot", "1"]),
        ("tcp_echo_server", &["1", "2"]),
        ("tcp_echo_server_protocol", &["--port", "many"]),
        ("chat", &["--port", "-1"]),
        ("graceful_shutdown", &["--port"]),
        ("multi_core_echo", &["--workers"]),
        ("multi_core_echo", &["--workers", "-1"]),
        ("multi_core_echo", &["--hand"]),
        ("proxy", &[]),
        ("proxy", &["0"]),
        ("proxy", &["0", "127.0.0.1"]),
        ("proxy", &["none", "127.0.0.1:1"]),
    ];
    for (name, args) in echo_clients.into_iter().chain(servers).chain(more) {
        let ended = Program::example(name, args).wait();
        assert_eq!(
            (ended.code, &*ended.stdout),
            (Some(2), ""),
            "{name} {args:?}"
        );
        let usage = format!("usage: {name} ");
        assert!(ended.stderr.contains(&usage), "{name} {args:?}: {ended:?}");
    }
}

// ---------------------------------------------------------------- the echo beside CPython's

/// The server of the asyncio documentation, on any port and for one client.
const ASYNCIO_SERVER: &str = r#"
import asyncio

async def main():
    over = asyncio.Event()

    async def handle_echo(reader, writer):
        data = await reader.read(100)
        message = data.decode()
        addr = writer.get_extra_info('peername')
        print(f"Received {message!r}")
        writer.write(data)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        over.set()

    server = await asyncio.start_server(handle_echo, '127.0.0.1', 0)
    print('Serving on %s:%d' % server.sockets[0].getsockname())
    await over.wait()
    server.close()
    await server.wait_closed()

asyncio.run(main())
"#;

/// The client of the asyncio documentation, which also says who it is.
const ASYNCIO_CLIENT: &str = r#"
import asyncio, sys

async def tcp_echo_client(message):
    reader, writer = await asyncio.open_connection('127.0.0.1', int(sys.argv[1]))
    print('%s:%d' % writer.get_extra_info('sockname'))
    print(f'Send: {message!r}')
    writer.write(message.encode())
    await writer.drain()
    data = await reader.read(100)
    print(f'Received: {data.decode()!r}')
    assert await reader.read() == b''
    print('Close the connection')
    writer.close()
    await writer.wait_closed()

asyncio.run(tcp_echo_client('Hello World!'))
"#;

#[test]
fn an_echo_client_talks_to_asyncio() {
    if !require("python3", "python3") {
        return;
    }
    for client in CLIENTS {
        let mut server = Program::python(ASYNCIO_SERVER, &[]);
        let address = server.serving_on();
        let ended = Program::example(client, &["--port", &address.port().to_string()]).wait();
        let words = "Send: 'Hello World!'\nReceived: 'Hello World!'\nClose the socket\n";
        assert_eq!(ended, good(words), "{client}");
        let expected = format!("Serving on {address}\nReceived 'Hello World!'\n");
        assert_eq!(server.wait(), good(expected), "asyncio for {client}");
    }
}

#[test]
fn asyncio_talks_to_an_echo_server() {
    if !require("python3", "python3") {
        return;
    }
    for name in SERVERS {
        let mut server = Program::example(name, &["--port", "0"]);
        let address = server.serving_on();
        let mut client = Program::python(ASYNCIO_CLIENT, &[&address.port().to_string()]);
        let me = client.line();
        let expected =
            format!("{me}\nSend: 'Hello World!'\nReceived: 'Hello World!'\nClose the connection\n");
        assert_eq!(client.wait(), good(expected), "asyncio to {name}");
        server.interrupt();
        let expected = format!(
            "Serving on {address}\nReceived 'Hello World!' from {me}\nSend: 'Hello World!'\n\
             Close the client socket\n"
        );
        assert_eq!(server.wait(), good(expected), "{name}");
    }
}

// ---------------------------------------------------------------- chat

/// A client of the chat that has been let in.
fn join(server: &mut Program, address: SocketAddr) -> (Peer, SocketAddr) {
    let peer = Peer::connect(address);
    let name = peer.0.local_addr().expect("an address");
    assert_eq!(server.line(), format!("{name} joined"));
    (peer, name)
}

#[test]
fn chat_gives_each_line_to_all_others() {
    let mut server = Program::example("chat", &["--port", "0"]);
    let address = server.serving_on();
    let (one, one_name) = join(&mut server, address);
    let (two, two_name) = join(&mut server, address);
    let (three, three_name) = join(&mut server, address);

    one.send(b"from one\nand ag");
    for other in [&two, &three] {
        assert_eq!(other.receive(9), b"from one\n");
    }
    one.send(b"ain\n");
    for other in [&two, &three] {
        assert_eq!(other.receive(10), b"and again\n");
    }
    // Not what it said itself.
    two.send(b"from two\n");
    for other in [&one, &three] {
        assert_eq!(other.receive(9), b"from two\n");
    }
    // The last line of one who leaves needs no newline.
    three.send(b"bye");
    three.finish();
    assert_eq!(server.line(), format!("{three_name} left"));
    assert_eq!(three.receive_all(), b"");
    for other in [&one, &two] {
        assert_eq!(other.receive(4), b"bye\n");
    }
    one.finish();
    assert_eq!(server.line(), format!("{one_name} left"));
    two.finish();
    assert_eq!(server.line(), format!("{two_name} left"));
    assert_eq!((one.receive_all(), two.receive_all()), (vec![], vec![]));

    server.interrupt();
    let expected = format!(
        "Serving on {address}\n{one_name} joined\n{two_name} joined\n{three_name} joined\n\
         {three_name} left\n{one_name} left\n{two_name} left\n"
    );
    assert_eq!(server.wait(), good(expected));
}

#[test]
fn chat_goes_on_without_a_client_that_does_not_read() {
    let mut server = Program::example("chat", &["--port", "0"]);
    let address = server.serving_on();
    let (talker, _) = join(&mut server, address);
    let (listener, _) = join(&mut server, address);
    let (_deaf, deaf_name) = join(&mut server, address);
    let mut line = vec![b'x'; 32 * 1024];
    line.push(b'\n');
    // The system's buffers take some megabytes first.
    let complaint = (0..4096).find_map(|_| {
        talker.send(&line);
        assert!(listener.receive(line.len()) == line, "a line was changed");
        server.try_line()
    });
    let complaint = complaint.expect("the server to notice");
    assert_eq!(complaint, format!("{deaf_name} does not read"));
    assert_eq!(server.line(), format!("{deaf_name} left"));
    listener.send(b"still here?\n");
    assert_eq!(talker.receive(12), b"still here?\n");
    server.interrupt();
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn ctrl_c_ends_chat_in_front_of_a_full_house() {
    let mut server = Program::example("chat", &["--port", "0"]);
    let address = server.serving_on();
    let (one, _) = join(&mut server, address);
    let (two, _) = join(&mut server, address);
    server.interrupt();
    assert_eq!((one.receive_all(), two.receive_all()), (vec![], vec![]));
    let ended = server.wait();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
}

// ---------------------------------------------------------------- multi_core_echo

/// A client of `multi_core_echo`, and the worker that serves it.
fn echoed(server: &mut Program, address: SocketAddr) -> (Peer, usize) {
    let peer = Peer::connect(address);
    let me = peer.0.local_addr().expect("an address");
    peer.send(b"hello");
    assert_eq!(peer.receive(5), b"hello");
    let line = server.line();
    let worker = line.strip_prefix("Worker ");
    let worker = worker.and_then(|line| line.strip_suffix(&format!(" serves {me}")));
    let worker = worker.and_then(|number| number.parse().ok());
    (peer, worker.unwrap_or_else(|| panic!("{line:?}")))
}

/// Ctrl+C, which closes the connections of every worker.
fn end_of_all(mut server: Program, peers: Vec<Peer>) {
    server.interrupt();
    for peer in peers {
        assert_eq!(peer.receive_all(), b"");
    }
    let ended = server.wait();
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    let said = ended.stdout.matches("Serving on ").count();
    assert_eq!(said, 1, "{ended:?}");
}

/// Other systems share the port, but do not spread what comes.
#[test]
#[cfg(target_os = "linux")]
fn multi_core_echo_serves_one_port_with_every_worker() {
    let mut server = Program::example("multi_core_echo", &["--port", "0", "--workers", "2"]);
    let address = server.serving_on();
    let (mut peers, mut served) = (Vec::new(), [0; 2]);
    // By a hash of the ports, so half of them come to each.
    while served.contains(&0) {
        let (peer, worker) = echoed(&mut server, address);
        served[worker] += 1;
        peers.push(peer);
        assert!(peers.len() < 200, "none of {served:?} for one of them");
    }
    end_of_all(server, peers);
}

#[test]
fn multi_core_echo_hands_connections_over_in_turn() {
    let args = ["--hand-over", "--workers", "3", "--port", "0"];
    let mut server = Program::example("multi_core_echo", &args);
    let address = server.serving_on();
    let clients = [(); 7].map(|()| echoed(&mut server, address));
    let (peers, workers): (Vec<_>, Vec<_>) = clients.into_iter().unzip();
    assert_eq!(workers, [0, 1, 2, 0, 1, 2, 0]);
    // One that leaves is no more than that.
    let mut peers = peers.into_iter();
    let gone = peers.next().expect("there are seven");
    gone.finish();
    assert_eq!(gone.receive_all(), b"");
    end_of_all(server, peers.collect());
}

/// The server owes it more than any system buffers for it.
#[test]
fn multi_core_echo_ends_in_front_of_a_client_that_does_not_read() {
    for how in [&[][..], &["--hand-over"]] {
        let args = [how, &["--workers", "2", "--port", "0"]].concat();
        let mut server = Program::example("multi_core_echo", &args);
        let address = server.serving_on();
        let (stuck, _) = echoed(&mut server, address);
        stuck.0.set_nonblocking(true).expect("to set an option");
        let mut refused = 0;
        wait_for("the server reads no more", || {
            refused = match (&stuck.0).write(&[b'x'; 64 * 1024]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => refused + 1,
                outcome => outcome.map(|_| 0).expect("to send"),
            };
            (refused == 20).then_some(())
        });
        server.interrupt();
        // What it says of this client is no matter here.
        assert_eq!(server.wait().code, Some(0));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn multi_core_echo_ends_when_the_one_who_accepts_cannot() {
    if !require("strace", "strace") {
        return;
    }
    let mut command = Command::new("strace");
    command
        .args(["-f", "-o", "/dev/null", "-e"])
        .arg("inject=accept,accept4:error=EINVAL")
        .arg(example("multi_core_echo"))
        .args(["--hand-over", "--workers", "2", "--port", "0"]);
    let ended = Program::run(command).wait();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("worker: 0"), "{ended:?}");
}

/// One that has left before it was accepted is no reason to let the others wait.
#[test]
#[cfg(target_os = "linux")]
fn multi_core_echo_goes_on_at_once_after_one_that_has_left() {
    if !require("strace", "strace") {
        return;
    }
    let mut command = Command::new("strace");
    // As a grandchild, so that the signal is the server's.
    command
        .args(["-D", "-f", "-o", "/dev/null", "-e"])
        .arg("inject=accept,accept4:error=ECONNABORTED:when=1")
        .arg(example("multi_core_echo"))
        .args(["--hand-over", "--workers", "2", "--port", "0"]);
    let mut server = Program::run(command);
    let address = server.serving_on();
    let (peer, worker) = echoed(&mut server, address);
    // The worker 0 has lost its turn.
    assert_eq!(worker, 1);
    // And nothing was said of it.
    end_of_all(server, vec![peer]);
}

#[test]
fn multi_core_echo_refuses_a_million_workers_in_a_sentence() {
    let ended = Program::example("multi_core_echo", &["--workers", "1000000"]).wait();
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""));
    assert!(ended.stderr.contains("1000000 workers"), "{ended:?}");
}

// ---------------------------------------------------------------- proxy

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

const MEBIBYTE: usize = 1024 * 1024;

/// A mebibyte in which no two stretches are alike.
fn mebibyte(salt: u32) -> Vec<u8> {
    let numbers = (0..MEBIBYTE as u32 / 4).map(|n| n.wrapping_mul(0x9e37_79b9) ^ salt);
    numbers.flat_map(u32::to_le_bytes).collect()
}

/// The proxy, its address, and the listener that it stands in front of.
fn proxy() -> (Program, SocketAddr, TcpListener) {
    let (listener, port) = listener();
    let mut proxy = Program::example("proxy", &["0", &format!("127.0.0.1:{port}")]);
    let address = proxy.serving_on();
    (proxy, address, listener)
}

fn end(mut proxy: Program, address: SocketAddr) {
    proxy.interrupt();
    assert_eq!(proxy.wait(), good(format!("Serving on {address}\n")));
}

#[test]
fn proxy_passes_the_clients_end_on_while_the_answer_is_to_come() {
    let (proxy, address, listener) = proxy();
    let target = thread::spawn(move || {
        let target = Peer::accept(&listener);
        let data = target.receive_all();
        target.send(&data);
    });
    let client = Peer::connect(address);
    client.send(&mebibyte(1));
    client.finish();
    assert!(client.receive_all() == mebibyte(1), "not what was sent");
    target.join().expect("the target");
    end(proxy, address);
}

#[test]
fn proxy_passes_the_targets_end_on_while_the_client_goes_on() {
    let (proxy, address, listener) = proxy();
    let target = thread::spawn(move || {
        let target = Peer::accept(&listener);
        target.send(&mebibyte(2));
        target.finish();
        target.receive_all()
    });
    let client = Peer::connect(address);
    assert!(client.receive_all() == mebibyte(2), "not what was sent");
    client.send(&mebibyte(3));
    client.finish();
    assert!(
        target.join().expect("the target") == mebibyte(3),
        "not what was sent"
    );
    end(proxy, address);
}

#[test]
fn proxy_copies_both_ways_at_once() {
    let (proxy, address, listener) = proxy();
    let target = thread::spawn(move || {
        let target = Peer::accept(&listener);
        let mut buffer = vec![0; 4096];
        loop {
            let n = (&target.0)
                .read(&mut buffer)
                .expect("the target to receive");
            if n == 0 {
                return target.finish();
            }
            target.send(&buffer[..n]);
        }
    });
    let client = Peer::connect(address);
    let mut writing = client.0.try_clone().expect("a descriptor");
    let writer = thread::spawn(move || {
        for _ in 0..8 {
            writing.write_all(&mebibyte(4)).expect("the client to send");
        }
        writing.shutdown(std::net::Shutdown::Write)
    });
    for _ in 0..8 {
        assert!(client.receive(MEBIBYTE) == mebibyte(4), "not what was sent");
    }
    assert_eq!(client.receive_all(), b"");
    writer.join().expect("the client").expect("its end");
    target.join().expect("the target");
    end(proxy, address);
}

#[test]
fn proxy_outlives_a_target_that_refuses() {
    let mut proxy = Program::example("proxy", &["0", "127.0.0.1:1"]);
    let address = proxy.serving_on();
    for _ in 0..2 {
        assert_eq!(Peer::connect(address).receive_all(), b"");
    }
    proxy.interrupt();
    let ended = proxy.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let complaints = ended
        .stderr
        .matches("cannot connect to 127.0.0.1:1")
        .count();
    assert_eq!(complaints, 2, "{ended:?}");
}

#[test]
fn proxy_makes_a_reset_on_one_side_an_end_on_the_other() {
    let (mut proxy, address, listener) = proxy();
    let client = Peer::connect(address);
    client.send(b"hello");
    let target = Peer::accept(&listener);
    assert_eq!(target.receive(5), b"hello");
    let target = target.0;
    socket2::SockRef::from(&target)
        .set_linger(Some(std::time::Duration::ZERO))
        .expect("SO_LINGER");
    drop(target);
    // The client goes on sending nothing: without the abort it would wait for ever.
    let mut rest = Vec::new();
    let end = (&client.0).read_to_end(&mut rest);
    assert!(end.is_err() || rest.is_empty(), "{rest:?}");
    proxy.interrupt();
    assert_eq!(proxy.wait().code, Some(0));
}

// ---------------------------------------------------------------- graceful_shutdown

#[test]
fn graceful_shutdown_lets_work_be_done_and_closes_who_does_nothing() {
    let mut server = Program::example("graceful_shutdown", &["--port", "0"]);
    let address = server.serving_on();
    let [worker, idle] = [(); 2].map(|()| {
        let client = Peer::connect(address);
        client.send(b"0\n");
        assert_eq!(client.receive(16), b"done after 0 ms\n");
        client
    });
    idle.send(b"a lot\n");
    assert!(idle.receive(8).starts_with(b"invalid"));
    let names = [&worker, &idle].map(|client| client.0.local_addr().expect("an address"));

    worker.send(b"300\n");
    server.interrupt();
    assert_eq!(server.line(), "Stopping");
    assert_eq!(worker.receive_all(), b"done after 300 ms\n");
    idle.receive_all();
    let expected = format!(
        "Serving on {address}\nStopping\n{} ended in time\n{} was closed\n\
         1 ended in time, 1 closed, 0 aborted\n",
        names[0], names[1]
    );
    assert_eq!(server.wait(), good(expected));
}

#[test]
fn graceful_shutdown_without_clients_ends_at_once() {
    let mut server = Program::example("graceful_shutdown", &["--port", "0"]);
    let address = server.serving_on();
    server.interrupt();
    let expected =
        format!("Serving on {address}\nStopping\n0 ended in time, 0 closed, 0 aborted\n");
    assert_eq!(server.wait(), good(expected));
}

// ---------------------------------------------------------------- watch_fd

#[test]
fn watch_fd_receives_what_is_sent_and_stops_the_loop() {
    assert_eq!(
        Program::example("watch_fd", &[]).wait(),
        good("Received: abc\n")
    );
}

// ---------------------------------------------------------------- unix sockets

#[test]
fn unix_echo_answers_itself_and_leaves_no_file() {
    let folder = Folder::new();
    let path = folder.path("echo.sock");
    let mut echo = Program::example("unix_echo", &[path.to_str().expect("text")]);
    assert_eq!(echo.line(), format!("Serving on {}", path.display()));
    let received = echo.line();
    assert!(
        received.starts_with(r#"Received "Hello World!\n""#),
        "{received}"
    );
    assert_eq!(echo.line(), r#"Send: "Hello World!\n""#);
    assert_eq!(echo.line(), "Close the connection");
    assert_eq!(echo.line(), r#"Answer: "Hello World!\n""#);
    let ended = echo.wait();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(folder.names().is_empty());
}

#[test]
fn register_socket_streams_reads_what_a_callback_sent() {
    let ended = Program::example("register_socket_streams", &[]).wait();
    assert_eq!(ended, good("Received: abc\n"));
}

#[test]
fn register_socket_protocol_receives_what_is_sent_and_stops_the_loop() {
    let ended = Program::example("register_socket_protocol", &[]).wait();
    assert_eq!(ended, good("Received: abc\n"));
}

// ---------------------------------------------------------------- the futures crate

#[test]
fn our_futures_run_under_select_and_join_and_futures_unordered() {
    let expected = "join!: one and two\nselect!: the timer\nthen: half a line\n\
                    FuturesUnordered: 10 ms\nFuturesUnordered: 20 ms\nFuturesUnordered: 30 ms\n";
    assert_eq!(Program::example("select_join", &[]).wait(), good(expected));
}

// ---------------------------------------------------------------- everything at once

#[cfg(all(feature = "cli", feature = "tls"))]
#[test]
fn a_soak_of_two_seconds_finds_nothing() {
    let ended = Program::example("soak", &["--seconds", "2", "--seed", "7"]).wait();
    assert_eq!(
        (ended.code, &*ended.stderr),
        (Some(0), ""),
        "{}",
        ended.stdout
    );
    let last = ended.stdout.lines().last().unwrap_or_default();
    let ending = " faults, 0 mismatches, 0 hangs, 0 leaked descriptors";
    assert!(
        last.starts_with("soak: ") && last.ends_with(ending),
        "{last}"
    );
    let row = |row: &&str| row.starts_with("| connections") || row.starts_with("| fault");
    let rows: Vec<&str> = ended.stdout.lines().filter(row).collect();
    assert_eq!(rows.len(), 14, "{}", ended.stdout);
    for row in rows {
        // A client that connects just then: in so short a time there may be none.
        let may_be_missing = row.starts_with("| fault: connect without a descriptor");
        assert!(may_be_missing || !row.ends_with("| 0 |"), "{row}");
    }
    assert!(!ended.stdout.contains("unexpected"), "{}", ended.stdout);
}

#[cfg(all(feature = "cli", feature = "tls"))]
#[test]
fn a_soak_refuses_arguments_that_make_no_sense() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "--seconds is missing"),
        (&["--seconds", "1"], "--seed is missing"),
        (&["--seconds"], "--seconds needs a number"),
        (
            &["--seconds", "0", "--seed", "1"],
            "--seconds is between 1 and 604800",
        ),
        (
            &["--seconds", "-1", "--seed", "1"],
            "--seconds is a number, and not \"-1\"",
        ),
        (
            &["--seconds", "1", "--seed", "x"],
            "--seed is a number, and not \"x\"",
        ),
        (&["--seed", "1", "--seed", "2"], "--seed is there twice"),
        (&["--hours", "1"], "\"--hours\" is no option"),
    ];
    for (args, message) in cases {
        let ended = Program::example("soak", args).wait();
        let usage = "usage: soak --seconds N --seed S";
        assert_eq!(ended.code, Some(2), "{args:?}");
        assert_eq!(
            ended.stderr,
            format!("soak: {message}\n{usage}\n"),
            "{args:?}"
        );
        assert_eq!(ended.stdout, "", "{args:?}");
    }
}

#[cfg(all(feature = "cli", feature = "tls"))]
#[test]
fn a_soak_refuses_an_argument_that_is_no_text() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let odd = OsStr::from_bytes(b"\xff");
    for (args, message) in [
        (vec![odd], r#""\xFF" is no option"#),
        (
            vec![OsStr::new("--seed"), odd],
            r#"--seed is a number, and not "\xFF""#,
        ),
    ] {
        let mut command = Command::new(example("soak"));
        command.args(&args);
        let ended = Program::run(command).wait();
        assert_eq!(ended.code, Some(2), "{args:?}");
        assert!(ended.stderr.contains(message), "{ended:?}");
    }
}
