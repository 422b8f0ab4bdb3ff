//! Functions that run on other threads, and the end of those who run them.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use evloop::{EventLoop, Executor, ExecutorError, get_running_loop, sleep, timeout};

use crate::exception_handler::logged;
use crate::support::on_drop;

/// What does come is waited for so long at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps every job until the test does something with it.
#[derive(Clone, Default)]
struct Collecting(Rc<RefCell<Vec<Job>>>);

type Job = Box<dyn FnOnce() + Send>;

impl Executor for Collecting {
    fn execute(&self, job: Box<dyn FnOnce() + Send>) {
        self.0.borrow_mut().push(job);
    }
}

#[track_caller]
fn run<F: Future>(test: F) -> F::Output {
    evloop::run(timeout(2 * PATIENCE, test))
        .unwrap()
        .expect("the test to end")
}

#[test]
fn a_function_runs_on_another_thread_and_its_result_comes_home() {
    run(async {
        let handle = get_running_loop().unwrap();
        let here = thread::current().id();
        let there = handle
            .run_in_executor(move || thread::current().id())
            .await
            .unwrap();
        assert_ne!(there, here);
        // What cannot be copied is moved.
        let text = "moved".to_owned();
        assert_eq!(handle.run_in_executor(move || text).await.unwrap(), "moved");
    });
}

/// The loop sleeps, with nothing else to do, until each of them is back.
#[test]
fn a_thousand_results_wake_a_sleeping_loop() {
    run(async {
        let handle = get_running_loop().unwrap();
        let all: Vec<_> = (0..1000_usize)
            .map(|i| handle.run_in_executor(move || i))
            .collect();
        for (i, one) in all.into_iter().enumerate() {
            assert_eq!(one.await.unwrap(), i);
        }
    });
}

#[test]
fn the_loop_goes_on_while_a_function_blocks() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (release, released) = mpsc::channel();
        let blocked = handle.run_in_executor(move || released.recv_timeout(PATIENCE));
        sleep(Duration::from_millis(1)).await.unwrap();
        release.send("released").unwrap();
        assert_eq!(blocked.await.unwrap(), Ok("released"));
    });
}

#[test]
fn a_panic_is_an_error_with_its_text_and_costs_no_thread() {
    run(async {
        let handle = get_running_loop().unwrap();
        for round in 0..100 {
            let outcome = handle
                .run_in_executor(move || -> () { panic!("round {round}") })
                .await;
            match outcome.unwrap_err() {
                ExecutorError::Panicked(error) => {
                    assert_eq!(error.message(), format!("round {round}"));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(handle.run_in_executor(|| 1).await.unwrap(), 1);
        let error = handle.run_in_executor(|| panic!("text")).await.unwrap_err();
        assert_eq!(
            io::Error::from(error).to_string(),
            "the function panicked: text"
        );
    });
}

#[test]
fn a_function_that_nobody_waits_for_any_more_never_begins() {
    run(async {
        let handle = get_running_loop().unwrap();
        let jobs = Collecting::default();
        handle.set_default_executor(jobs.clone());
        let calls = Arc::new(AtomicUsize::new(0));
        let count = || {
            let calls = Arc::clone(&calls);
            move || calls.fetch_add(1, Ordering::SeqCst)
        };
        let dropped = handle.run_in_executor(count());
        let kept = handle.run_in_executor(count());
        drop(dropped);
        for job in jobs.0.take() {
            job();
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!(kept.await.unwrap(), 0);
    });
}

#[test]
fn a_job_whose_unwanted_result_panics_when_it_is_dropped_does_not() {
    run(async {
        let handle = get_running_loop().unwrap();
        let jobs = Collecting::default();
        handle.set_default_executor(jobs.clone());
        let (began, goes_on) = (mpsc::channel(), mpsc::channel());
        let unwanted = handle.run_in_executor(move || {
            began.0.send(()).unwrap();
            let _ = goes_on.1.recv_timeout(PATIENCE);
            on_drop(|| panic!("expected by this test"))
        });
        let job = jobs.0.take().remove(0);
        let worker = thread::spawn(job);
        began.1.recv_timeout(PATIENCE).unwrap();
        drop(unwanted);
        goes_on.0.send(()).unwrap();
        worker.join().expect("the job does not panic");
    });
}

/// One that runs is not stopped, and its result goes where nobody is harmed.
#[test]
fn a_result_that_comes_after_the_loop_s_end_is_dropped_on_its_thread() {
    let mut event_loop = EventLoop::new().unwrap();
    let (release, released) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let (note, dropped_by) = mpsc::channel();
    let handle = event_loop.handle();
    let waiting = event_loop.create_task(async move {
        let result = handle.run_in_executor(move || {
            begin.send(thread::current().id()).unwrap();
            let _ = released.recv_timeout(PATIENCE);
            on_drop(move || note.send(thread::current().id()).unwrap())
        });
        drop(result.await);
    });
    event_loop
        .run_until_complete(sleep(Duration::ZERO))
        .unwrap();
    let there = begun.recv_timeout(PATIENCE).unwrap();
    // The end waits for nothing: the function is still held.
    event_loop.close();
    assert!(waiting.done());
    release.send(()).unwrap();
    assert_eq!(dropped_by.recv_timeout(PATIENCE).unwrap(), there);
}

#[test]
fn what_has_not_begun_when_the_loop_ends_is_dropped_with_it() {
    let event_loop = EventLoop::new().unwrap();
    let (begin, begun) = mpsc::channel();
    // More than there are threads, so that the last ones wait in the queue.
    let releases: Vec<mpsc::Sender<()>> = (0..40)
        .map(|i| {
            let (release, released) = mpsc::channel();
            let begin = begin.clone();
            // The future is kept out of the way: dropping it would take the function back.
            let future = event_loop.run_in_executor(move || {
                begin.send(i).unwrap();
                let _ = released.recv_timeout(PATIENCE);
            });
            event_loop.call_later(PATIENCE, move || drop(future));
            release
        })
        .collect();
    drop(begin);
    begun.recv_timeout(PATIENCE).unwrap();
    drop(event_loop);
    drop(releases);
    // Ends when every function has run or was dropped; and some did not run.
    let mut ran = 1;
    loop {
        match begun.recv_timeout(PATIENCE) {
            Ok(_) => ran += 1,
            Err(error) => {
                assert_eq!(error, mpsc::RecvTimeoutError::Disconnected);
                break;
            }
        }
    }
    assert!(ran <= 36, "{ran} ran");
}

#[test]
fn a_function_that_panics_as_the_loop_s_end_drops_it_is_logged_and_the_rest_is_dropped() {
    let event_loop = EventLoop::new().unwrap();
    logged();
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    // More than there are threads.
    let mut futures: Vec<_> = (0..40)
        .map(|_| {
            let released = Arc::clone(&released);
            event_loop.run_in_executor(move || {
                let _ = released.lock().unwrap().recv_timeout(PATIENCE);
            })
        })
        .collect();
    let last = on_drop(|| panic!("at last"));
    futures.push(event_loop.run_in_executor(move || drop(last)));
    let (dropped, behind) = mpsc::channel();
    let here = thread::current().id();
    let rest = on_drop(move || dropped.send(thread::current().id()).unwrap());
    futures.push(event_loop.run_in_executor(move || drop(rest)));
    drop(event_loop);
    assert_eq!(logged(), ["Exception in a destructor: panicked: at last"]);
    assert_eq!(behind.try_recv(), Ok(here));
    drop((release, futures));
}

#[test]
fn an_executor_of_one_s_own_is_used_reported_and_dropped() {
    struct Refusing(#[allow(dead_code, reason = "it is there to be dropped")] Rc<()>);

    impl Executor for Refusing {
        fn execute(&self, job: Box<dyn FnOnce() + Send>) {
            drop(job);
        }
    }

    let held = Rc::new(());
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.set_default_executor(Refusing(Rc::clone(&held)));
    let refused = event_loop.run_in_executor(|| ());
    let outcome = event_loop.run_until_complete(refused);
    assert!(
        matches!(outcome, Err(ExecutorError::Dropped)),
        "{outcome:?}"
    );
    assert_eq!(Rc::strong_count(&held), 2);
    drop(event_loop);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_shutdown_waits_for_everything_and_refuses_what_comes_later() {
    run(async {
        let handle = get_running_loop().unwrap();
        let (release, released) = mpsc::channel();
        let first = handle.run_in_executor(move || released.recv_timeout(PATIENCE));
        let second = handle.run_in_executor(|| 2);
        let ending = handle.clone();
        let ended = handle.create_task(async move { ending.shutdown_default_executor(None).await });
        assert_eq!(second.await.unwrap(), 2);
        assert!(!ended.done());
        release.send(1).unwrap();
        ended.await.unwrap().unwrap();
        assert_eq!(first.await.unwrap(), Ok(1));
        let late = handle.run_in_executor(|| 3).await.unwrap_err();
        assert!(matches!(late, ExecutorError::Shutdown));
        assert_eq!(late.to_string(), "Executor shutdown has been called");
        // Names are looked up there, too.
        let error = handle.getaddrinfo("localhost", 80).await.unwrap_err();
        assert_eq!(error.to_string(), "Executor shutdown has been called");
        // Once more is no mistake.
        handle.shutdown_default_executor(None).await.unwrap();
    });
}

#[test]
fn a_shutdown_with_a_limit_says_how_much_is_not_done() {
    run(async {
        let handle = get_running_loop().unwrap();
        let jobs = Collecting::default();
        handle.set_default_executor(jobs.clone());
        let stuck = [handle.run_in_executor(|| 1), handle.run_in_executor(|| 2)];
        let outcome = handle
            .shutdown_default_executor(Some(Duration::from_millis(1)))
            .await;
        match outcome.unwrap_err() {
            ExecutorError::StillBusy { jobs } => assert_eq!(jobs, 2),
            other => panic!("{other:?}"),
        }
        for job in jobs.0.take() {
            job();
        }
        handle
            .shutdown_default_executor(Some(PATIENCE))
            .await
            .unwrap();
        for (i, one) in stuck.into_iter().enumerate() {
            assert_eq!(one.await.unwrap(), i + 1);
        }
    });
}

#[test]
fn outside_its_loop_and_after_its_end_there_is_an_error() {
    let event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle();
    let outcome = run(event_loop.run_in_executor(|| ()));
    assert!(
        matches!(outcome, Err(ExecutorError::NoRunningLoop)),
        "{outcome:?}"
    );
    event_loop.close();
    let outcome = futures::executor::block_on(handle.run_in_executor(|| ()));
    assert!(
        matches!(outcome, Err(ExecutorError::NoRunningLoop)),
        "{outcome:?}"
    );
    handle.set_default_executor(Collecting::default());
}

#[test]
fn a_loop_goes_back_to_its_own_pool_and_leaves_the_other_executor_what_it_has() {
    run(async {
        let handle = get_running_loop().unwrap();
        let jobs = Collecting::default();
        handle.set_default_executor(jobs.clone());
        let earlier = handle.run_in_executor(|| "there");
        handle.clear_default_executor();
        assert_eq!(handle.run_in_executor(|| "here").await.unwrap(), "here");
        let [job] = <[_; 1]>::try_from(jobs.0.take()).ok().expect("one job");
        job();
        assert_eq!(earlier.await.unwrap(), "there");
    });
}

/// While the loop ends its tasks are dropped, and so is what they ask for then.
#[test]
fn what_is_asked_for_while_the_loop_ends_is_refused() {
    let mut event_loop = EventLoop::new().unwrap();
    let handle = event_loop.handle();
    let jobs = Collecting::default();
    event_loop.set_default_executor(jobs.clone());
    let late = on_drop(move || drop(handle.run_in_executor(|| ())));
    let _asking = event_loop.create_task(async move {
        std::future::pending::<()>().await;
        drop(late);
    });
    event_loop
        .run_until_complete(sleep(Duration::ZERO))
        .unwrap();
    drop(event_loop);
    assert_eq!(jobs.0.borrow().len(), 0);
}
