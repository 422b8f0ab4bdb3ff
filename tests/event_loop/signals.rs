//! Signals. They concern the whole process, so each test has one of its own.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use evloop::signals::{SIGCHLD, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use evloop::{EventLoop, get_running_loop};
use signal_hook::low_level::raise;

use crate::support::{ALIVE, Trace, deadline, in_a_child};

#[track_caller]
fn assert_alive(name: &str, scene: fn()) {
    let status = in_a_child(name, scene);
    assert_eq!(status.code(), Some(ALIVE), "{status}");
}

#[test]
fn a_signal_is_delivered_into_the_loop() {
    assert_alive("signals::a_signal_is_delivered_into_the_loop", || {
        let mut event_loop = EventLoop::new().unwrap();
        let trace = Trace::default();
        let (story, handle) = (trace.clone(), event_loop.handle());
        event_loop
            .add_signal_handler(SIGUSR1, move || {
                assert!(get_running_loop().is_ok());
                story.note("signal");
                handle.stop();
            })
            .unwrap();
        raise(SIGUSR1).unwrap();
        assert!(
            trace.take().is_empty(),
            "it comes from the loop, not from anywhere"
        );
        event_loop.run_forever();
        assert_eq!(trace.take(), ["signal"]);

        // Also while the loop sleeps, and as often as it comes.
        let sender = thread::spawn(|| raise(SIGUSR1).unwrap());
        event_loop.run_forever();
        sender.join().unwrap();
        assert_eq!(trace.take(), ["signal"]);
    });
}

#[test]
fn two_loops_in_two_threads_both_get_a_signal() {
    assert_alive(
        "signals::two_loops_in_two_threads_both_get_a_signal",
        || {
            let ready = Arc::new(Barrier::new(3));
            let threads = [0, 1].map(|_| {
                let ready = Arc::clone(&ready);
                thread::spawn(move || {
                    let mut event_loop = EventLoop::new().unwrap();
                    let handle = event_loop.handle();
                    event_loop
                        .add_signal_handler(SIGTERM, move || handle.stop())
                        .unwrap();
                    ready.wait();
                    event_loop.run_forever();
                })
            });
            ready.wait();
            raise(SIGTERM).unwrap();
            for thread in threads {
                thread.join().unwrap();
            }
        },
    );
}

#[test]
fn one_loops_end_leaves_the_other_its_signal() {
    assert_alive("signals::one_loops_end_leaves_the_other_its_signal", || {
        let mut event_loop = EventLoop::new().unwrap();
        let other = EventLoop::new().unwrap();
        let handle = event_loop.handle();
        event_loop
            .add_signal_handler(SIGTERM, move || handle.stop())
            .unwrap();
        other.add_signal_handler(SIGTERM, || {}).unwrap();
        other.close();
        raise(SIGTERM).unwrap();
        event_loop.run_forever();
    });
}

#[test]
fn a_library_that_registered_first_gets_it_beside_us_and_after_us() {
    assert_alive(
        "signals::a_library_that_registered_first_gets_it_beside_us_and_after_us",
        || {
            let seen = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(SIGTERM, Arc::clone(&seen)).unwrap();
            let mut event_loop = EventLoop::new().unwrap();
            let handle = event_loop.handle();
            event_loop
                .add_signal_handler(SIGTERM, move || handle.stop())
                .unwrap();
            raise(SIGTERM).unwrap();
            event_loop.run_forever();
            assert!(seen.swap(false, Ordering::SeqCst), "beside us");
            event_loop.close();
            raise(SIGTERM).unwrap();
            assert!(seen.load(Ordering::SeqCst), "after us");
        },
    );
}

#[test]
fn the_default_is_back_after_the_loop_is_closed() {
    let name = "signals::the_default_is_back_after_the_loop_is_closed";
    let status = in_a_child(name, || {
        let mut event_loop = EventLoop::new().unwrap();
        let handle = event_loop.handle();
        event_loop
            .add_signal_handler(SIGTERM, move || handle.stop())
            .unwrap();
        raise(SIGTERM).unwrap();
        event_loop.run_forever();
        event_loop.close();
        raise(SIGTERM).unwrap();
    });
    assert_eq!(status.signal(), Some(SIGTERM), "{status}");
}

#[test]
fn the_default_is_back_after_the_handler_is_removed() {
    // Not SIGHUP, which `nohup` has a whole run of tests ignore.
    let name = "signals::the_default_is_back_after_the_handler_is_removed";
    let status = in_a_child(name, || {
        let event_loop = EventLoop::new().unwrap();
        event_loop.add_signal_handler(SIGUSR1, || {}).unwrap();
        raise(SIGUSR1).unwrap();
        assert!(event_loop.remove_signal_handler(SIGUSR1));
        raise(SIGUSR1).unwrap();
    });
    assert_eq!(status.signal(), Some(SIGUSR1), "{status}");
}

#[test]
fn a_signal_that_does_nothing_by_default_does_nothing_afterwards() {
    assert_alive(
        "signals::a_signal_that_does_nothing_by_default_does_nothing_afterwards",
        || {
            let event_loop = EventLoop::new().unwrap();
            for number in [SIGCHLD, SIGWINCH] {
                event_loop.add_signal_handler(number, || {}).unwrap();
            }
            event_loop.close();
            for number in [SIGCHLD, SIGWINCH] {
                raise(number).unwrap();
            }
        },
    );
}

#[test]
fn numbers_that_cannot_be_handled_are_refused() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    for number in [9, 0, 999, -1] {
        let dropped = Rc::new(());
        let held = Rc::clone(&dropped);
        let error = event_loop
            .add_signal_handler(number, move || {
                let _held = &held;
            })
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&number.to_string()), "{error}");
        assert_eq!(Rc::strong_count(&dropped), 1);
        assert!(!event_loop.remove_signal_handler(number));
    }
    event_loop.run_until_complete(async {});
}

#[test]
fn a_later_handler_replaces_an_earlier_one() {
    assert_alive("signals::a_later_handler_replaces_an_earlier_one", || {
        let mut event_loop = EventLoop::new().unwrap();
        let trace = Trace::default();
        let freed = Rc::new(());
        let held = Rc::clone(&freed);
        event_loop
            .add_signal_handler(SIGUSR1, move || {
                let _held = &held;
                unreachable!("it was replaced");
            })
            .unwrap();
        raise(SIGUSR1).unwrap();
        let (story, handle) = (trace.clone(), event_loop.handle());
        event_loop
            .add_signal_handler(SIGUSR1, move || {
                story.note("second");
                handle.stop();
            })
            .unwrap();
        assert_eq!(Rc::strong_count(&freed), 1);
        event_loop.run_forever();
        assert_eq!(trace.take(), ["second"]);
    });
}

#[test]
fn a_handler_is_removed_once_and_not_called_afterwards() {
    assert_alive(
        "signals::a_handler_is_removed_once_and_not_called_afterwards",
        || {
            let mut event_loop = EventLoop::new().unwrap();
            // Keeps the process alive when the loop has let go.
            signal_hook::flag::register(SIGUSR2, Arc::new(AtomicBool::new(false))).unwrap();
            assert!(!event_loop.remove_signal_handler(SIGUSR2));
            let called = Rc::new(Cell::new(false));
            let call = Rc::clone(&called);
            event_loop
                .add_signal_handler(SIGUSR2, move || call.set(true))
                .unwrap();
            raise(SIGUSR2).unwrap();
            assert!(event_loop.remove_signal_handler(SIGUSR2));
            assert!(!event_loop.remove_signal_handler(SIGUSR2));
            assert_eq!(Rc::strong_count(&called), 1);
            for _ in 0..3 {
                event_loop.stop();
                event_loop.run_forever();
            }
            assert!(!called.get());
        },
    );
}

#[test]
fn a_signal_that_was_given_back_can_be_handled_again() {
    assert_alive(
        "signals::a_signal_that_was_given_back_can_be_handled_again",
        || {
            for _ in 0..3 {
                let mut event_loop = EventLoop::new().unwrap();
                for _ in 0..2 {
                    let handle = event_loop.handle();
                    event_loop
                        .add_signal_handler(SIGTERM, move || handle.stop())
                        .unwrap();
                    raise(SIGTERM).unwrap();
                    event_loop.run_forever();
                    assert!(event_loop.remove_signal_handler(SIGTERM));
                }
                event_loop.add_signal_handler(SIGTERM, || {}).unwrap();
                event_loop.close();
            }
        },
    );
}

#[test]
fn a_handler_may_remove_itself_or_put_another_in_its_place() {
    assert_alive(
        "signals::a_handler_may_remove_itself_or_put_another_in_its_place",
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let trace = Trace::default();
            let (story, handle) = (trace.clone(), event_loop.handle());
            event_loop
                .add_signal_handler(SIGINT, move || {
                    story.note("first");
                    let (second, inner) = (story.clone(), handle.clone());
                    handle
                        .add_signal_handler(SIGINT, move || {
                            assert!(inner.remove_signal_handler(SIGINT));
                            assert!(!inner.remove_signal_handler(SIGINT));
                            second.note("second");
                            inner.stop();
                        })
                        .unwrap();
                    story.note("first is still whole");
                    handle.stop();
                })
                .unwrap();
            for _ in 0..2 {
                raise(SIGINT).unwrap();
                event_loop.run_forever();
            }
            assert_eq!(trace.take(), ["first", "first is still whole", "second"]);
        },
    );
}

#[test]
fn a_handler_that_panics_is_reported_and_called_again() {
    assert_alive(
        "signals::a_handler_that_panics_is_reported_and_called_again",
        || {
            let mut event_loop = EventLoop::new().unwrap();
            let trace = Trace::default();
            trace.reports_of(&event_loop);
            let handle = event_loop.handle();
            event_loop
                .add_signal_handler(SIGUSR1, move || {
                    handle.stop();
                    panic!("handler");
                })
                .unwrap();
            for _ in 0..2 {
                raise(SIGUSR1).unwrap();
                event_loop.run_forever();
            }
            assert_eq!(
                trace.take(),
                ["Exception in callback: panicked: handler"; 2]
            );
        },
    );
}

#[test]
fn a_closed_loop_frees_its_signal_handlers() {
    assert_alive("signals::a_closed_loop_frees_its_signal_handlers", || {
        let event_loop = EventLoop::new().unwrap();
        let freed = Rc::new(RefCell::new(0));
        for number in [SIGUSR1, SIGUSR2] {
            let handle = event_loop.handle();
            let guard = {
                let freed = Rc::clone(&freed);
                crate::support::on_drop(move || {
                    *freed.borrow_mut() += 1;
                    assert!(!handle.remove_signal_handler(number));
                    panic!("a destructor that panics");
                })
            };
            event_loop
                .add_signal_handler(number, move || {
                    let _guard = &guard;
                })
                .unwrap();
        }
        event_loop.close();
        assert_eq!(*freed.borrow(), 2);
    });
}
