//! Programs that others wrote at the other end: socat and nc as servers, asyncio where a server of
//! ours has a limit or comes to its end.

use std::cell::Cell;
use std::fmt::Write;
use std::future::IntoFuture;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use evloop::{
    ShutdownPhase, StreamReader, StreamWriter, get_running_loop, open_connection, sleep,
    start_server,
};

use crate::common::peers::require;
use crate::common::program::{Program, good};
use crate::common::trace::Trace;
use crate::common::{in_thread, pattern, run, within};

/// What a shell runs, both of whose outputs are read, and the port that its first line ends with.
fn serving(script: &str) -> (Program, u16) {
    let mut program = Program::start("sh", &["-c", &format!("exec 2>&1; {script}")]);
    let line = program.line();
    let port = line
        .rsplit([' ', ':'])
        .next()
        .and_then(|port| port.parse().ok());
    (
        program,
        port.unwrap_or_else(|| panic!("no port in {line:?}")),
    )
}

#[test]
fn socat_as_a_server_gives_every_byte_back_after_we_closed_our_half() {
    if !require("socat", "socat") {
        return;
    }
    run(async {
        let (mut socat, port) =
            serving("exec socat -d -d -t 30 TCP-LISTEN:0,bind=127.0.0.1 SYSTEM:cat");
        let data = pattern(3 << 20);
        let (mut reader, writer) = open_connection(("127.0.0.1", port)).await.unwrap();
        let sent = data.clone();
        let sending = get_running_loop().unwrap().create_task(async move {
            for chunk in sent.chunks(100_000) {
                writer.write(chunk);
                writer.drain().await?;
            }
            writer.write_eof()?;
            Ok::<_, io::Error>(writer)
        });
        let received = within("the echo", reader.read_to_end(None)).await.unwrap();
        assert!(received == data);
        let writer = sending.await.unwrap().unwrap();
        writer.close();
        writer.wait_closed().await.unwrap();
        let ended = in_thread(move || socat.wait()).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    });
}

#[test]
fn nc_as_a_server_is_understood_in_both_directions() {
    if !require("nc", "netcat-openbsd") {
        return;
    }
    run(async {
        let (mut nc, port) = serving("seq 200000 | nc -lvN 127.0.0.1 0");
        let (mut reader, writer) = open_connection(("127.0.0.1", port)).await.unwrap();
        let mut numbers = String::new();
        for i in 1..=200_000 {
            writeln!(numbers, "{i}").unwrap();
        }
        let received = within("all numbers", reader.read_to_end(None))
            .await
            .unwrap();
        assert!(received == numbers.as_bytes());
        // It has closed its half, and reads on.
        for chunk in numbers.as_bytes().chunks(100_000) {
            writer.write(chunk);
            within("room", writer.drain()).await.unwrap();
        }
        writer.close();
        writer.wait_closed().await.unwrap();
        let ended = in_thread(move || nc.wait()).await;
        assert_eq!(ended.code, Some(0));
        assert!(ended.stdout.ends_with(&numbers[1..]));
    });
}

/// Clients that come all at once; prints what each was told, in the order of their coming.
const CROWD: &str = r#"
import asyncio, sys

async def client(number):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    writer.write(b"%d\n" % number)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.decode()

async def main():
    answers = await asyncio.gather(*(client(number) for number in range(10)))
    print(" ".join(answers))

asyncio.run(asyncio.wait_for(main(), 30))
"#;

#[test]
fn asyncio_clients_beyond_the_limit_are_served_when_others_are_gone() {
    if !require("python3", "python3") {
        return;
    }
    run(async {
        let (now, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let peak = Rc::clone(&most);
        let callback = move |mut reader: StreamReader, writer: StreamWriter| {
            let (now, most) = (Rc::clone(&now), Rc::clone(&most));
            async move {
                now.set(now.get() + 1);
                most.set(now.get().max(most.get()));
                let line = reader.readline().await?;
                // Long enough for others to come meanwhile, if they may.
                sleep(Duration::from_millis(10)).await?;
                writer.write(line.trim_ascii());
                now.set(now.get() - 1);
                Ok::<(), io::Error>(())
            }
        };
        let server = start_server(callback, ("127.0.0.1", 0)).max_connections(3);
        let server = server.await.unwrap();
        let port = server.sockets()[0].port().unwrap().to_string();
        let mut python = Program::python(CROWD, &[&port]);
        let ended = in_thread(move || python.wait()).await;
        assert_eq!(ended, good("0 1 2 3 4 5 6 7 8 9\n"));
        assert!((1..=3).contains(&peak.get()), "{}", peak.get());
    });
}

/// A client that begins, and listens to the end.
const TO_THE_END: &str = r#"
import asyncio, sys

async def main():
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    writer.write(b"begin\n")
    data = await reader.read()
    print(len(data), reader.at_eof())
    writer.close()
    await writer.wait_closed()

asyncio.run(asyncio.wait_for(main(), 30))
"#;

#[test]
fn a_shutdown_sends_an_asyncio_client_what_it_was_promised() {
    if !require("python3", "python3") {
        return;
    }
    const SIZE: usize = 16 << 20;
    run(async {
        let trace = Trace::default();
        let said = trace.clone();
        let callback = move |mut reader: StreamReader, writer: StreamWriter| {
            let said = said.clone();
            async move {
                reader.readline().await?;
                writer.write(pattern(SIZE));
                said.say("written");
                // There is no second line.
                reader.readline().await.map(drop)
            }
        };
        let server = start_server(callback, ("127.0.0.1", 0)).await.unwrap();
        let port = server.sockets()[0].port().unwrap().to_string();
        let mut python = Program::python(TO_THE_END, &[&port]);
        trace.until("written").await;
        let shutdown = server.shutdown().close(Duration::from_secs(600));
        let report = within("the report", shutdown.into_future()).await.unwrap();
        assert_eq!(report.ended_in(ShutdownPhase::Close).count(), 1, "{report}");
        let ended = in_thread(move || python.wait()).await;
        assert_eq!(ended, good(format!("{SIZE} True\n")));
    });
}
