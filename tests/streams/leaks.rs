//! What is left when streams are gone: nothing.

use std::io;

use evloop::{StreamReader, StreamWriter, get_running_loop, open_connection, start_server};

use crate::common::own_process::{self, descriptors, resident_kib};
use crate::common::{run, turns, within};

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    let line = reader.readline().await?;
    writer.write(&line);
    writer.drain().await
}

#[test]
fn a_thousand_streams_twenty_times_over_leave_no_descriptor_and_no_memory() {
    if !own_process::enter(
        "leaks::a_thousand_streams_twenty_times_over_leave_no_descriptor_and_no_memory",
    ) {
        return;
    }
    run(async {
        let server = start_server(echo, ("127.0.0.1", 0))
            .backlog(512)
            .await
            .unwrap();
        let address = server.sockets()[0].as_inet().unwrap();
        let handle = get_running_loop().unwrap();
        let before = descriptors();
        let mut after_warming_up = 0;
        for round in 0..20 {
            for _ in 0..4 {
                let clients: Vec<_> = (0..250)
                    .map(|number| {
                        handle.create_task(async move {
                            let (mut reader, writer) = open_connection(address).await?;
                            let line = format!("line {number}\n");
                            writer.write(line.as_bytes());
                            assert_eq!(reader.readline().await?, line.as_bytes());
                            writer.close();
                            writer.wait_closed().await
                        })
                    })
                    .collect();
                for client in clients {
                    within("a client", client).await.unwrap().unwrap();
                }
                within("the server's side", async {
                    while descriptors() > before {
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
