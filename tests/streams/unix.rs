//! Streams over unix sockets, with peers that others wrote, both ways.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use evloop::{
    Server, StreamReader, StreamWriter, get_running_loop, open_connection, open_unix_connection,
    start_server, start_unix_server,
};

use crate::common::folder::Folder;
use crate::common::peers::{Child, require};
use crate::common::trace::Trace;
use crate::common::{in_thread, pattern, run, within};

const SIZES: [usize; 4] = [1, 65_537, 1 << 20, 8 << 20];

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

async fn end(server: Server) {
    server.close();
    within("the last connection", server.wait_closed())
        .await
        .unwrap();
}

/// Sends all through the program, ends its input, and gives what it printed.
async fn through(mut program: Command, data: Vec<u8>) -> Vec<u8> {
    in_thread(move || {
        let mut child = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut stdin = child.stdin.take().expect("its input");
        let writing = std::thread::spawn(move || stdin.write_all(&data));
        let output = child.wait_with_output().expect("its end");
        writing.join().expect("no panic").expect("to write");
        assert!(output.status.success(), "{}", output.status);
        output.stdout
    })
    .await
}

#[test]
fn an_asyncio_client_talks_to_our_server_on_a_path() {
    if !require("python3", "python3") {
        return;
    }
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let server = start_unix_server(echo, &path).await.unwrap();
        for size in SIZES {
            let path = path.to_str().unwrap();
            let python = Child::python("asyncio_client.py", &[path, "echo", &size.to_string()]);
            assert_eq!(python.output().await, "same", "{size}");
        }
        end(server).await;
    });
}

#[test]
fn an_asyncio_client_goes_on_after_our_end() {
    if !require("python3", "python3") {
        return;
    }
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
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
        let server = start_unix_server(callback, &path).await.unwrap();
        let path = path.to_str().unwrap();
        let python = Child::python("asyncio_client.py", &[path, "half_close", "0"]);
        assert_eq!(python.output().await, "ended");
        trace.until("but not from me").await;
        end(server).await;
    });
}

#[test]
fn our_client_talks_to_an_asyncio_server_on_a_path() {
    if !require("python3", "python3") {
        return;
    }
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let mut python = Child::python("asyncio_server.py", &[path.to_str().unwrap()]);
        let stdin = python.stdin();
        assert_eq!(python.first_line().await, path.to_str().unwrap());
        for size in SIZES {
            let data = pattern(size);
            let sent = data.clone();
            let (mut reader, writer) = open_unix_connection(&path).await.unwrap();
            writer.write(b"echo\n");
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
        let (mut reader, writer) = open_unix_connection(&path).await.unwrap();
        writer.write(b"half_close\n");
        let all = reader.read_to_end(None).await.unwrap();
        assert_eq!(all, b"that is all from me");
        writer.write(b"but not from me");
        writer.close();
        writer.wait_closed().await.unwrap();
        drop(stdin);
        // It would have ended badly had it got something else.
        python.output().await;
    });
}

#[test]
fn socat_gets_every_byte_back_by_path_and_by_name() {
    if !require("socat", "socat") {
        return;
    }
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let server = start_unix_server(echo, &path).await.unwrap();
        let mut addresses = vec![format!("UNIX-CONNECT:{}", path.display())];
        let mut servers = vec![server];
        if cfg!(target_os = "linux") {
            let name = format!("evloop-socat-{}", std::process::id());
            let server = start_unix_server(echo, format!("\0{name}")).await.unwrap();
            addresses.push(format!("ABSTRACT-CONNECT:{name}"));
            servers.push(server);
        }
        for address in addresses {
            for size in SIZES {
                let mut socat = Command::new("socat");
                socat.args(["-t", "30", "-", &address]);
                let data = pattern(size);
                assert!(through(socat, data.clone()).await == data, "{size}");
            }
        }
        for server in servers {
            end(server).await;
        }
    });
}

/// Connects to a program that has perhaps not begun to listen yet.
async fn connected(path: &Path) -> (StreamReader, StreamWriter) {
    let connecting = async {
        loop {
            match open_unix_connection(path).await {
                Ok(streams) => return streams,
                Err(_) => evloop::sleep(Duration::from_millis(5)).await.unwrap(),
            }
        }
    };
    within("the program", connecting).await
}

/// Sends all and ends our half.
async fn send(writer: StreamWriter, data: Vec<u8>) -> StreamWriter {
    for chunk in data.chunks(10_000) {
        writer.write(chunk);
        writer.drain().await.unwrap();
    }
    writer.write_eof().unwrap();
    writer
}

#[test]
fn socat_as_a_server_gives_every_byte_back_after_we_closed_our_half() {
    if !require("socat", "socat") {
        return;
    }
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let listen = format!("UNIX-LISTEN:{}", path.display());
        let args = ["-t", "30", &listen, "SYSTEM:cat; echo and that is all"].map(OsStr::new);
        let socat = Child::spawn("socat", &args);
        let (mut reader, writer) = connected(&path).await;
        let data = pattern(1 << 20);
        let sending = send(writer, data.clone());
        let sending = get_running_loop().unwrap().create_task(sending);
        let received = within("the echo", reader.read_to_end(None)).await.unwrap();
        // Only the end of our half lets it say so.
        let rest = received.strip_prefix(&data[..]);
        assert_eq!(rest, Some(&b"and that is all\n"[..]));
        let writer = sending.await.unwrap();
        writer.close();
        writer.wait_closed().await.unwrap();
        socat.output().await;
    });
}

#[test]
fn nc_as_a_server_is_understood_in_both_directions() {
    if !require("nc", "netcat-openbsd") {
        return;
    }
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let mut nc = Child::spawn("nc", &["-lNU".as_ref(), path.as_ref()]);
        let mut stdin = nc.stdin();
        let (mut reader, writer) = connected(&path).await;
        let text = "all the same\n".repeat(100_000);
        let printed = get_running_loop().unwrap().create_task(nc.output());
        let told = text.clone();
        // The end of its input is the end of its half.
        let telling = in_thread(move || stdin.write_all(told.as_bytes()));
        let telling = get_running_loop().unwrap().create_task(telling);
        let received = within("all of it", reader.read_to_end(None)).await.unwrap();
        assert!(received == text.as_bytes());
        telling.await.unwrap().unwrap();
        // It reads on.
        let writer = send(writer, text.clone().into_bytes()).await;
        writer.close();
        writer.wait_closed().await.unwrap();
        assert!(printed.await.unwrap() == text.trim_end());
    });
}

#[test]
fn nc_gets_every_byte_back() {
    if !require("nc", "netcat-openbsd") {
        return;
    }
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let server = start_unix_server(echo, &path).await.unwrap();
        for size in SIZES {
            let mut nc = Command::new("nc");
            nc.args(["-N", "-U"]).arg(&path);
            let data = pattern(size);
            assert!(through(nc, data.clone()).await == data, "{size}");
        }
        end(server).await;
    });
}

/// A blocking peer's end of a pair takes part in an echo through the other one.
#[test]
fn one_end_of_a_pair_is_a_stream() {
    run(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (reader, writer) = open_connection(ours).await.unwrap();
        let echoing = get_running_loop()
            .unwrap()
            .create_task(echo(reader, writer));
        let (mut reader, writer) = open_unix_connection(theirs).limit(16).await.unwrap();
        writer.write(b"abc\n");
        assert_eq!(reader.readline().await.unwrap(), b"abc\n");
        writer.write_eof().unwrap();
        assert_eq!(reader.read_to_end(10).await.unwrap(), b"");
        echoing.await.unwrap().unwrap();
    });
}

#[test]
fn a_limit_of_zero_is_refused_before_anything_is_made() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let server = start_unix_server(echo, &path).limit(0).await;
        let error = server.map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(folder.names().is_empty());
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let error = open_unix_connection(ours).limit(0).await.map(drop);
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        // The other options reach the server as well.
        let server = start_unix_server(echo, &path)
            .limit(100)
            .backlog(1)
            .cleanup_socket(false)
            .start_serving(false);
        let server = server.await.unwrap();
        assert!(!server.is_serving());
        server.close();
        assert_eq!(folder.names(), ["a.sock"]);
        drop(start_server(echo, ("127.0.0.1", 0)).await.unwrap());
    });
}
