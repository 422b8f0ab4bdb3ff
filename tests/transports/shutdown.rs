//! `Server::shutdown`: its phases, and what it says about them.

use std::cell::RefCell;
use std::future::IntoFuture;
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use evloop::{
    Address, Server, Shutdown, ShutdownPhase, ShutdownReport, Task, Transport, create_server,
    get_running_loop,
};

use crate::common::trace::Trace;
use crate::common::{Peer, in_thread, pattern, run, turns, within};
use crate::probe::{Call, Probe, block};

/// Longer than any test waits: a phase that relies on this limit fails.
const NEVER: Duration = Duration::from_secs(600);
/// Not long, but somebody comes to the end of it.
const SHORT: Duration = Duration::from_millis(20);

struct Served {
    server: Server,
    trace: Trace,
    transports: Rc<RefCell<Vec<Transport>>>,
}

impl Served {
    async fn new() -> Self {
        Self::at("127.0.0.1").await
    }

    async fn at(host: &str) -> Self {
        let trace = Trace::default();
        let transports = Rc::new(RefCell::new(Vec::new()));
        let (said, all) = (trace.clone(), Rc::clone(&transports));
        let factory = move || {
            let all = Rc::clone(&all);
            Probe::new(&said).doing(move |call, transport| {
                if let Call::Made = call {
                    all.borrow_mut().push(transport.clone());
                }
            })
        };
        let server = create_server(factory, (host, 0)).await.unwrap();
        Self {
            server,
            trace,
            transports,
        }
    }

    /// A client, the server's side of it, and how the report names it.
    async fn client(&self) -> (Peer, Transport, Address) {
        let peer = Peer::connect(self.server.sockets()[0].as_inet().unwrap());
        let made = self.transports.borrow().len();
        self.trace.until_count("made", made + 1).await;
        let transport = self.transports.borrow()[made].clone();
        let name = Address::from(peer.0.local_addr().unwrap());
        (peer, transport, name)
    }

    /// A shutdown that has begun.
    async fn begin(&self, drain: Duration, close: Duration) -> Task<io::Result<ShutdownReport>> {
        let shutdown = self.server.shutdown().drain(drain).close(close);
        let handle = get_running_loop().unwrap();
        let task = handle.create_task(shutdown.into_future());
        turns(1).await;
        assert!(!self.server.is_serving());
        task
    }
}

async fn complete(shutdown: Shutdown) -> ShutdownReport {
    let outcome = within("the report", shutdown.into_future()).await;
    outcome.unwrap()
}

async fn report(task: Task<io::Result<ShutdownReport>>) -> ShutdownReport {
    within("the report", task).await.unwrap().unwrap()
}

/// Who came to the end in this phase.
fn peers(report: &ShutdownReport, phase: ShutdownPhase) -> Vec<Address> {
    let ends = report.ended_in(phase);
    ends.map(|end| end.peer().unwrap().clone()).collect()
}

#[test]
fn each_connection_is_in_the_report_with_the_phase_in_which_it_ended() {
    run(async {
        let served = Served::new().await;
        let (ends, _, ends_name) = served.client().await;
        let (resets, _, resets_name) = served.client().await;
        let (_idle, _, idle_name) = served.client().await;
        let (_stuck, transport, stuck_name) = served.client().await;
        let unsent = block(&transport);

        let shutdown = served.begin(SHORT, SHORT).await;
        // Both stand in their sockets before the time is up.
        ends.finish();
        resets.reset();
        let report = report(shutdown).await;

        let mut drained = peers(&report, ShutdownPhase::Drain);
        drained.sort();
        let mut expected = [ends_name, resets_name.clone()];
        expected.sort();
        assert_eq!(drained, expected);
        assert_eq!(
            peers(&report, ShutdownPhase::Close),
            [idle_name],
            "{report}"
        );
        assert_eq!(
            peers(&report, ShutdownPhase::Abort),
            std::slice::from_ref(&stuck_name)
        );
        assert_eq!(report.connections().len(), 4);
        assert_eq!(report.survivors(ShutdownPhase::Drain).count(), 2);
        assert_eq!(report.survivors(ShutdownPhase::Close).count(), 1);
        assert_eq!(report.survivors(ShutdownPhase::Abort).count(), 0);

        for end in report.connections() {
            let reset = end.peer() == Some(&resets_name);
            let kind = end.error().map(|error| error.kind());
            assert_eq!(kind, reset.then_some(ErrorKind::ConnectionReset), "{end}");
            let stuck = end.phase() == ShutdownPhase::Abort;
            assert_eq!(end.unsent(), if stuck { unsent } else { 0 }, "{end}");
        }
        assert_eq!(
            report.to_string(),
            format!(
                "2 ended in time, 1 closed, 1 aborted: \
                 {stuck_name} was aborted with {unsent} bytes unsent"
            )
        );
        // All are told: nothing of the server goes on.
        assert_eq!(served.trace.count("lost"), 3);
        assert_eq!(served.trace.count("lost ConnectionReset"), 1);
        assert_eq!(served.server.wait_closed().await.ok(), Some(()));
    });
}

#[test]
fn without_a_connection_it_is_over_at_once() {
    run(async {
        // No other test has this address, so nobody takes the port that is given up.
        let served = Served::at("127.0.2.3").await;
        let address = served.server.sockets()[0].as_inet().unwrap();
        let shutdown = served.server.shutdown().drain(NEVER).close(NEVER);
        let report = complete(shutdown).await;
        assert!(report.connections().is_empty());
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        // Again, of a server that is closed.
        let report = served.server.shutdown().await.unwrap();
        assert_eq!(report.to_string(), "0 ended in time, 0 closed, 0 aborted");
    });
}

#[test]
fn the_last_connection_ends_the_drain_before_its_time() {
    run(async {
        let served = Served::new().await;
        let (peer, _, name) = served.client().await;
        let shutdown = served.begin(NEVER, NEVER).await;
        // It goes on, and is served.
        peer.send(b"still here");
        served.trace.until("data still here").await;
        assert!(!shutdown.done());
        peer.finish();
        let report = report(shutdown).await;
        assert_eq!(peers(&report, ShutdownPhase::Drain), [name]);
    });
}

#[test]
fn what_was_written_is_sent_while_a_connection_is_closed() {
    run(async {
        let served = Served::new().await;
        let (peer, transport, name) = served.client().await;
        let data = pattern(8 << 20);
        transport.write(&data);
        assert!(transport.get_write_buffer_size() > 0);
        let received = in_thread(move || peer.receive_all());
        let received = get_running_loop().unwrap().create_task(received);
        let shutdown = served.begin(Duration::ZERO, NEVER).await;
        let report = report(shutdown).await;
        assert_eq!(peers(&report, ShutdownPhase::Close), [name]);
        assert!(received.await.unwrap() == data);
    });
}

#[test]
fn without_time_who_has_nothing_to_send_is_closed_and_the_others_are_aborted() {
    run(async {
        let served = Served::new().await;
        let (idle, _, idle_name) = served.client().await;
        let (_stuck, transport, stuck_name) = served.client().await;
        block(&transport);
        let shutdown = served.server.shutdown().close(Duration::ZERO);
        let report = complete(shutdown).await;
        assert_eq!(peers(&report, ShutdownPhase::Close), [idle_name]);
        assert_eq!(peers(&report, ShutdownPhase::Abort), [stuck_name]);
        assert_eq!(in_thread(move || idle.receive_all()).await, b"");
    });
}

#[test]
fn dropped_it_leaves_connections_as_they_are_and_another_one_goes_on() {
    run(async {
        let served = Served::new().await;
        let (peer, _, name) = served.client().await;
        let shutdown = served.begin(NEVER, NEVER).await;
        shutdown.cancel();
        assert!(shutdown.await.is_err());
        peer.send(b"still here");
        served.trace.until("data still here").await;
        let report = complete(served.server.shutdown()).await;
        assert_eq!(peers(&report, ShutdownPhase::Close), [name]);
    });
}

/// It is over, though nobody was told yet: its end is no matter of the shutdown.
#[test]
fn what_was_closed_just_before_it_begins_is_not_in_the_report() {
    run(async {
        let served = Served::new().await;
        let (_over, transport, _) = served.client().await;
        let (_open, _, name) = served.client().await;
        transport.close();
        let report = complete(served.server.shutdown()).await;
        assert_eq!(peers(&report, ShutdownPhase::Close), [name]);
        assert_eq!(report.connections().len(), 1, "{report}");
        assert_eq!(served.trace.count("lost"), 2);
    });
}

/// It ends in the turn in which the time is up, and is told so in the next.
#[test]
fn what_ends_between_two_phases_is_in_the_report_once() {
    run(async {
        let served = Served::new().await;
        let (_peer, transport, name) = served.client().await;
        let handle = get_running_loop().unwrap();
        let timer = handle.call_later(SHORT, move || transport.close());
        let shutdown = served.begin(SHORT, NEVER).await;
        // Both times are up when the loop looks again, and the timer's was first.
        std::thread::sleep(2 * SHORT);
        let report = report(shutdown).await;
        assert!(timer.when() <= handle.time());
        assert_eq!(peers(&report, ShutdownPhase::Drain), [name]);
        assert_eq!(report.connections().len(), 1, "{report}");
    });
}

#[test]
fn one_that_was_never_polled_does_nothing() {
    run(async {
        let served = Served::new().await;
        drop(served.server.shutdown());
        assert!(served.server.is_serving());
    });
}

#[test]
fn two_at_a_time_both_come_to_the_end_of_the_shorter_one() {
    run(async {
        let served = Served::new().await;
        let (_peer, _, name) = served.client().await;
        let patient = served.begin(NEVER, NEVER).await;
        let other = served.begin(Duration::ZERO, NEVER).await;
        let other = report(other).await;
        assert_eq!(
            peers(&other, ShutdownPhase::Close),
            std::slice::from_ref(&name)
        );
        let patient = report(patient).await;
        assert_eq!(peers(&patient, ShutdownPhase::Drain), [name]);
    });
}

#[test]
fn abort_clients_ends_whatever_phase_it_is_in() {
    for drain in [NEVER, Duration::ZERO] {
        run(async move {
            let served = Served::new().await;
            let (_peer, transport, _) = served.client().await;
            block(&transport);
            let shutdown = served.begin(drain, NEVER).await;
            turns(5).await;
            assert!(!shutdown.done());
            served.server.abort_clients();
            let report = report(shutdown).await;
            assert_eq!(report.survivors(ShutdownPhase::Close).count(), 0);
            assert_eq!(report.connections().len(), 1);
        });
    }
}

#[test]
fn outside_the_loop_it_is_an_error() {
    let server = run(async { Served::new().await.server });
    let shutdown = server.shutdown().into_future();
    assert!(futures::executor::block_on(shutdown).is_err());
}
