//! Prints the header lines of a web page: a client for a protocol of lines.
//!
//! ```text
//! cargo run --example http_headers -- https://example.com/path/page.html
//! ```
//!
//! The variable `SSL_CERT_FILE` names whom to trust instead of those whom the system trusts.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

use std::{env, io, process};

use evloop::open_connection;

async fn print_http_headers(url: Url<'_>) -> io::Result<()> {
    let (mut reader, writer) = open_connection((url.host, url.port))
        .ssl(url.scheme == "https")
        .await?;
    writer.write(url.query);
    loop {
        let line = reader.readline().await?;
        // A byte of latin-1 is the character of the same number.
        let line: String = line.into_iter().map(char::from).collect();
        match line.trim_end() {
            "" => break, // The end of the header, or of everything.
            line => println!("HTTP header> {line}"),
        }
    }
    // Ignore the body, but not how it ends: over TLS it can be told whether something is missing.
    while !reader.read(64 * 1024).await?.is_empty() {}
    writer.close();
    writer.wait_closed().await
}

fn main() {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let parsed = match arguments.as_slice() {
        [url] => url.to_str().ok_or("it is not UTF-8").and_then(parse),
        _ => Err("one is wanted"),
    };
    let url = parsed.unwrap_or_else(|error| {
        eprintln!("bad URL: {error}\nusage: http_headers http[s]://HOST[:PORT][/PATH][?QUERY]");
        process::exit(2)
    });
    let outcome = evloop::run(print_http_headers(url));
    if let Err(error) = outcome.and_then(|outcome| outcome) {
        eprintln!("http_headers: {error}");
        process::exit(1);
    }
}

struct Url<'a> {
    scheme: &'static str,
    host: &'a str,
    port: u16,
    /// The whole request, in latin-1.
    query: Vec<u8>,
}

fn parse(url: &str) -> Result<Url<'_>, &'static str> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => ("http", "80"),
        "https" => ("https", "443"),
        _ => return Err("it does not begin with http:// or https://"),
    };
    if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("it has a space or a control character");
    }
    let rest = rest.split('#').next().unwrap_or_default();
    let (place, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    // A name and a password before the host are sent to nobody.
    let place = place.rsplit('@').next().unwrap_or_default();
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (place, ""),
    };
    let port = if port.is_empty() { default_port } else { port };
    let port = port.parse().map_err(|_| "its port is not one")?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let query = format!("HEAD {slash}{path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    let query: Result<_, _> = query.chars().map(u8::try_from).collect();
    let query = query.map_err(|_| "it has a character that latin-1 has not")?;
    let host = match host.strip_prefix('[') {
        Some(ipv6) => ipv6.strip_suffix(']'),
        None => Some(host).filter(|host| !host.contains(':')),
    };
    let host = host.filter(|host| !host.is_empty());
    Ok(Url {
        scheme,
        host: host.ok_or("it has no host")?,
        port,
        query,
    })
}
