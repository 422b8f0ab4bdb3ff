//! What one peer may cost the others under TLS, and what it may not: the loop's attention.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use evloop::{LoopHandle, Protocol, Transport, create_server, get_running_loop, sleep};
use socket2::{Domain, Socket, Type};

use crate::blocking::{ClientPeer, joined};
use crate::common::{Peer, run, within};
use crate::support::server_context;

/// What a server's protocol has seen.
#[derive(Default)]
struct Seen {
    transport: RefCell<Option<Transport>>,
    bytes: Cell<usize>,
    /// Since somebody else had their turn.
    at_a_time: Cell<usize>,
    most_at_a_time: Cell<usize>,
    /// Called behind each piece, with how much there is by now.
    behind: RefCell<Option<Behind>>,
}

type Behind = Box<dyn FnMut(usize)>;

impl Seen {
    fn resume_reading(&self) {
        if let Some(transport) = &*self.transport.borrow() {
            transport.resume_reading();
        }
    }
}

struct Counting(Rc<Seen>);

impl Protocol for Counting {
    fn connection_made(&mut self, transport: Transport) {
        transport.pause_reading();
        drop(self.0.transport.borrow_mut().replace(transport));
    }

    fn data_received(&mut self, data: &[u8]) {
        let seen = &self.0;
        seen.bytes.set(seen.bytes.get() + data.len());
        seen.at_a_time.set(seen.at_a_time.get() + data.len());
        let most = seen.most_at_a_time.get().max(seen.at_a_time.get());
        seen.most_at_a_time.set(most);
        if let Some(behind) = &mut *seen.behind.borrow_mut() {
            behind(seen.bytes.get());
        }
        // As somebody does who pauses when there is too much, and resumes else.
        seen.resume_reading();
    }
}

/// Somebody else, who wants a turn each time.
fn tick(handle: &LoopHandle, seen: &Rc<Seen>) {
    seen.at_a_time.set(0);
    let (here, seen) = (handle.clone(), Rc::clone(seen));
    handle.call_soon(move || tick(&here, &seen));
}

/// A server on this loop that does not read yet, and a client of it that has shaken hands. Between
/// them there is room for what the tests send.
async fn connected(seen: &Rc<Seen>) -> ClientPeer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1 << 20).unwrap();
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any_port.into()).unwrap();
    socket.listen(1).unwrap();
    let counted = Rc::clone(seen);
    let counting = move || Counting(Rc::clone(&counted));
    let server = create_server(counting, TcpListener::from(socket)).ssl(server_context("server"));
    let server = server.await.unwrap();
    let address = server.sockets()[0].as_inet().unwrap();
    let handle = get_running_loop().unwrap();
    let joining = handle.run_in_executor(move || joined(Peer::connect(address)));
    let client = joining.await.unwrap();
    // The client is done first: its last message is on its way to the server still.
    within("the server's side", async {
        while seen.transport.borrow().is_none() {
            sleep(Duration::from_millis(1)).await.unwrap();
        }
    })
    .await;
    client
}

#[test]
fn records_with_next_to_nothing_in_them_let_others_run() {
    run(async {
        let seen = Rc::new(Seen::default());
        let mut client = connected(&seen).await;
        // Each write is a record of its own, of one byte.
        client.conn.set_buffer_limit(None);
        let mut records = Vec::new();
        for number in 0..RECORDS {
            client.conn.writer().write_all(&[number as u8]).unwrap();
            client.conn.write_tls(&mut records).unwrap();
        }
        client.sock.write_all(&records).unwrap();
        tick(&get_running_loop().unwrap(), &seen);
        seen.resume_reading();
        within("all records", async {
            while seen.bytes.get() < RECORDS {
                sleep(Duration::from_millis(1)).await.unwrap();
            }
        })
        .await;
        let most = seen.most_at_a_time.get();
        assert!(most <= MOST, "{most} records in one turn");
    });
}

/// An event that comes for one that is on the list of visits, and has nothing left to read, is told
/// on: without it nobody would look at the socket again.
#[test]
fn an_event_is_not_lost_on_somebody_who_is_to_be_visited() {
    run(async {
        let seen = Rc::new(Seen::default());
        let mut client = connected(&seen).await;
        // More than one receive brings, so that the last one is not the first.
        client.write_all(&[1; FIRST]).unwrap();
        *seen.behind.borrow_mut() = Some(Box::new(move |bytes| {
            if bytes == FIRST {
                client.write_all(&[2; 100]).unwrap();
            }
        }));
        seen.resume_reading();
        within("what came behind", async {
            while seen.bytes.get() < FIRST + 100 {
                sleep(Duration::from_millis(1)).await.unwrap();
            }
        })
        .await;
        seen.behind.take();
    });
}

const RECORDS: usize = 16_000;
/// A record of one byte has 23 on its way. A receive takes what it has room for, 64 KiB or some
/// more, and two records.
const MOST: usize = (128 + 2 * 17) * 1024 / 23;
const FIRST: usize = 200 * 1024;
