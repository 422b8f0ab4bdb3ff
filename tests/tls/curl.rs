//! curl at the other end: HTTP/1.1 over TLS, from a small server on our streams.

use std::io;

use evloop::{
    Server, StreamReader, StreamWriter, TlsServerContext, TlsSession, get_running_loop,
    start_server,
};

use crate::common::folder::Folder;
use crate::common::peers::require;
use crate::common::{in_thread, pattern, within};
use crate::quiet::run_quietly;
use crate::support::{cert, server_context};
use crate::talk::Talk;

const VERSIONS: [[&str; 3]; 2] = [
    ["--tlsv1.2", "--tls-max", "1.2"],
    ["--tlsv1.3", "--tls-max", "1.3"],
];

fn has_curl() -> bool {
    require("curl", "curl")
}

/// Answers one request after the other: `/SIZE` with so many bytes, of a length that is said in
/// front; `/SIZE/until-the-end` with a body that ends with the connection; `POST` with what came.
async fn serve(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    loop {
        let request = reader.readline().await?;
        if request.is_empty() {
            return Ok(());
        }
        let request = String::from_utf8(request).expect("text");
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let mut length = 0;
        let mut is_last = false;
        loop {
            let header = reader.readline().await?.to_ascii_lowercase();
            let header = String::from_utf8(header).expect("text");
            match header.trim_end().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().expect("a number"),
                Some(("connection", "close")) => is_last = true,
                Some(_) => {}
                None => break,
            }
        }
        let mut parts = path[1..].split('/');
        let body = if method == "POST" {
            reader.readexactly(length).await?
        } else {
            pattern(parts.next().unwrap().parse().expect("a size"))
        };
        writer.write(b"HTTP/1.1 200 OK\r\n");
        if parts.next() == Some("until-the-end") {
            is_last = true;
        } else {
            writer.write(format!("Content-Length: {}\r\n", body.len()));
        }
        let version = writer.get_extra_info(TlsSession).map(|tls| tls.version);
        writer.write(format!("X-Version: {version:?}\r\n"));
        writer.write(if is_last {
            "Connection: close\r\n\r\n"
        } else {
            "\r\n"
        });
        for piece in body.chunks(300_000) {
            writer.write(piece);
            writer.drain().await?;
        }
        if is_last {
            writer.close();
            return writer.wait_closed().await;
        }
    }
}

async fn serving(context: TlsServerContext) -> (Server, String) {
    let server = start_server(serve, ("127.0.0.1", 0)).ssl(context);
    let server = server.await.unwrap();
    let url = format!("https://localhost:{}", server.sockets()[0].port().unwrap());
    (server, url)
}

/// Gets what is there, without a word of complaint.
async fn curl(args: &[&str]) -> (Option<i32>, String) {
    let roots = cert("ca.pem");
    let mut all = vec!["--silent", "--show-error", "--max-time", "25"];
    // No proxy and no configuration of whoever runs this.
    all.extend(["--noproxy", "*", "--http1.1"]);
    all.extend(["--cacert", roots.to_str().expect("text")]);
    all.extend(args);
    all.insert(0, "--disable");
    Talk::start("curl", &all).end().await
}

async fn end(server: Server) {
    server.close();
    within("the server's end", server.wait_closed())
        .await
        .unwrap();
}

#[test]
fn curl_gets_bodies_of_all_sizes_however_they_end() {
    if !has_curl() {
        return;
    }
    run_quietly(async {
        let folder = Folder::new();
        let (server, url) = serving(server_context("server")).await;
        for version in VERSIONS {
            for size in [0, 1, 16_384, 16_385, 100_000, 4 << 20] {
                for (more, header) in [
                    ("", "Accept: */*"),
                    ("", "Connection: close"),
                    ("/until-the-end", "Accept: */*"),
                ] {
                    let file = folder.path("body");
                    let url = format!("{url}/{size}{more}");
                    let mut args = version.to_vec();
                    args.extend(["--header", header, "--output", file.to_str().unwrap()]);
                    args.push(&url);
                    assert_eq!(
                        curl(&args).await,
                        (Some(0), String::new()),
                        "{url}, {header}"
                    );
                    let body = in_thread(move || std::fs::read(file).unwrap()).await;
                    assert!(body == pattern(size), "{url}, {header}");
                }
            }
        }
        end(server).await;
    });
}

#[test]
fn curl_asks_again_on_one_connection_and_posts_a_large_body() {
    if !has_curl() {
        return;
    }
    run_quietly(async {
        let folder = Folder::new();
        let sent = folder.path("sent");
        std::fs::write(&sent, pattern(8 << 20)).unwrap();
        let (server, url) = serving(server_context("server")).await;
        for version in VERSIONS {
            let url = format!("{url}/10");
            let mut args = version.to_vec();
            args.extend(["--output", "/dev/null", "--output", "/dev/null"]);
            args.extend(["--write-out", "%{num_connects} %{http_code}\n"]);
            args.extend([url.as_str(), url.as_str()]);
            let connects = "1 200\n0 200\n".to_owned();
            assert_eq!(curl(&args).await, (Some(0), connects));

            let back = folder.path("back");
            let data = format!("@{}", sent.display());
            let mut args = version.to_vec();
            args.extend(["--data-binary", &data, "--output", back.to_str().unwrap()]);
            args.push(&url);
            assert_eq!(curl(&args).await, (Some(0), String::new()));
            let body = in_thread(move || std::fs::read(back).unwrap()).await;
            assert!(body == pattern(8 << 20));
        }
        end(server).await;
    });
}

#[test]
fn many_curls_at_once_are_served() {
    if !has_curl() {
        return;
    }
    run_quietly(async {
        let (server, url) = serving(server_context("server")).await;
        let handle = get_running_loop().unwrap();
        let all: Vec<_> = (0..12)
            .map(|number| {
                let version = VERSIONS[number % 2];
                let url = format!("{url}/1000000");
                handle.create_task(async move {
                    let mut args = version.to_vec();
                    args.extend(["--output", "/dev/null", "--write-out", "%{size_download}"]);
                    args.push(&url);
                    curl(&args).await
                })
            })
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap(), (Some(0), "1000000".to_owned()));
        }
        end(server).await;
    });
}

/// curl's exit code says what it thinks of a certificate.
#[test]
fn curl_refuses_a_certificate_that_is_for_another_name_or_by_somebody_else() {
    if !has_curl() {
        return;
    }
    run_quietly(async {
        for name in ["elsewhere", "untrusted", "expired"] {
            let (server, url) = serving(server_context(name)).await;
            for version in VERSIONS {
                let url = format!("{url}/1");
                let mut args = version.to_vec();
                args.push(&url);
                let (code, said) = curl(&args).await;
                assert_eq!(code, Some(60), "{name}: {said}");
            }
            end(server).await;
        }
    });
}

/// curl speaks TLS to the proxy, and through it TLS to the server: here they are the same, which
/// puts one on the other.
#[test]
fn curl_reaches_a_server_through_a_proxy_with_tls_in_tls() {
    if !has_curl() {
        return;
    }
    async fn proxy(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
        let request = reader.readline().await?;
        assert!(request.starts_with(b"CONNECT "), "{request:?}");
        while reader.readline().await? != b"\r\n" {}
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n");
        writer.start_tls(server_context("second")).await?;
        serve(reader, writer).await
    }
    run_quietly(async {
        let folder = Folder::new();
        let server = start_server(proxy, ("127.0.0.1", 0)).ssl(server_context("server"));
        let server = server.await.unwrap();
        let proxy = format!("https://localhost:{}", server.sockets()[0].port().unwrap());
        let roots = cert("ca.pem");
        let file = folder.path("body");
        for version in VERSIONS {
            for (size, more) in [(1, ""), (1 << 20, ""), (1 << 20, "/until-the-end")] {
                let url = format!("https://localhost/{size}{more}");
                let mut args = version.to_vec();
                args.extend(["--proxy-cacert", roots.to_str().unwrap()]);
                // The last word about proxies holds, and nothing is excepted from it.
                args.extend(["--noproxy", "", "--proxy", &proxy]);
                args.extend(["--output", file.to_str().unwrap(), &url]);
                assert_eq!(curl(&args).await, (Some(0), String::new()), "{url}");
                let file = file.clone();
                let body = in_thread(move || std::fs::read(file).unwrap()).await;
                assert!(body == pattern(size), "{url}");
            }
        }
        end(server).await;
    });
}
