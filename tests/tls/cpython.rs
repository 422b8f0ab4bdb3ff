//! CPython's ssl at the other end, over asyncio and by itself, both ways.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use evloop::rustls::ProtocolVersion;
use evloop::{
    ClientConnectedCb, OpenConnection, StreamReader, StreamReaderProtocol, StreamWriter,
    TlsSession, connect_accepted_socket, create_connection, get_running_loop, open_connection,
    open_unix_connection, start_server, start_unix_server,
};
use futures::StreamExt;
use futures::channel::mpsc::unbounded;

use crate::common::folder::Folder;
use crate::common::peers::{require, script};
use crate::common::{in_thread, listener, pattern, within};
use crate::quiet::run_quietly;
use crate::support::{cert, client_context, server_context};
use crate::talk::Talk;

/// What Python calls them, and we.
const VERSIONS: [(&str, ProtocolVersion); 2] = [
    ("TLSv1_2", ProtocolVersion::TLSv1_2),
    ("TLSv1_3", ProtocolVersion::TLSv1_3),
];
/// More than the half megabyte that a line has.
const LIMIT: usize = 1 << 20;
/// Far more than an answer takes, so that nobody mistakes it for one.
const LONG: Duration = Duration::from_secs(25);

fn has_python() -> bool {
    require("python3", "python3")
}

fn path(name: &str) -> String {
    cert(name).to_str().expect("text").to_owned()
}

fn python(name: &str, args: &[&str]) -> Talk {
    let script = script(name);
    let mut all = vec!["-B", script.to_str().expect("text")];
    all.extend(args);
    Talk::start("python3", &all)
}

/// A client of asyncio's, and what it says at its end.
async fn client(address: &str, version: &str, scenario: &str) -> String {
    let client = python(
        "tls_client.py",
        &[address, version, &path("ca.pem"), scenario],
    );
    let (code, transcript) = client.end().await;
    assert_eq!(code, Some(0), "{scenario}, {version}: {transcript}");
    transcript.trim_end().to_owned()
}

/// A server of asyncio's, and its port or path.
async fn server(address: &str, version: &str, way: &str) -> (Talk, String) {
    let (cert, key) = (path("server.pem"), path("server.key"));
    let mut server = python("tls_server.py", &[address, version, &cert, &key, way]);
    let address = server.see("\n").await;
    (server, address)
}

/// It has nothing to complain about.
async fn dismiss(mut server: Talk) {
    server.hang_up();
    let (code, transcript) = server.end().await;
    assert_eq!(code, Some(0), "{transcript}");
    for word in ["Traceback", "failed", "Error"] {
        assert!(!transcript.contains(word), "{transcript}");
    }
}

fn to(port: &str) -> OpenConnection {
    open_connection(("localhost", port.parse::<u16>().expect("a port")))
}

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    loop {
        let data = reader.read(1 << 16).await?;
        if data.is_empty() {
            return Ok(());
        }
        writer.write(data);
        writer.drain().await?;
    }
}

/// Closes, and waits for the end, which has to come by the peer and not by the clock.
async fn part(writer: &StreamWriter) {
    writer.close();
    let since = Instant::now();
    within("the end", writer.wait_closed()).await.unwrap();
    assert!(since.elapsed() < LONG / 2, "{:?}", since.elapsed());
}

/// Lines of half a megabyte there and back.
async fn converse(reader: &mut StreamReader, writer: &StreamWriter) {
    for letter in b'a'..b'i' {
        let mut line = vec![letter; (1 << 19) - 1];
        line.push(b'\n');
        writer.write(&line);
        writer.drain().await.unwrap();
        let back = within("a line", reader.readline()).await.unwrap();
        assert!(back == line);
    }
}

#[test]
fn an_asyncio_client_gets_everything_back_from_our_streams() {
    if !has_python() {
        return;
    }
    run_quietly(async {
        let server = start_server(echo, ("127.0.0.1", 0)).ssl(server_context("server"));
        let server = server.limit(LIMIT).ssl_shutdown_timeout(LONG);
        let server = server.await.unwrap();
        let port = server.sockets()[0].port().unwrap().to_string();
        for (version, _) in VERSIONS {
            assert_eq!(client(&port, version, "echo").await, "same");
            assert_eq!(client(&port, version, "lines").await, "same");
        }
        server.close();
        within("its end", server.wait_closed()).await.unwrap();
    });
}

#[test]
fn an_asyncio_client_reads_half_a_megabyte_line_by_line_from_our_readline() {
    if !has_python() {
        return;
    }
    async fn lines(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
        loop {
            let line = reader.readline().await?;
            if line.is_empty() {
                return Ok(());
            }
            assert_eq!(line.len(), 1 << 19);
            writer.write(line);
            writer.drain().await?;
        }
    }
    run_quietly(async {
        let server = start_server(lines, ("127.0.0.1", 0)).ssl(server_context("server"));
        let server = server.limit(LIMIT).await.unwrap();
        let port = server.sockets()[0].port().unwrap().to_string();
        for (version, _) in VERSIONS {
            assert_eq!(client(&port, version, "lines").await, "same");
        }
    });
}

#[test]
fn our_streams_get_everything_back_from_an_asyncio_server() {
    if !has_python() {
        return;
    }
    run_quietly(async {
        for (version, expected) in VERSIONS {
            let (mut server, port) = server("0", version, "tls").await;
            let connecting = to(&port).ssl(client_context()).limit(LIMIT);
            let (mut reader, writer) = connecting.ssl_shutdown_timeout(LONG).await.unwrap();
            let session = writer.get_extra_info(TlsSession).unwrap();
            assert_eq!(session.version, expected);
            writer.write(b"echo\n");
            converse(&mut reader, &writer).await;
            // And both directions at once.
            let data = Rc::new(pattern(8 << 20));
            let writer = Rc::new(writer);
            let (sent, sender) = (Rc::clone(&data), Rc::clone(&writer));
            let sending = get_running_loop().unwrap().create_task(async move {
                for piece in sent.chunks(100_000) {
                    sender.write(piece);
                    sender.drain().await.unwrap();
                }
            });
            let back = within("everything", reader.readexactly(data.len())).await;
            assert!(back.unwrap() == *data);
            sending.await.unwrap();
            part(&writer).await;
            server.see("echo is over\n").await;
            dismiss(server).await;
        }
    });
}

#[test]
fn an_asyncio_server_closes_first_or_we_do_and_nobody_waits_for_long() {
    if !has_python() {
        return;
    }
    run_quietly(async {
        for (version, _) in VERSIONS {
            let (mut server, port) = server("0", version, "tls").await;
            for wanted in ["close", "they_close"] {
                let connecting = to(&port).ssl(client_context());
                let (mut reader, writer) = connecting.ssl_shutdown_timeout(LONG).await.unwrap();
                writer.write(format!("{wanted}\n").as_bytes());
                if wanted == "close" {
                    let said = within("the end", reader.read_to_end(100)).await.unwrap();
                    assert_eq!(said, b"the last line\n");
                } else {
                    writer.write(b"the last line\n");
                }
                part(&writer).await;
                server.see(&format!("{wanted} is over\n")).await;
            }
            dismiss(server).await;
        }
    });
}

#[test]
fn an_asyncio_client_closes_first_or_we_do_and_nobody_waits_for_long() {
    if !has_python() {
        return;
    }
    async fn serve(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
        if reader.readline().await? == b"close\n" {
            writer.write(b"the last line\n");
        } else {
            assert_eq!(reader.read(1).await?, b"");
        }
        part(&writer).await;
        Ok(())
    }
    run_quietly(async {
        let server = start_server(serve, ("127.0.0.1", 0)).ssl(server_context("server"));
        let server = server.ssl_shutdown_timeout(LONG).await.unwrap();
        let port = server.sockets()[0].port().unwrap().to_string();
        for (version, _) in VERSIONS {
            assert_eq!(client(&port, version, "we_close").await, "closed");
            assert_eq!(client(&port, version, "they_close").await, "the last line");
        }
        server.close();
        within("its end", server.wait_closed()).await.unwrap();
    });
}

/// Much more than the system and the other side take at once.
const MUCH: usize = 8 << 20;

#[test]
fn what_an_asyncio_server_or_we_have_not_sent_at_the_close_arrives_before_the_end() {
    if !has_python() {
        return;
    }
    run_quietly(async {
        for (version, _) in VERSIONS {
            let (mut server, port) = server("0", version, "tls").await;
            let connecting = to(&port).ssl(client_context());
            let (mut reader, writer) = connecting.ssl_shutdown_timeout(LONG).await.unwrap();
            writer.write(b"leave\n");
            let mut received = 0;
            loop {
                let data = within("more", reader.read(10_000)).await.unwrap();
                if data.is_empty() {
                    break;
                }
                received += data.len();
            }
            assert_eq!(received, MUCH);
            part(&writer).await;
            server.see("leave is over\n").await;

            let connecting = to(&port).ssl(client_context());
            let (_reader, writer) = connecting.ssl_shutdown_timeout(LONG).await.unwrap();
            writer.write(b"count\n");
            writer.write(vec![0; MUCH]);
            part(&writer).await;
            server.see(&format!("{MUCH} counted\n")).await;
            server.see("count is over\n").await;
            dismiss(server).await;
        }
    });
}

#[test]
fn what_an_asyncio_client_or_we_have_not_sent_at_the_close_arrives_before_the_end() {
    if !has_python() {
        return;
    }
    run_quietly(async {
        let (sender, mut connections) = unbounded();
        let handler = move |reader: StreamReader, writer: StreamWriter| {
            sender.unbounded_send((reader, writer)).unwrap();
        };
        let server = start_server(handler, ("127.0.0.1", 0)).ssl(server_context("server"));
        let server = server.ssl_shutdown_timeout(LONG).await.unwrap();
        let port = server.sockets()[0].port().unwrap().to_string();
        for (version, _) in VERSIONS {
            let peer = python("tls_client.py", &[&port, version, &path("ca.pem"), "leave"]);
            let (mut reader, writer) = within("a client", connections.next()).await.unwrap();
            let everything = within("the end", reader.read_to_end(2 * MUCH)).await;
            assert_eq!(everything.unwrap().len(), MUCH);
            part(&writer).await;
            assert_eq!(peer.end().await, (Some(0), "left\n".to_owned()));

            let peer = python("tls_client.py", &[&port, version, &path("ca.pem"), "count"]);
            let (_reader, writer) = within("a client", connections.next()).await.unwrap();
            writer.write(vec![0; MUCH]);
            part(&writer).await;
            assert_eq!(peer.end().await, (Some(0), format!("{MUCH}\n")));
        }
    });
}

#[test]
fn a_close_in_the_midst_of_an_echo_waits_for_no_more_than_the_end() {
    if !has_python() {
        return;
    }
    run_quietly(async {
        for (version, _) in VERSIONS {
            let (_server, port) = server("0", version, "tls").await;
            let connecting = to(&port).ssl(client_context());
            let (mut reader, writer) = connecting.ssl_shutdown_timeout(LONG).await.unwrap();
            writer.write(b"echo\n");
            writer.write(vec![0; MUCH]);
            within("the first of it", reader.readexactly(1))
                .await
                .unwrap();
            part(&writer).await;
            // asyncio gives up what it had to send, and its streams say that the connection is lost.
        }
    });
}

/// It says its word and its goodbye, and is gone before our session tickets come, which are answered
/// with a reset.
#[test]
fn everything_is_read_of_a_client_that_says_one_thing_and_is_gone() {
    if !has_python() {
        return;
    }
    run_quietly(async {
        let (sender, mut outcomes) = unbounded();
        let handler = move |mut reader: StreamReader, writer: StreamWriter| {
            let sender = sender.clone();
            async move {
                let said = reader.read_to_end(1000).await;
                sender.unbounded_send(said).unwrap();
                drop(writer);
            }
        };
        let server = start_server(handler, ("127.0.0.1", 0)).ssl(server_context("server"));
        let server = server.await.unwrap();
        let port = server.sockets()[0].port().unwrap().to_string();
        let peer = python("tls_gone.py", &[&port, &path("ca.pem"), "100"]);
        for _ in 0..100 {
            let said = within("a client", outcomes.next()).await.unwrap();
            assert_eq!(said.unwrap(), b"the whole message");
        }
        assert_eq!(peer.end().await, (Some(0), String::new()));
        server.close();
        within("its end", server.wait_closed()).await.unwrap();
    });
}

#[test]
fn a_half_of_tls_1_3_ends_alone_whichever_is_first() {
    if !has_python() {
        return;
    }
    run_quietly(async {
        let (sender, mut connections) = unbounded();
        let handler = move |reader: StreamReader, writer: StreamWriter| {
            sender.unbounded_send((reader, writer)).unwrap();
        };
        let server = start_server(handler, ("127.0.0.1", 0)).ssl(server_context("server"));
        let server = server.ssl_shutdown_timeout(LONG).await.unwrap();
        let port = server.sockets()[0].port().unwrap().to_string();
        for (who, first, second) in [
            ("us", "that is all from me", "but not from us"),
            ("them", "but not from me", "that is all from us"),
        ] {
            let peer = python("tls_half.py", &[&port, &path("ca.pem"), who]);
            let (mut reader, writer) = within("a client", connections.next()).await.unwrap();
            assert!(writer.can_write_eof());
            if who == "them" {
                writer.write(second.as_bytes());
                writer.write_eof().unwrap();
            }
            let said = within("their half", reader.read_to_end(1000))
                .await
                .unwrap();
            assert_eq!(said, first.as_bytes());
            if who == "us" {
                writer.write(second.as_bytes());
                writer.drain().await.unwrap();
            }
            part(&writer).await;
            let (code, transcript) = peer.end().await;
            assert_eq!((code, transcript.trim_end()), (Some(0), second));
        }
    });
}

#[test]
fn start_tls_of_an_asyncio_client_on_streams_and_on_transports_meets_ours_on_streams() {
    if !has_python() {
        return;
    }
    async fn serve(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
        assert_eq!(reader.readline().await?, b"STARTTLS\n");
        writer.write(b"go ahead\n");
        writer.start_tls(server_context("server")).await?;
        assert!(writer.get_extra_info(TlsSession).is_some());
        echo(reader, writer).await
    }
    run_quietly(async {
        let server = start_server(serve, ("127.0.0.1", 0)).limit(LIMIT);
        let server = server.await.unwrap();
        let port = server.sockets()[0].port().unwrap().to_string();
        for (version, _) in VERSIONS {
            for scenario in ["start_tls_on_the_stream", "start_tls_on_the_transport"] {
                assert_eq!(client(&port, version, scenario).await, "same");
            }
        }
        server.close();
        within("its end", server.wait_closed()).await.unwrap();
    });
}

#[test]
fn our_streams_start_tls_with_an_asyncio_server_on_streams_and_on_transports() {
    if !has_python() {
        return;
    }
    run_quietly(async {
        for (version, expected) in VERSIONS {
            for way in ["start_tls_on_the_stream", "start_tls_on_the_transport"] {
                let (mut server, port) = server("0", version, way).await;
                let (mut reader, mut writer) = to(&port).limit(LIMIT).await.unwrap();
                writer.write(b"STARTTLS\n");
                let answer = within("an answer", reader.readline()).await.unwrap();
                assert_eq!(answer, b"go ahead\n");
                let starting = writer.start_tls(client_context());
                let starting = starting.server_hostname("localhost");
                starting.ssl_shutdown_timeout(LONG).await.unwrap();
                let session = writer.get_extra_info(TlsSession).unwrap();
                assert_eq!(session.version, expected);
                writer.write(b"echo\n");
                converse(&mut reader, &writer).await;
                part(&writer).await;
                server.see("echo is over\n").await;
                dismiss(server).await;
            }
        }
    });
}

/// A protocol for those who do without streams, but for a buffer.
fn lines() -> StreamReaderProtocol {
    StreamReaderProtocol::new(StreamReader::with_limit(LIMIT).unwrap(), None)
}

#[test]
fn our_transport_starts_tls_with_an_asyncio_server_on_streams_and_on_transports() {
    if !has_python() {
        return;
    }
    run_quietly(async {
        let handle = get_running_loop().unwrap();
        for (version, expected) in VERSIONS {
            for way in ["start_tls_on_the_stream", "start_tls_on_the_transport"] {
                let (mut server, port) = server("0", version, way).await;
                let address = ("127.0.0.1", port.parse::<u16>().unwrap());
                let (transport, protocol) = create_connection(lines, address).await.unwrap();
                let mut reader = protocol.borrow_mut().take_reader().unwrap();
                transport.write(b"STARTTLS\n");
                let answer = within("an answer", reader.readline()).await.unwrap();
                assert_eq!(answer, b"go ahead\n");
                let starting = handle.start_tls(&transport, protocol, client_context());
                let starting = starting.server_hostname("localhost");
                let transport = starting.await.unwrap();
                let session = transport.get_extra_info(TlsSession).unwrap();
                assert_eq!(session.version, expected);
                transport.write(b"echo\n");
                for letter in b'a'..b'i' {
                    let mut line = vec![letter; (1 << 19) - 1];
                    line.push(b'\n');
                    transport.write(&line);
                    let back = within("a line", reader.readline()).await.unwrap();
                    assert!(back == line);
                }
                transport.close();
                server.see("echo is over\n").await;
                dismiss(server).await;
            }
        }
    });
}

#[test]
fn start_tls_of_an_asyncio_client_meets_ours_on_the_transport_of_an_accepted_socket() {
    if !has_python() {
        return;
    }
    run_quietly(async {
        let handle = get_running_loop().unwrap();
        for (version, expected) in VERSIONS {
            for scenario in ["start_tls_on_the_stream", "start_tls_on_the_transport"] {
                let (listener, address) = listener();
                let port = address.port().to_string();
                let peer = python(
                    "tls_client.py",
                    &[&port, version, &path("ca.pem"), scenario],
                );
                let (socket, _) = in_thread(move || listener.accept().unwrap()).await;
                let (transport, protocol) = connect_accepted_socket(lines, socket).await.unwrap();
                let mut reader = protocol.borrow_mut().take_reader().unwrap();
                let wish = within("a wish", reader.readline()).await.unwrap();
                assert_eq!(wish, b"STARTTLS\n");
                transport.write(b"go ahead\n");
                let starting = handle.start_tls(&transport, protocol, server_context("server"));
                let transport = starting.await.unwrap();
                let session = transport.get_extra_info(TlsSession).unwrap();
                assert_eq!(session.version, expected);
                loop {
                    let data = within("a line", reader.read(1 << 16)).await.unwrap();
                    if data.is_empty() {
                        break;
                    }
                    transport.write(data);
                }
                transport.close();
                let (code, transcript) = peer.end().await;
                assert_eq!((code, transcript.trim_end()), (Some(0), "same"));
            }
        }
    });
}

#[test]
fn an_asyncio_client_is_served_with_tls_on_a_socket_that_was_accepted_elsewhere() {
    if !has_python() {
        return;
    }
    run_quietly(async {
        for (version, expected) in VERSIONS {
            let (listener, address) = listener();
            let port = address.port().to_string();
            let args = [port.as_str(), version, &path("ca.pem"), "echo"];
            let peer = python("tls_client.py", &args);
            let (socket, _) = in_thread(move || listener.accept().unwrap()).await;
            let (sender, mut connections) = unbounded();
            let handler = move |reader: StreamReader, writer: StreamWriter| {
                sender.unbounded_send((reader, writer)).unwrap();
            };
            let callback = ClientConnectedCb::new(handler);
            let reader = StreamReader::with_limit(LIMIT).unwrap();
            let factory = move || StreamReaderProtocol::new(reader, Some(callback));
            let accepting = connect_accepted_socket(factory, socket).ssl(server_context("server"));
            let accepting = accepting.ssl_shutdown_timeout(LONG);
            let (transport, _protocol) = accepting.await.unwrap();
            let session = transport.get_extra_info(TlsSession).unwrap();
            assert_eq!(session.version, expected);
            let (reader, writer) = within("a stream", connections.next()).await.unwrap();
            within("its end", echo(reader, writer)).await.unwrap();
            let (code, transcript) = peer.end().await;
            assert_eq!((code, transcript.trim_end()), (Some(0), "same"));
        }
    });
}

#[test]
fn unix_sockets_carry_tls_as_well_both_ways() {
    if !has_python() {
        return;
    }
    run_quietly(async {
        let folder = Folder::new();
        for (version, expected) in VERSIONS {
            let path = folder.path(&format!("ours-{version}"));
            let serving = start_unix_server(echo, &path).ssl(server_context("server"));
            let ours = serving.limit(LIMIT).await.unwrap();
            let address = path.to_str().unwrap();
            for scenario in ["lines", "echo"] {
                assert_eq!(client(address, version, scenario).await, "same");
            }
            ours.close();
            within("its end", ours.wait_closed()).await.unwrap();

            let path = folder.path(&format!("theirs-{version}"));
            let (mut theirs, said) = server(path.to_str().unwrap(), version, "tls").await;
            assert_eq!(Path::new(&said), path);
            let connecting = open_unix_connection(&path).limit(LIMIT);
            let connecting = connecting
                .ssl(client_context())
                .server_hostname("localhost");
            let (mut reader, writer) = connecting.ssl_shutdown_timeout(LONG).await.unwrap();
            let session = writer.get_extra_info(TlsSession).unwrap();
            assert_eq!(session.version, expected);
            writer.write(b"echo\n");
            converse(&mut reader, &writer).await;
            part(&writer).await;
            theirs.see("echo is over\n").await;
            dismiss(theirs).await;
        }
    });
}
