//! What the scenarios share.

use std::io;
#[cfg(feature = "tls")]
use std::path::{Path, PathBuf};
use std::time::Duration;

use evloop::testing::{Host, Random, Simulation};
use evloop::{IncompleteReadError, StreamReader, StreamWriter, get_running_loop, sleep, timeout};

/// Sends back what comes, and the end of it.
pub(crate) async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    loop {
        let data = reader.read(1000).await?;
        if data.is_empty() {
            break;
        }
        writer.write(&data);
        writer.drain().await?;
    }
    writer.close();
    writer.wait_closed().await
}

/// Sends all of it and gives what comes back until the end.
pub(crate) async fn exchange(
    (mut reader, writer): (StreamReader, StreamWriter),
    message: Vec<u8>,
) -> io::Result<Vec<u8>> {
    let writing = get_running_loop()?.create_task(async move {
        for piece in message.chunks(777) {
            writer.write(piece);
            writer.drain().await?;
        }
        writer.write_eof()?;
        io::Result::Ok(writer)
    });
    let answer = reader.read_to_end(None).await?;
    let writer = writing.await.unwrap()?;
    writer.close();
    writer.wait_closed().await?;
    Ok(answer)
}

/// What a client has seen.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) sent: Vec<u8>,
    pub(crate) received: Vec<u8>,
    /// How the reading ended.
    pub(crate) end: io::Result<()>,
}

impl Talk {
    /// Nothing is invented, changed or out of order; and what ended well is complete, unless the
    /// network has ended something by itself.
    pub(crate) fn check(&self, simulation: &Simulation) {
        let Self {
            sent,
            received,
            end,
        } = self;
        assert!(
            sent.starts_with(received),
            "{} bytes of {}: {end:?}",
            received.len(),
            sent.len()
        );
        if end.is_ok() && simulation.tally().early_ends == 0 {
            assert!(
                received == sent,
                "{} bytes of {}, and a good end",
                received.len(),
                sent.len()
            );
        }
    }
}

/// Writes so much in pieces, and reads it back in others; some reads are given up and begun again.
pub(crate) async fn talk(
    mut random: Random,
    size: usize,
    streams: (StreamReader, StreamWriter),
) -> Talk {
    let (mut reader, writer) = streams;
    let sent = random.bytes(size);
    let (mut pieces, bytes) = (random.fork(), sent.clone());
    let writing = get_running_loop().unwrap().create_task(async move {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(pieces.within(1..=rest.len().min(5000)));
            writer.write(piece);
            writer.drain().await?;
            if pieces.chance(0.2) {
                sleep(pieces.duration(Duration::ZERO..=Duration::from_millis(30))).await?;
            }
            rest = behind;
        }
        writer.write_eof()?;
        io::Result::Ok(writer)
    });
    let mut received = Vec::new();
    let end = loop {
        let wanted = random.within(1..=3000);
        let exactly = random.chance(0.3);
        let patience = random.duration(Duration::ZERO..=Duration::from_millis(100));
        let read = async {
            match exactly {
                true => reader.readexactly(wanted).await.map_err(Into::into),
                false => reader.read(wanted).await,
            }
        };
        // A read that is given up loses nothing.
        match timeout(patience, read).await {
            Err(_) => {}
            Ok(Ok(bytes)) if bytes.is_empty() => break Ok(()),
            Ok(Ok(bytes)) => received.extend(bytes),
            Ok(Err(error)) => match partial(&error) {
                Some(rest) => {
                    received.extend(rest);
                    break Ok(());
                }
                None => break Err(error),
            },
        }
    };
    if end.is_err() {
        // What had come before the loss is still there to be had.
        while let Ok(bytes) = reader.read(usize::MAX).await {
            if bytes.is_empty() {
                break;
            }
            received.extend(bytes);
        }
    }
    // Its writer closes the connection when it goes.
    drop(writing.await);
    Talk {
        sent,
        received,
        end,
    }
}

/// What `readexactly` got before the end.
fn partial(error: &io::Error) -> Option<&[u8]> {
    let incomplete = error.get_ref()?.downcast_ref::<IncompleteReadError>()?;
    Some(&incomplete.partial)
}

/// Waits until a host has no socket any more. Whoever has one still has lost it.
pub(crate) fn until_nothing_is_open(simulation: &mut Simulation, host: &Host) -> io::Result<()> {
    let outcome = simulation.run_until_complete(host, async {
        for _ in 0..2000 {
            if host.descriptors() == 0 {
                return true;
            }
            sleep(Duration::from_secs(1)).await.unwrap();
        }
        false
    })?;
    assert!(outcome, "{host:?} has {} sockets still", host.descriptors());
    Ok(())
}

#[cfg(feature = "tls")]
pub(crate) fn cert(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/certs")
        .join(name)
}
