//! A protocol of lines that upgrades itself to TLS, server and client in one: after `STARTTLS` and
//! the answer both go on with the same reader and writer, and nobody else can read along.
//!
//! ```text
//! cargo run --example starttls -- CERT KEY
//! ```
//!
//! The README has a command that makes the two files: the client trusts the certificate itself,
//! and wants it to be for `localhost`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::path::{Path, PathBuf};
use std::{env, io, process};

use evloop::{
    StreamReader, StreamWriter, TlsClientContext, TlsServerContext, TlsSession, open_connection,
    start_server,
};

/// Answers line by line. The secret is for those who cannot be overheard.
async fn handle_lines(
    mut reader: StreamReader,
    mut writer: StreamWriter,
    context: TlsServerContext,
) -> io::Result<()> {
    loop {
        let line = reader.readline().await?;
        let session = writer.get_extra_info(TlsSession);
        match (line.trim_ascii_end(), session) {
            (b"STARTTLS", None) => {
                writer.write(b"220 go ahead\n");
                writer.start_tls(&context).await?;
            }
            (b"SECRET", None) => writer.write(b"530 say STARTTLS first\n"),
            (b"SECRET", Some(session)) => {
                writer.write(format!("250 said by {:?}\n", session.version));
            }
            (b"", _) => break, // The end, or an empty line.
            _ => writer.write(b"500 what?\n"),
        }
        writer.drain().await?;
    }
    writer.close();
    writer.wait_closed().await
}

/// Says a line, and gives the answer.
async fn ask(
    reader: &mut StreamReader,
    writer: &StreamWriter,
    question: &str,
) -> io::Result<String> {
    println!("> {question}");
    writer.write(format!("{question}\n"));
    writer.drain().await?;
    let answer = reader.readline().await?;
    let answer = String::from_utf8_lossy(&answer).trim_end().to_owned();
    println!("< {answer}");
    Ok(answer)
}

async fn client(port: u16, context: TlsClientContext) -> io::Result<()> {
    let (mut reader, mut writer) = open_connection(("127.0.0.1", port)).await?;
    ask(&mut reader, &writer, "SECRET").await?;

    let answer = ask(&mut reader, &writer, "STARTTLS").await?;
    if !answer.starts_with("220 ") {
        // Whoever goes on without would be overheard.
        return Err(io::Error::other("the server will not encrypt"));
    }
    writer
        .start_tls(context)
        .server_hostname("localhost")
        .await?;
    println!("Encrypted");

    ask(&mut reader, &writer, "SECRET").await?;
    writer.close();
    writer.wait_closed().await
}

async fn serve_and_ask(cert: &Path, key: &Path) -> io::Result<()> {
    let for_server = TlsServerContext::from_pem_files(cert, key)?;
    let for_client = TlsClientContext::builder().root_file(cert).build()?;
    let serve = move |reader, writer| handle_lines(reader, writer, for_server.clone());
    let server = start_server(serve, ("127.0.0.1", 0)).await?;
    let port = server.sockets()[0].port().expect("TCP has a port");

    client(port, for_client).await?;

    server.close();
    server.wait_closed().await
}

fn main() {
    let arguments: Vec<_> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [cert, key] = arguments.as_slice() else {
        eprintln!("usage: starttls CERT KEY");
        process::exit(2);
    };
    let outcome = evloop::run(serve_and_ask(cert, key));
    if let Err(error) = outcome.and_then(|outcome| outcome) {
        eprintln!("starttls: {error}");
        process::exit(1);
    }
}
