//! Files, sent to sockets of the caller's.

use std::fs::File;
use std::future::IntoFuture;
use std::io::{ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::thread;

use evloop::get_running_loop;
use futures::future::{Either, select};

use crate::common::{PATIENCE, in_thread, pattern, run};
use crate::sendfile::{LARGE, MIB, WAYS, Way, file_of, large, position, refuse_files};

/// A socket that takes files in this way, and its blocking peer.
fn pair(way: Way) -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    if way == Way::Reading {
        refuse_files(&ours);
    }
    (ours, theirs)
}

fn receive(mut peer: &UnixStream, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    peer.read_exact(&mut bytes).unwrap();
    bytes
}

fn receive_all(mut peer: &UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_large_file_arrives_whole_and_the_position_is_its_end() {
    for way in WAYS {
        run(async {
            let handle = get_running_loop().unwrap();
            let (ours, theirs) = pair(way);
            let file = file_of(large());
            let received = thread::spawn(move || receive_all(&theirs) == large());
            let sent = handle.sock_sendfile(&ours, &file).await.unwrap();
            assert_eq!(sent, LARGE as u64);
            assert_eq!(position(&file), sent);
            // It is as at the beginning: nobody watches it.
            assert!(!handle.remove_writer(&ours));
            drop(ours);
            assert!(in_thread(move || received.join().unwrap()).await, "{way:?}");
        });
    }
}

#[test]
fn a_part_is_sent_and_the_position_stands_behind_it() {
    let all = pattern(100_000);
    for way in WAYS {
        run(async {
            let handle = get_running_loop().unwrap();
            let (ours, theirs) = pair(way);
            let file = file_of(&all);
            let sent = handle.sock_sendfile(&ours, &file).offset(7).count(90_000);
            assert_eq!(sent.await.unwrap(), 90_000);
            assert_eq!(position(&file), 90_007);
            let sent = handle
                .sock_sendfile(&ours, &file)
                .offset(90_007)
                .count(90_000);
            assert_eq!(sent.await.unwrap(), 9_993);
            let sent = handle.sock_sendfile(&ours, &file).offset(1 << 40).await;
            assert_eq!(sent.unwrap(), 0);
            assert_eq!(position(&file), 100_000);
            assert!(receive(&theirs, 99_993) == all[7..]);
        });
    }
}

#[test]
fn what_is_sent_before_and_after_keeps_its_place() {
    for way in WAYS {
        run(async {
            let handle = get_running_loop().unwrap();
            let (ours, theirs) = pair(way);
            let file = file_of(&pattern(4 * MIB));
            let received = thread::spawn(move || receive_all(&theirs));
            handle.sock_sendall(&ours, b"head").await.unwrap();
            let sent = handle.sock_sendfile(&ours, &file).await.unwrap();
            assert_eq!(sent, 4 * MIB as u64);
            handle.sock_sendall(&ours, b"tail").await.unwrap();
            drop(ours);
            let received = in_thread(move || received.join().unwrap()).await;
            let expected = [b"head", &pattern(4 * MIB)[..], b"tail"].concat();
            assert!(received == expected, "{way:?}");
        });
    }
}

#[test]
fn what_cannot_be_is_refused_and_the_position_stays() {
    run(async {
        let handle = get_running_loop().unwrap();
        let file = file_of(b"hello");
        let said = async |job: evloop::Sendfile<'_>| {
            let error = job.await.unwrap_err();
            (error.source.kind(), error.source.to_string())
        };
        let invalid = |message: &str| (ErrorKind::InvalidInput, message.to_owned());

        let (ours, theirs) = pair(Way::System);
        let nothing = handle.sock_sendfile(&ours, &file).count(0);
        let message = "count must be a positive integer (got 0)";
        assert_eq!(said(nothing).await, invalid(message));
        let blocking = handle.sock_sendfile(&theirs, &file);
        let message = "the socket must be non-blocking";
        assert_eq!(said(blocking).await, invalid(message));
        let datagrams = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        let message = "only SOCK_STREAM type sockets are supported";
        let datagrams = handle.sock_sendfile(&datagrams, &file);
        assert_eq!(said(datagrams).await, invalid(message));

        let (ours, _theirs) = pair(Way::Reading);
        let native = handle.sock_sendfile(&ours, &file).fallback(false);
        assert_eq!(said(native).await.0, ErrorKind::Unsupported);
        assert_eq!(position(&file), 0);
    });
}

#[test]
fn a_pipe_is_read_to_its_end() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (ours, theirs) = pair(Way::System);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let fed = thread::spawn(move || File::from(writer).write_all(large()));
        let received = thread::spawn(move || receive_all(&theirs) == large());
        let sent = handle.sock_sendfile(&ours, &File::from(reader)).await;
        assert_eq!(sent.unwrap(), LARGE as u64);
        drop(ours);
        assert!(in_thread(move || received.join().unwrap()).await);
        fed.join().unwrap().unwrap();
    });
}

#[test]
fn cancelled_midway_it_has_sent_what_the_position_says() {
    for way in WAYS {
        run(async {
            let handle = get_running_loop().unwrap();
            let (ours, theirs) = pair(way);
            let file = file_of(large());
            let sending = Box::pin(handle.sock_sendfile(&ours, &file).into_future());
            let received = in_thread(move || {
                assert!(receive(&theirs, MIB) == large()[..MIB]);
                theirs
            });
            let theirs = match select(sending, pin!(received)).await {
                Either::Right((theirs, sending)) => {
                    drop(sending);
                    theirs
                }
                Either::Left((outcome, _)) => panic!("{outcome:?}"),
            };
            assert!(!handle.remove_writer(&ours));
            let sent = position(&file) as usize;
            assert!((MIB..LARGE).contains(&sent), "{sent}");
            drop(ours);
            let rest = in_thread(move || receive_all(&theirs)).await;
            assert!(rest == large()[MIB..sent], "{way:?}");
        });
    }
}

#[test]
fn a_peer_that_is_gone_midway_is_an_error_that_says_how_much_went() {
    for way in WAYS {
        run(async {
            let handle = get_running_loop().unwrap();
            let (ours, theirs) = pair(way);
            let file = file_of(large());
            let leaves = thread::spawn(move || drop(receive(&theirs, MIB)));
            let error = handle.sock_sendfile(&ours, &file).await.unwrap_err();
            let broken = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(broken.contains(&error.source.kind()), "{error}");
            assert!((MIB as u64..LARGE as u64).contains(&error.sent), "{error}");
            assert_eq!(position(&file), error.sent);
            leaves.join().unwrap();
        });
    }
}
