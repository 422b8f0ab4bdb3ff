//! Descriptors that belong to the caller: called in each turn for as long as they are ready, in
//! whatever way they come to their end.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::future::IntoFuture;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use evloop::{
    DescriptorError, EventLoop, LoopClosed, LoopHandle, Protocol, Transport, create_connection,
    create_server, create_unix_connection, create_unix_server,
};
use rustix::pipe::pipe;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::support::{ALIVE, Trace, deadline, in_a_child, on_drop};

fn one_turn(event_loop: &mut EventLoop) {
    event_loop.stop();
    event_loop.run_forever();
}

/// A socket whose peer sends no more. (A peer that is dropped may live on for a moment, in a
/// process that another test is starting.)
fn ended() -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.shutdown(Shutdown::Both).unwrap();
    ours
}

/// One byte, from a shared descriptor.
#[track_caller]
fn read_byte(fd: impl AsFd) -> String {
    let mut byte = [0];
    let n = rustix::io::read(fd, &mut byte).unwrap();
    String::from_utf8_lossy(&byte[..n]).into_owned()
}

/// The number of a descriptor that is closed now.
fn closed(file: impl Into<OwnedFd>) -> i32 {
    file.into().as_raw_fd()
}

/// The two ends of a terminal that passes on bytes as they are: the program's and the other.
fn terminal() -> (File, File) {
    let other = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&other).unwrap();
    unlockpt(&other).unwrap();
    let name = ptsname(&other, Vec::new()).unwrap();
    let mut options = File::options();
    let program = options.read(true).write(true).open(name.to_str().unwrap());
    let program = program.unwrap();
    let mut modes = tcgetattr(&program).unwrap();
    modes.make_raw();
    tcsetattr(&program, OptionalActions::Now, &modes).unwrap();
    (program, File::from(other))
}

// Called in each turn.

/// Six bytes come at once, and the callback takes one of them each time.
#[track_caller]
fn takes_bytes_one_by_one(reader: impl Into<OwnedFd>, writer: impl Into<OwnedFd>) {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let (reader, mut writer) = (Rc::new(reader.into()), File::from(writer.into()));
    let trace = Trace::default();
    for expected in [
        ["a", "b", "c", "d", "e", "f"],
        ["A", "B", "C", "D", "E", "F"],
    ] {
        add_byte_reader(&event_loop, &reader, &trace);
        writer.write_all(expected.concat().as_bytes()).unwrap();
        event_loop.run_forever();
        assert_eq!(trace.take(), expected);
        // Nothing is left, and nothing is called.
        one_turn(&mut event_loop);
        one_turn(&mut event_loop);
        assert_eq!(trace.take(), [""; 0]);
        assert!(event_loop.remove_reader(&reader));
        assert!(!event_loop.remove_reader(&reader));
    }
}

/// A reader that notes one byte each time, and stops the loop at the last one.
fn add_byte_reader(handle: &LoopHandle, fd: &Rc<OwnedFd>, trace: &Trace) {
    let (own, trace, stopper) = (Rc::clone(fd), trace.clone(), handle.clone());
    handle
        .add_reader(fd, move || {
            let byte = read_byte(&*own);
            if byte.eq_ignore_ascii_case("f") {
                stopper.stop();
            }
            trace.note(byte);
        })
        .unwrap();
}

#[test]
fn a_unix_socket_is_read_byte_by_byte() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    takes_bytes_one_by_one(ours, theirs);
}

#[test]
fn a_tcp_socket_is_read_byte_by_byte() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    takes_bytes_one_by_one(ours, listener.accept().unwrap().0);
}

#[test]
fn a_pipe_is_read_byte_by_byte() {
    let (reader, writer) = pipe().unwrap();
    takes_bytes_one_by_one(reader, writer);
}

#[test]
fn a_terminal_is_read_byte_by_byte_from_both_ends() {
    let (program, other) = terminal();
    takes_bytes_one_by_one(program.try_clone().unwrap(), other.try_clone().unwrap());
    takes_bytes_one_by_one(other, program);
}

#[test]
fn a_duplicate_is_read_byte_by_byte() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    takes_bytes_one_by_one(ours.try_clone().unwrap(), theirs);
}

#[test]
fn a_descriptor_and_its_duplicate_are_called_in_turn() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let trace = Trace::default();
    let both = [ours.try_clone().unwrap(), ours].map(Rc::new);
    for (fd, name) in both.iter().zip(["one", "other"]) {
        let (own, trace) = (Rc::clone(fd), trace.clone());
        event_loop
            .add_reader(fd, move || trace.note(name.to_owned() + &read_byte(&*own)))
            .unwrap();
    }
    theirs.write_all(b"abcd").unwrap();
    one_turn(&mut event_loop);
    one_turn(&mut event_loop);
    let mut notes = trace.take();
    notes.sort();
    // Which of the two comes first is the system's to say.
    let bytes: Vec<&str> = notes.iter().map(|note| &note[note.len() - 1..]).collect();
    assert_eq!(
        notes.iter().filter(|note| note.starts_with("one")).count(),
        2
    );
    assert_eq!(bytes.len(), 4, "{notes:?}");
}

#[test]
fn the_end_is_told_in_each_turn_until_the_reader_is_removed() {
    let _deadline = deadline();
    let (pipe_reader, pipe_writer) = pipe().unwrap();
    let (socket, peer) = UnixStream::pair().unwrap();
    for (reader, writer) in [
        (pipe_reader, pipe_writer),
        (OwnedFd::from(socket), peer.into()),
    ] {
        let mut event_loop = EventLoop::new().unwrap();
        let (trace, reader) = (Trace::default(), Rc::new(reader));
        let (own, story) = (Rc::clone(&reader), trace.clone());
        event_loop
            .add_reader(&reader, move || {
                story.note(format!("{:?}", read_byte(&*own)));
            })
            .unwrap();
        drop(writer);
        // Another test may be starting a process, which has the writer until it runs a program.
        while trace.take().is_empty() {
            one_turn(&mut event_loop);
        }
        for _ in 0..3 {
            one_turn(&mut event_loop);
            assert_eq!(trace.take(), ["\"\""]);
        }
        assert!(event_loop.remove_reader(&reader));
        one_turn(&mut event_loop);
        assert_eq!(trace.take(), [""; 0]);
    }
}

#[test]
fn a_writer_is_called_in_each_turn_until_the_pipe_is_full_and_again_when_it_is_not() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let (reader, writer) = pipe().unwrap();
    let mut reader = File::from(reader);
    let (writer, trace) = (Rc::new(writer), Trace::default());
    event_loop
        .add_writer(&writer, trace.noting("room"))
        .unwrap();
    for _ in 0..3 {
        one_turn(&mut event_loop);
        assert_eq!(trace.take(), ["room"]);
    }
    let mut filled = 0;
    while !{
        one_turn(&mut event_loop);
        trace.take().is_empty()
    } {
        filled += rustix::io::write(&writer, &[b'x'; 4096]).unwrap();
    }
    reader.read_exact(&mut vec![0; filled]).unwrap();
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), ["room"]);
    // Nobody reads any more: the next write says so.
    drop(reader);
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), ["room"]);
    assert!(event_loop.remove_writer(&writer));
    assert!(!event_loop.remove_writer(&writer));
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), [""; 0]);
}

#[test]
fn both_directions_of_one_descriptor_are_called_the_reader_first() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (ours, trace) = (Rc::new(ours), Trace::default());
    event_loop.add_writer(&ours, trace.noting("write")).unwrap();
    let (own, story) = (Rc::clone(&ours), trace.clone());
    event_loop
        .add_reader(&ours, move || story.note(read_byte(&*own)))
        .unwrap();
    theirs.write_all(b"abc").unwrap();
    one_turn(&mut event_loop);
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), ["a", "write", "b", "write"]);
    assert!(event_loop.remove_writer(&ours));
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), ["c"]);
    event_loop.add_writer(&ours, trace.noting("write")).unwrap();
    assert!(event_loop.remove_reader(&ours));
    theirs.write_all(b"d").unwrap();
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), ["write"]);
}

#[test]
fn a_reader_that_is_always_ready_starves_no_callback_and_no_timer() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let ours = ended();
    let calls = Rc::new(Cell::new(0));
    let count = Rc::clone(&calls);
    event_loop
        .add_reader(&ours, move || count.set(count.get() + 1))
        .unwrap();
    event_loop.run_until_complete(async {
        for _ in 0..100 {
            evloop::sleep(Duration::ZERO).await.unwrap();
        }
        evloop::sleep(Duration::from_millis(5)).await.unwrap();
    });
    assert!(calls.get() > 1);
}

// Adding, replacing and removing.

#[test]
fn a_second_reader_replaces_the_first_and_the_writer_stays() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let trace = Trace::default();
    let gone = on_drop(trace.noting("the first is dropped"));
    let first = trace.noting("first");
    event_loop
        .add_reader(&ours, move || {
            let _ = &gone;
            first();
        })
        .unwrap();
    event_loop
        .add_writer(&ours, trace.noting("writer"))
        .unwrap();
    theirs.write_all(b"a").unwrap();
    event_loop
        .add_reader(&ours, trace.noting("second"))
        .unwrap();
    assert_eq!(trace.take(), ["the first is dropped"]);
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), ["second", "writer"]);
}

#[test]
fn a_callback_removes_itself() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let ours = ended();
    let (ours, trace) = (Rc::new(ours), Trace::default());
    let gone = on_drop(trace.noting("dropped"));
    let (own, story, handle) = (Rc::clone(&ours), trace.clone(), event_loop.handle());
    event_loop
        .add_reader(&ours, move || {
            let _ = &gone;
            assert!(handle.remove_reader(&own));
            assert!(!handle.remove_reader(&own));
            story.note("removed");
        })
        .unwrap();
    one_turn(&mut event_loop);
    one_turn(&mut event_loop);
    // The closure is needed until it has returned.
    assert_eq!(trace.take(), ["removed", "dropped"]);
    assert_eq!(Rc::strong_count(&ours), 1);
}

#[test]
fn a_callback_replaces_itself() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"ab").unwrap();
    let (ours, trace) = (Rc::new(ours), Trace::default());
    let (own, story, handle) = (Rc::clone(&ours), trace.clone(), event_loop.handle());
    event_loop
        .add_reader(&ours, move || {
            story.note("first ".to_owned() + &read_byte(&*own));
            let (inner, story) = (Rc::clone(&own), story.clone());
            let second = move || story.note("second ".to_owned() + &read_byte(&*inner));
            handle.add_reader(&own, second).unwrap();
        })
        .unwrap();
    one_turn(&mut event_loop);
    one_turn(&mut event_loop);
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), ["first a", "second b"]);
}

#[test]
fn a_callback_that_is_removed_or_replaced_is_not_called_though_it_is_queued() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let pairs = [(); 3].map(|()| UnixStream::pair().unwrap());
    let [(a, _), (b, _), (c, _)] = &pairs;
    let fds = [a, b, c].map(AsRawFd::as_raw_fd);
    for (own, _) in &pairs {
        let own = own.as_raw_fd();
        let (handle, trace) = (event_loop.handle(), trace.clone());
        event_loop
            .add_reader(&own, move || {
                trace.note("the first one");
                for other in fds.into_iter().filter(|fd| *fd != own) {
                    assert!(handle.remove_reader(&other));
                }
            })
            .unwrap();
    }
    for (_, peer) in &pairs {
        let mut peer = peer;
        peer.write_all(b"x").unwrap();
    }
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), ["the first one"]);

    // The reader goes first, and replaces the writer that waits behind it.
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.add_writer(&fds[0], trace.noting("old")).unwrap();
    let (handle, story) = (event_loop.handle(), trace.clone());
    event_loop
        .add_reader(&fds[0], move || {
            story.note("reader");
            handle.add_writer(&fds[0], story.noting("new")).unwrap();
            handle.remove_reader(&fds[0]);
        })
        .unwrap();
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), ["reader"]);
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), ["new"]);
}

#[test]
fn a_callback_watches_another_descriptor() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let ours = ended();
    let (ours, trace) = (Rc::new(ours), Trace::default());
    let (room, handle) = (UnixStream::pair().unwrap(), event_loop.handle());
    let (own, story) = (Rc::clone(&ours), trace.clone());
    event_loop
        .add_reader(&ours, move || {
            handle.remove_reader(&own);
            handle
                .add_writer(&room.0, story.noting("the other"))
                .unwrap();
            story.note("the one");
        })
        .unwrap();
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), ["the one"]);
}

#[test]
fn a_callback_that_panics_is_reported_and_called_again_and_others_go_on() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    trace.reports_of(&event_loop);
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let (other, _peer) = UnixStream::pair().unwrap();
    event_loop
        .add_writer(&ours, || panic!("not today"))
        .unwrap();
    event_loop
        .add_writer(&other, trace.noting("other"))
        .unwrap();
    for _ in 0..2 {
        one_turn(&mut event_loop);
        let mut notes = trace.take();
        notes.sort();
        assert_eq!(
            notes,
            ["Exception in callback: panicked: not today", "other"]
        );
    }
}

#[test]
fn a_destructor_that_panics_is_reported() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    trace.reports_of(&event_loop);
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let fatal = on_drop(|| panic!("at last"));
    event_loop
        .add_writer(&ours, move || {
            let _ = &fatal;
        })
        .unwrap();
    one_turn(&mut event_loop);
    assert!(event_loop.remove_writer(&ours));
    assert_eq!(
        trace.take(),
        ["Exception in a destructor: panicked: at last"]
    );
}

// Descriptors that are closed or change hands.

#[test]
fn a_callback_that_closes_its_descriptor_is_called_no_more() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (other, _peer) = UnixStream::pair().unwrap();
    theirs.write_all(b"ab").unwrap();
    let trace = Trace::default();
    let gone = on_drop(trace.noting("dropped"));
    let (fd, story) = (ours.as_raw_fd(), trace.clone());
    let mut own = Some(ours);
    event_loop
        .add_reader(&fd, move || {
            let _ = &gone;
            story.note(format!("closed: {}", own.take().is_some()));
        })
        .unwrap();
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), ["closed: true", "dropped"]);
    // The socket is closed indeed: nothing of ours keeps it open. It had a byte that nobody read.
    assert_eq!(
        theirs.read(&mut [0]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    event_loop
        .add_writer(&other, trace.noting("other"))
        .unwrap();
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), ["other"]);
}

#[test]
fn a_number_that_is_another_file_by_now_is_watched_anew() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let (old, mut old_peer) = UnixStream::pair().unwrap();
    let (new, mut new_peer) = UnixStream::pair().unwrap();
    let kept = old.try_clone().unwrap();
    let mut number = OwnedFd::from(old);
    event_loop.add_reader(&number, trace.noting("old")).unwrap();
    event_loop
        .add_writer(&number, trace.noting("old writer"))
        .unwrap();
    // What was under this number is closed, and something else is there now.
    rustix::io::dup2(&new, &mut number).unwrap();
    event_loop.add_reader(&number, trace.noting("new")).unwrap();
    // The old file is still open, under another number, and nobody watches it.
    old_peer.write_all(b"x").unwrap();
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), [""; 0]);
    new_peer.write_all(b"x").unwrap();
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), ["new"]);
    assert!(!event_loop.remove_writer(&number));
    assert!(event_loop.remove_reader(&number));
    drop(kept);
}

#[test]
fn a_callback_whose_number_becomes_another_file_ends_with_the_old_one() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let (old, _old_peer) = UnixStream::pair().unwrap();
    let (new, _new_peer) = UnixStream::pair().unwrap();
    let number = Rc::new(RefCell::new(OwnedFd::from(old)));
    let fd = number.borrow().as_raw_fd();
    let (own, story) = (Rc::clone(&number), trace.clone());
    event_loop
        .add_writer(&fd, move || {
            rustix::io::dup2(&new, &mut own.borrow_mut()).unwrap();
            story.note("called");
        })
        .unwrap();
    one_turn(&mut event_loop);
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), ["called"]);
    assert!(!event_loop.remove_writer(&fd));
}

#[test]
fn a_descriptor_may_be_closed_as_soon_as_its_callbacks_are_removed() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let duplicate = ours.try_clone().unwrap();
    event_loop
        .add_reader(&ours, trace.noting("called"))
        .unwrap();
    assert!(event_loop.remove_reader(&ours));
    drop(ours);
    theirs.write_all(b"x").unwrap();
    one_turn(&mut event_loop);
    assert_eq!(trace.take(), [""; 0]);
    drop(duplicate);
}

// What is refused.

#[test]
fn a_regular_file_is_refused_with_the_systems_error() {
    let event_loop = EventLoop::new().unwrap();
    let file = File::open(std::env::current_exe().unwrap()).unwrap();
    let number = file.as_raw_fd();
    let trace = Trace::default();
    let dropped = on_drop(trace.noting("dropped"));
    let callback = move || {
        let _ = &dropped;
    };
    let error = event_loop.add_reader(&file, callback).unwrap_err();
    assert_eq!(trace.take(), ["dropped"]);
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(
        error.to_string(),
        format!("cannot watch file descriptor {number}: Operation not permitted (os error 1)")
    );
    let error: DescriptorError = error.downcast().unwrap();
    assert_eq!((error.fd, error.source.raw_os_error()), (number, Some(1)));
    let error = event_loop.add_writer(&file, || ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(!event_loop.remove_reader(&file));
    assert!(!event_loop.remove_writer(&file));
}

#[test]
fn a_number_that_is_no_descriptor_is_refused() {
    let event_loop = EventLoop::new().unwrap();
    let error = event_loop.add_reader(&-1, || ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), "Invalid file descriptor: -1");
    let nobodys = 1_000_000;
    let error = event_loop.add_writer(&nobodys, || ()).unwrap_err();
    let error: DescriptorError = error.downcast().unwrap();
    // EBADF
    assert_eq!(error.source.raw_os_error(), Some(9));
    assert!(!event_loop.remove_reader(&-1));
    assert!(!event_loop.remove_writer(&nobodys));
}

/// Echoes.
#[derive(Default)]
struct Echo(Option<Transport>);

impl Protocol for Echo {
    fn connection_made(&mut self, transport: Transport) {
        self.0 = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        self.0.iter().for_each(|transport| transport.write(data));
    }
}

/// The number that the next descriptor of this process will have.
fn next_number() -> i32 {
    closed(File::open("/dev/null").unwrap())
}

#[test]
fn the_socket_of_a_transport_or_server_is_refused() {
    let status = in_a_child(
        "descriptors::the_socket_of_a_transport_or_server_is_refused",
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let handle = event_loop.handle();
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let number = next_number();
            let connection = create_connection(Echo::default, address);
            let (transport, _) = event_loop.run_until_complete(connection).unwrap();
            let (peer, _) = listener.accept().unwrap();
            for outcome in [
                handle.add_reader(&number, || ()),
                handle.add_writer(&number, || ()),
            ] {
                let error = outcome.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ResourceBusy);
                let expected = format!("File descriptor {number} is used by transport ");
                assert!(error.to_string().starts_with(&expected), "{error}");
            }
            assert!(!handle.remove_reader(&number) && !handle.remove_writer(&number));
            assert_echoes(&mut event_loop, &peer);

            let socket = number;
            let number = next_number();
            let server = create_server(Echo::default, ("127.0.0.1", 0));
            let server = event_loop.run_until_complete(server).unwrap();
            let error = handle.add_reader(&number, || ()).unwrap_err();
            let expected = format!("File descriptor {number} is used by a server on ");
            assert!(error.to_string().starts_with(&expected), "{error}");
            server.close();

            // A socket that is closed is nobody's.
            transport.abort();
            one_turn(&mut event_loop);
            one_turn(&mut event_loop);
            let error = handle.add_reader(&socket, || ()).unwrap_err();
            assert!(error.downcast::<DescriptorError>().is_ok());
        },
    );
    assert_eq!(status.code(), Some(ALIVE));
}

#[test]
fn the_socket_of_a_unix_or_an_adopted_transport_or_server_is_refused() {
    let status = in_a_child(
        "descriptors::the_socket_of_a_unix_or_an_adopted_transport_or_server_is_refused",
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let handle = event_loop.handle();
            let refused = |number: i32, by: &str| {
                let error = handle.add_reader(&number, || ()).unwrap_err();
                let expected = format!("File descriptor {number} is used by {by} ");
                assert!(error.to_string().starts_with(&expected), "{error}");
            };
            let name = format!("evloop-descriptors-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let number = next_number();
            let server = create_unix_server(Echo::default, &path);
            let server = event_loop.run_until_complete(server).unwrap();
            refused(number, "a server on");
            let number = next_number();
            let connection = create_unix_connection(Echo::default, &path);
            let (transport, _) = event_loop.run_until_complete(connection).unwrap();
            refused(number, "transport");
            one_turn(&mut event_loop);
            transport.abort();
            server.close();
            assert!(!path.exists());

            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let number = listener.as_raw_fd();
            let server = create_server(Echo::default, listener);
            let server = event_loop.run_until_complete(server).unwrap();
            refused(number, "a server on");
            let (ours, peer) = UnixStream::pair().unwrap();
            let number = ours.as_raw_fd();
            let connection = create_connection(Echo::default, ours);
            let (transport, _) = event_loop.run_until_complete(connection).unwrap();
            refused(number, "transport");
            transport.abort();
            server.close();
            drop(peer);
        },
    );
    assert_eq!(status.code(), Some(ALIVE));
}

#[track_caller]
fn assert_echoes(event_loop: &mut EventLoop, peer: &TcpStream) {
    let mut peer = peer;
    peer.write_all(b"echo").unwrap();
    peer.set_nonblocking(true).unwrap();
    let mut answer = [0; 16];
    loop {
        one_turn(event_loop);
        match peer.read(&mut answer) {
            Ok(n) => break assert_eq!(&answer[..n], b"echo"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

#[test]
fn a_transport_whose_number_was_watched_before_is_left_alone() {
    let status = in_a_child(
        "descriptors::a_transport_whose_number_was_watched_before_is_left_alone",
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let (ours, theirs) = UnixStream::pair().unwrap();
            let trace = Trace::default();
            event_loop
                .add_reader(&ours, trace.noting("called"))
                .unwrap();
            event_loop
                .add_writer(&ours, trace.noting("called"))
                .unwrap();
            // Nobody has told the loop, and the next socket gets the number.
            let number = closed(ours);
            let connection = create_connection(Echo::default, address);
            let (_transport, _) = event_loop.run_until_complete(connection).unwrap();
            let (peer, _) = listener.accept().unwrap();
            let error = event_loop.add_reader(&number, || ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ResourceBusy);
            assert!(event_loop.remove_reader(&number));
            assert!(
                !event_loop.remove_writer(&number),
                "both went with the file"
            );
            assert_echoes(&mut event_loop, &peer);
            assert_eq!(trace.take(), [""; 0]);
            drop(theirs);
        },
    );
    assert_eq!(status.code(), Some(ALIVE));
}

#[test]
fn a_connection_that_is_being_made_is_left_alone_as_well() {
    let status = in_a_child(
        "descriptors::a_connection_that_is_being_made_is_left_alone_as_well",
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let (ours, theirs) = UnixStream::pair().unwrap();
            let trace = Trace::default();
            event_loop
                .add_reader(&ours, trace.noting("called"))
                .unwrap();
            let number = closed(ours);
            let connecting = create_connection(Echo::default, address).into_future();
            let connecting = event_loop.create_task(connecting);
            // Its socket has the number, and no event was seen yet.
            let (handle, done) = (event_loop.handle(), trace.noting("refused"));
            event_loop.call_soon(move || {
                let error = handle.add_reader(&number, || ()).unwrap_err();
                let expected = "is used by a connection that is being made";
                assert!(error.to_string().ends_with(expected), "{error}");
                assert!(handle.remove_reader(&number));
                done();
            });
            let (_transport, _) = event_loop.run_until_complete(connecting).unwrap().unwrap();
            let (peer, _) = listener.accept().unwrap();
            assert_echoes(&mut event_loop, &peer);
            assert_eq!(trace.take(), ["refused"]);
            drop(theirs);
        },
    );
    assert_eq!(status.code(), Some(ALIVE));
}

#[test]
fn a_socket_that_becomes_a_transport_or_server_loses_its_reader() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let trace = Trace::default();
    let gone = on_drop(trace.noting("dropped"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    event_loop
        .add_reader(&listener, trace.noting("called"))
        .unwrap();
    let number = listener.as_raw_fd();
    let server = create_server(Echo::default, listener);
    let server = event_loop.run_until_complete(server).unwrap();
    assert!(!event_loop.remove_reader(&number));
    let peer = TcpStream::connect(address).unwrap();
    assert_echoes(&mut event_loop, &peer);

    let number = peer.as_raw_fd();
    let called = trace.noting("called");
    let reader = move || {
        let _ = &gone;
        called();
    };
    event_loop.add_reader(&peer, reader).unwrap();
    let connection = create_connection(Echo::default, peer);
    let (transport, _) = event_loop.run_until_complete(connection).unwrap();
    assert_eq!(trace.take(), ["dropped"]);
    assert!(!event_loop.remove_reader(&number));
    transport.write(b"x");
    one_turn(&mut event_loop);
    transport.abort();
    server.close();
    assert_eq!(trace.take(), [""; 0]);
}

// The end of the loop.

#[track_caller]
fn assert_loop_closed(error: &io::Error) {
    let inner = error.get_ref().and_then(|error| error.downcast_ref());
    assert_eq!(inner, Some(&LoopClosed));
}

#[test]
fn a_closed_loop_has_dropped_its_callbacks_and_takes_no_others() {
    let _deadline = deadline();
    let event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let (ours, trace) = (Rc::new(ours), Trace::default());
    let (own, story, late) = (Rc::clone(&ours), trace.clone(), handle.clone());
    let gone = on_drop(move || {
        // Nothing of the loop is borrowed.
        assert!(!late.remove_reader(&own) && !late.remove_writer(&own));
        let error = late.add_reader(&own, || ()).unwrap_err();
        assert_loop_closed(&error);
        story.note("dropped");
    });
    event_loop
        .add_reader(&ours, move || {
            let _ = &gone;
        })
        .unwrap();
    event_loop
        .add_writer(&ours, trace.noting("called"))
        .unwrap();
    event_loop.close();
    assert_eq!(trace.take(), ["dropped"]);
    assert_eq!(Rc::strong_count(&ours), 1);

    let error = handle.add_writer(&ours, || ()).unwrap_err();
    assert_loop_closed(&error);
    assert!(!handle.remove_reader(&ours) && !handle.remove_writer(&ours));
}
