//! The path of a unix server: whose it is, and when it goes.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use evloop::{EventLoop, Server, UnixAddress, create_unix_connection, create_unix_server};

use crate::common::folder::Folder;
use crate::common::trace::Trace;
use crate::common::{run, turns, within};
use crate::probe::Probe;

fn quiet() -> Probe {
    Probe::new(&Trace::default())
}

async fn serve(path: &Path) -> std::io::Result<Server> {
    create_unix_server(quiet, path).await
}

#[track_caller]
fn refused(outcome: std::io::Result<Server>, kind: ErrorKind, why: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().ends_with(why), "{error}");
    assert!(
        error.to_string().starts_with("cannot bind to address "),
        "{error}"
    );
}

#[test]
fn a_stale_path_is_replaced_and_removed_at_the_end() {
    run(async {
        let folder = Folder::new();
        let path = folder.stale("a.sock");
        assert_eq!(folder.names(), ["a.sock"]);
        let server = serve(&path).await.unwrap();
        drop(UnixStream::connect(&path).unwrap());
        server.close();
        assert!(folder.names().is_empty());
        // Closing again, or after somebody else has removed it, is nothing.
        let server = serve(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        server.close();
        server.close();
    });
}

#[test]
fn a_stale_datagram_socket_is_replaced_and_a_live_one_is_not() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let other = UnixDatagram::bind(&path).unwrap();
        refused(serve(&path).await, ErrorKind::AddrInUse, "by a live socket");
        assert!(path.exists());
        drop(other);
        // It may be open for a moment in a process that another test is just starting.
        let server = within("the path", async {
            loop {
                match serve(&path).await {
                    Ok(server) => return server,
                    Err(_) => turns(1).await,
                }
            }
        });
        server.await.close();
        assert!(folder.names().is_empty());
    });
}

#[test]
fn a_live_server_keeps_its_path() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let server = serve(&path).await.unwrap();
        refused(serve(&path).await, ErrorKind::AddrInUse, "by a live socket");
        let (transport, _) = create_unix_connection(quiet, &path).await.unwrap();
        transport.abort();
        server.close();

        let foreign = UnixListener::bind(&path).unwrap();
        refused(serve(&path).await, ErrorKind::AddrInUse, "by a live socket");
        drop(UnixStream::connect(&path).unwrap());
        drop(foreign);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_whose_queue_is_full_lives() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let busy = UnixListener::bind(&path).unwrap();
        socket2::SockRef::from(&busy).listen(0).unwrap();
        let waiting = UnixStream::connect(&path).unwrap();
        refused(serve(&path).await, ErrorKind::AddrInUse, "by a live socket");
        assert!(path.exists());
        drop((waiting, busy));
    });
}

#[test]
fn what_is_no_socket_is_never_touched() {
    run(async {
        let folder = Folder::new();
        let file = folder.path("file");
        fs::write(&file, "precious").unwrap();
        refused(
            serve(&file).await,
            ErrorKind::AddrInUse,
            "by a regular file",
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");

        let directory = folder.path("directory");
        fs::create_dir(&directory).unwrap();
        refused(
            serve(&directory).await,
            ErrorKind::AddrInUse,
            "by a directory",
        );

        folder.stale("stale");
        let link = folder.path("link");
        std::os::unix::fs::symlink("stale", &link).unwrap();
        refused(
            serve(&link).await,
            ErrorKind::AddrInUse,
            "by a symbolic link",
        );
        assert_eq!(folder.names(), ["directory", "file", "link", "stale"]);
    });
}

#[test]
fn a_path_that_cannot_be_is_refused_in_words() {
    run(async {
        let folder = Folder::new();
        let kind = ErrorKind::InvalidInput;
        let long = folder.path(&"x".repeat(200));
        refused(serve(&long).await, kind, "AF_UNIX path too long");
        refused(serve(Path::new("")).await, kind, "no path was specified");
        refused(
            serve(&folder.path("a\0b")).await,
            kind,
            "embedded null byte",
        );
        let missing = folder.path("no/such/folder.sock");
        let error = serve(&missing).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(folder.names().is_empty());

        let long = UnixAddress::abstract_name("x".repeat(200));
        for endpoint in [
            UnixAddress::from(&long.to_string()[1..]),
            UnixAddress::Unnamed,
        ] {
            let error = create_unix_connection(quiet, endpoint).await.map(drop);
            assert_eq!(error.unwrap_err().kind(), kind);
        }
    });
}

/// The longest that the system takes, with one byte less and one byte more.
#[test]
#[cfg(target_os = "linux")]
fn a_path_may_have_107_bytes() {
    run(async {
        let folder = Folder::new();
        let room = 107 - folder.path("").as_os_str().len();
        for (length, fits) in [(room - 1, true), (room, true), (room + 1, false)] {
            let path = folder.path(&"x".repeat(length));
            let outcome = serve(&path).await;
            assert_eq!(outcome.is_ok(), fits, "{length}");
            if let Ok(server) = outcome {
                create_unix_connection(quiet, &path)
                    .await
                    .unwrap()
                    .0
                    .abort();
                server.close();
            }
        }
        assert!(folder.names().is_empty());
    });
}

#[test]
fn a_path_that_is_not_ours_any_more_stays() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let first = serve(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        let second = serve(&path).await.unwrap();
        first.close();
        drop(UnixStream::connect(&path).unwrap());
        // Nor is a file that took its place.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        second.close();
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    });
}

#[test]
fn a_path_stays_if_that_is_asked() {
    run(async {
        let folder = Folder::new();
        let path = folder.path("a.sock");
        let server = create_unix_server(quiet, &path).cleanup_socket(false);
        server.await.unwrap().close();
        assert_eq!(folder.names(), ["a.sock"]);
    });
}

#[test]
fn a_path_goes_with_the_loop_and_with_a_server_that_never_served() {
    let folder = Folder::new();
    let path = folder.path("a.sock");
    let mut event_loop = EventLoop::new().unwrap();
    let server = event_loop.run_until_complete(serve(&path)).unwrap();
    assert!(path.exists());
    drop(event_loop);
    assert!(!path.exists());
    drop(server);
    run(async {
        let idle = create_unix_server(quiet, &path).start_serving(false);
        let idle = idle.await.unwrap();
        assert!(path.exists());
        let refused = create_unix_connection(quiet, &path).await.map(drop);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        idle.start_serving().await.unwrap();
        create_unix_connection(quiet, &path)
            .await
            .unwrap()
            .0
            .abort();
        idle.close();
        let idle = create_unix_server(quiet, &path).start_serving(false);
        drop(idle.await.unwrap());
        assert!(!path.exists());
    });
}
