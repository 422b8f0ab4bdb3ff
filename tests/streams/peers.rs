//! CPython's asyncio at the other end, both ways.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::process::ChildStdin;
use std::rc::Rc;

use evloop::{
    Protocol, StreamReader, StreamWriter, Transport, create_server, get_running_loop,
    open_connection, start_server,
};

use crate::common::peers::{Child, require};
use crate::common::trace::Trace;
use crate::common::{pattern, run, within};
use crate::support::kind;

const SIZES: [usize; 6] = [1, 2, 65_536, 65_537, 1 << 20, 32 << 20];

async fn client(port: Option<u16>, scenario: &str, size: usize) -> String {
    let port = port.unwrap().to_string();
    let python = Child::python("asyncio_client.py", &[&port, scenario, &size.to_string()]);
    python.output().await
}

/// zlib's checksum.
fn adler32(data: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for chunk in data.chunks(5552) {
        for byte in chunk {
            a += u32::from(*byte);
            b += a;
        }
        a %= 65_521;
        b %= 65_521;
    }
    b << 16 | a
}

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    loop {
        let data = reader.read(1 << 16).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write(&data);
        writer.drain().await?;
    }
}

/// The same with callbacks: while the peer does not read, nothing is read from it.
#[derive(Default)]
struct Echo(Option<Transport>);

impl Echo {
    fn transport(&self) -> &Transport {
        self.0.as_ref().expect("a connection")
    }
}

impl Protocol for Echo {
    fn connection_made(&mut self, transport: Transport) {
        self.0 = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        self.transport().write(data);
    }

    fn pause_writing(&mut self) {
        self.transport().pause_reading();
    }

    fn resume_writing(&mut self) {
        self.transport().resume_reading();
    }
}

#[test]
fn an_asyncio_client_gets_every_byte_back_from_our_streams_after_it_closed_its_half() {
    if !require("python3", "python3") {
        return;
    }
    run(async {
        let server = start_server(echo, ("127.0.0.1", 0)).await.unwrap();
        for size in SIZES {
            assert_eq!(
                client(server.sockets()[0].port(), "echo", size).await,
                "same",
                "{size}"
            );
        }
        server.close();
        within("the last connection", server.wait_closed())
            .await
            .unwrap();
    });
}

#[test]
fn an_asyncio_client_gets_every_byte_back_from_our_protocol_after_it_closed_its_half() {
    if !require("python3", "python3") {
        return;
    }
    run(async {
        let server = create_server(Echo::default, ("127.0.0.1", 0))
            .await
            .unwrap();
        for size in SIZES {
            assert_eq!(
                client(server.sockets()[0].port(), "echo", size).await,
                "same",
                "{size}"
            );
        }
        server.close();
        within("the last connection", server.wait_closed())
            .await
            .unwrap();
    });
}

#[test]
fn an_asyncio_client_goes_on_writing_after_our_server_has_closed_its_half() {
    if !require("python3", "python3") {
        return;
    }
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let callback = move |mut reader: StreamReader, writer: StreamWriter| {
            let said = said.clone();
            async move {
                writer.write(b"that is all from me");
                writer.write_eof()?;
                let rest = reader.read_to_end(1000).await?;
                said.say(String::from_utf8_lossy(&rest));
                Ok::<(), io::Error>(())
            }
        };
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        assert_eq!(
            client(server.sockets()[0].port(), "half_close", 0).await,
            "ended"
        );
        trace.until("but not from me").await;
    });
}

#[test]
fn a_reset_by_an_asyncio_client_is_an_error_behind_what_came_before_it() {
    if !require("python3", "python3") {
        return;
    }
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let callback = move |mut reader: StreamReader, writer: StreamWriter| {
            let said = said.clone();
            async move {
                writer.write(b"ready");
                said.say(format!("{:?}", kind(reader.readline().await)));
                said.say(String::from_utf8(reader.read(100).await.unwrap()).unwrap());
                said.say(format!("{:?}", kind(reader.read(100).await)));
                said.say(format!("{:?}", kind(writer.drain().await)));
                said.say(format!("{:?}, closed", kind(writer.wait_closed().await)));
            }
        };
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        assert_eq!(
            client(server.sockets()[0].port(), "reset", 0).await,
            "reset"
        );
        trace.until("ConnectionReset, closed").await;
        let reset = "ConnectionReset";
        assert_eq!(
            trace,
            [reset, "half a li", reset, reset, "ConnectionReset, closed"]
        );
    });
}

#[test]
fn a_slow_asyncio_client_bounds_what_waits_in_our_server() {
    if !require("python3", "python3") {
        return;
    }
    run(async {
        let data: Rc<[u8]> = pattern(16 << 20).into();
        let most = Rc::new(Cell::new(0));
        let (sent, waiting) = (Rc::clone(&data), Rc::clone(&most));
        let callback = move |_: StreamReader, writer: StreamWriter| {
            let (sent, waiting) = (Rc::clone(&sent), Rc::clone(&waiting));
            async move {
                for chunk in sent.chunks(50_000) {
                    writer.write(chunk);
                    let size = writer.transport().get_write_buffer_size();
                    waiting.set(size.max(waiting.get()));
                    writer.drain().await?;
                }
                Ok::<(), io::Error>(())
            }
        };
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        let told = client(server.sockets()[0].port(), "slow", 0).await;
        assert_eq!(told, format!("{} {}", data.len(), adler32(&data)));
        assert!(most.get() <= 65_536 + 50_000, "{}", most.get());
    });
}

/// The asyncio server, its port, and what keeps it alive.
async fn server() -> (Child, u16, ChildStdin) {
    let mut python = Child::python("asyncio_server.py", &[]);
    let stdin = python.stdin();
    let port = python.first_line().await.parse().expect("a port");
    (python, port, stdin)
}

#[test]
fn an_asyncio_server_gives_every_byte_back_after_we_closed_our_half() {
    if !require("python3", "python3") {
        return;
    }
    run(async {
        let (python, port, stdin) = server().await;
        for size in SIZES {
            let data = pattern(size);
            let (mut reader, writer) = open_connection(("127.0.0.1", port)).await.unwrap();
            writer.write(b"echo\n");
            let sent = data.clone();
            let sending = get_running_loop().unwrap().create_task(async move {
                for chunk in sent.chunks(100_000) {
                    writer.write(chunk);
                    writer.drain().await.unwrap();
                }
                writer.write_eof().unwrap();
                writer
            });
            let received = within("the echo", reader.read_to_end(None)).await.unwrap();
            assert!(received == data, "{size}");
            let writer = sending.await.unwrap();
            writer.close();
            writer.wait_closed().await.unwrap();
        }
        drop(stdin);
        python.output().await;
    });
}

#[test]
fn we_go_on_writing_after_an_asyncio_server_has_closed_its_half() {
    if !require("python3", "python3") {
        return;
    }
    run(async {
        let (python, port, stdin) = server().await;
        let (mut reader, writer) = open_connection(("localhost", port)).await.unwrap();
        writer.write(b"half_close\n");
        assert_eq!(
            reader.read_to_end(None).await.unwrap(),
            b"that is all from me"
        );
        writer.write(b"but not from me");
        writer.drain().await.unwrap();
        writer.write_eof().unwrap();
        writer.close();
        writer.wait_closed().await.unwrap();
        drop(stdin);
        // It would have ended badly had it got something else.
        python.output().await;
    });
}

#[test]
fn a_reset_by_an_asyncio_server_is_an_error_behind_what_came_before_it() {
    if !require("python3", "python3") {
        return;
    }
    run(async {
        let (_python, port, _stdin) = server().await;
        let (mut reader, writer) = open_connection(("127.0.0.1", port)).await.unwrap();
        writer.write(b"reset\n");
        assert_eq!(reader.readline().await.unwrap(), b"one\n");
        writer.write(b"ready");
        within("the reset", async {
            while reader.exception().is_none() {
                crate::common::turns(1).await;
            }
        })
        .await;
        assert_eq!(reader.readline().await.unwrap(), b"two\n");
        assert_eq!(kind(reader.readline().await), ErrorKind::ConnectionReset);
        assert_eq!(reader.read(100).await.unwrap(), b"half a li");
        assert_eq!(kind(reader.read(100).await), ErrorKind::ConnectionReset);
        assert_eq!(kind(writer.drain().await), ErrorKind::ConnectionReset);
        assert_eq!(kind(writer.wait_closed().await), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_slow_asyncio_server_bounds_what_waits_in_our_client() {
    if !require("python3", "python3") {
        return;
    }
    run(async {
        let (_python, port, _stdin) = server().await;
        let (mut reader, writer) = open_connection(("127.0.0.1", port)).await.unwrap();
        writer.write(b"slow\n");
        let data = pattern(16 << 20);
        let mut most = 0;
        for chunk in data.chunks(50_000) {
            writer.write(chunk);
            most = most.max(writer.transport().get_write_buffer_size());
            within("room", writer.drain()).await.unwrap();
        }
        assert!(most <= 65_536 + 50_000, "{most}");
        writer.write_eof().unwrap();
        let told = within("the checksum", reader.readline()).await.unwrap();
        let expected = format!("{} {}\n", data.len(), adler32(&data));
        assert_eq!(String::from_utf8(told).unwrap(), expected);
    });
}

#[test]
fn a_loop_of_writes_and_drains_to_an_asyncio_server_that_closed_ends_with_an_error() {
    if !require("python3", "python3") {
        return;
    }
    run(async {
        let (_python, port, _stdin) = server().await;
        let (mut reader, writer) = open_connection(("127.0.0.1", port)).await.unwrap();
        writer.write(b"close\n");
        assert_eq!(reader.read(1).await.unwrap(), b"");
        let error = within("the error", async {
            loop {
                writer.write(b"is anybody there?");
                if let Err(error) = writer.drain().await {
                    return error;
                }
            }
        })
        .await;
        assert!(
            matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ),
            "{error}"
        );
    });
}
