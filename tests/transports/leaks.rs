//! What is left when connections are gone: nothing.

use std::cell::Cell;
use std::rc::Rc;

use evloop::{Protocol, Transport, create_connection, create_server};

use crate::common::own_process::{self, descriptors, resident_kib};
use crate::common::{run, turns, within};

struct Echo(Option<Transport>);

impl Protocol for Echo {
    fn connection_made(&mut self, transport: Transport) {
        self.0 = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        self.0.as_ref().unwrap().write(data);
    }
}

/// Sends its number, and closes when it has come back.
struct Client {
    number: u32,
    transport: Option<Transport>,
    received: Vec<u8>,
    over: Rc<Cell<usize>>,
}

impl Protocol for Client {
    fn connection_made(&mut self, transport: Transport) {
        transport.write(&self.number.to_le_bytes());
        self.transport = Some(transport);
    }

    fn data_received(&mut self, data: &[u8]) {
        self.received.extend_from_slice(data);
        if self.received.len() == 4 {
            assert_eq!(self.received, self.number.to_le_bytes());
            self.transport.as_ref().unwrap().close();
        }
    }

    fn connection_lost(&mut self, exc: Option<std::sync::Arc<std::io::Error>>) {
        assert!(exc.is_none(), "{exc:?}");
        self.over.set(self.over.get() + 1);
    }
}

#[test]
fn a_thousand_connections_twenty_times_over_leave_no_descriptor_and_no_memory() {
    if !own_process::enter(
        "leaks::a_thousand_connections_twenty_times_over_leave_no_descriptor_and_no_memory",
    ) {
        return;
    }
    run(async {
        let server = create_server(|| Echo(None), ("127.0.0.1", 0))
            .backlog(512)
            .await
            .unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        let before = descriptors();
        let mut after_warming_up = 0;
        for round in 0..20 {
            let over = Rc::new(Cell::new(0));
            for batch in 1..=4 {
                for number in 0..250 {
                    let client = Client {
                        number,
                        transport: None,
                        received: Vec::new(),
                        over: Rc::clone(&over),
                    };
                    create_connection(|| client, address).await.unwrap();
                }
                within("the connections", async {
                    while over.get() < 250 * batch || descriptors() > before {
                        turns(1).await;
                    }
                })
                .await;
            }
            if round == 4 {
                after_warming_up = resident_kib();
            }
        }
        assert_eq!(descriptors(), before);
        let grown = resident_kib().saturating_sub(after_warming_up);
        // 15,000 connections: 20 bytes for each of them would be more.
        assert!(grown < 300, "{grown} KiB more than after the first rounds");
    });
}
