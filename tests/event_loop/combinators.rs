//! Our futures under the combinators of the `futures` crate.

use std::time::Duration;

use evloop::{EventLoop, get_running_loop, sleep};
use futures::future::{Either, join_all, select};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, join, pin_mut, select, select_biased};

use crate::support::{deadline, stream_pair};

#[test]
fn select_takes_what_is_ready_first() {
    let _deadline = deadline();
    EventLoop::new().unwrap().run_until_complete(async {
        let [(mut reader, _writer), (_far_reader, far_writer)] = stream_pair().await;
        {
            let line = reader.readline().fuse();
            let limit = sleep(Duration::from_millis(5)).fuse();
            pin_mut!(line, limit);
            select! {
                line = line => panic!("nothing was sent, and there is {line:?}"),
                slept = limit => slept.unwrap(),
            }
        }
        // The read that lost has taken nothing.
        far_writer.write(b"hello\n");
        let line = reader.readline().fuse();
        let limit = sleep(Duration::from_secs(30)).fuse();
        pin_mut!(line, limit);
        select_biased! {
            _ = limit => panic!("the line never came"),
            line = line => assert_eq!(line.unwrap(), b"hello\n"),
        }
    });
}

#[test]
fn the_loser_of_a_select_can_be_awaited_again() {
    let _deadline = deadline();
    EventLoop::new().unwrap().run_until_complete(async {
        let handle = get_running_loop().unwrap();
        let waiter = handle.create_future();
        let task = handle.create_task(waiter.clone());
        let tick = Box::pin(sleep(Duration::from_millis(1)));
        let task = match select(task, tick).await {
            Either::Left(_) => panic!("nobody has set it"),
            Either::Right((slept, task)) => {
                slept.unwrap();
                task
            }
        };
        waiter.set_result(7).unwrap();
        assert_eq!(task.await, Ok(Ok(7)));
    });
}

#[test]
fn join_drives_both_directions_of_two_streams() {
    let _deadline = deadline();
    EventLoop::new().unwrap().run_until_complete(async {
        let [(mut reader, writer), (mut far_reader, far_writer)] = stream_pair().await;
        let big = vec![7; 3 << 20];
        let there = async {
            writer.write(&big);
            writer.drain().await.unwrap();
            writer.write_eof().unwrap();
        };
        let back = async {
            loop {
                let data = far_reader.read(64 * 1024).await.unwrap();
                if data.is_empty() {
                    break far_writer.write_eof().unwrap();
                }
                far_writer.write(&data);
                far_writer.drain().await.unwrap();
            }
        };
        let ((), (), echoed) = join!(there, back, reader.read_to_end(None));
        assert!(echoed.unwrap() == big, "the bytes came back as they were");
    });
}

#[test]
fn futures_unordered_yields_in_the_order_of_completion() {
    let _deadline = deadline();
    let mut event_loop = EventLoop::new().unwrap();
    let base = event_loop.time();
    let order = event_loop.run_until_complete(async {
        let mut all: FuturesUnordered<_> = [30, 10, 20]
            .into_iter()
            .map(|millis| async move {
                evloop::sleep_until(base + Duration::from_millis(millis))
                    .await
                    .unwrap();
                millis
            })
            .collect();
        let mut order = Vec::new();
        while let Some(millis) = all.next().await {
            order.push(millis);
        }
        order
    });
    assert_eq!(order, [10, 20, 30]);
}

/// More of them than one step may complete, all ready at once.
#[test]
fn a_thousand_tasks_are_joined() {
    let _deadline = deadline();
    EventLoop::new().unwrap().run_until_complete(async {
        let handle = get_running_loop().unwrap();
        let tasks = (0..1000).map(|n| {
            handle.create_task(async move {
                sleep(Duration::ZERO).await.unwrap();
                n
            })
        });
        let results = join_all(tasks).await;
        let results: Vec<_> = results.into_iter().map(Result::unwrap).collect();
        assert!(results.iter().copied().eq(0..1000));

        let mut unordered: FuturesUnordered<_> = (0..1000)
            .map(|n| handle.create_task(async move { n }))
            .collect();
        let mut sum = 0;
        while let Some(n) = unordered.next().await {
            sum += n.unwrap();
        }
        assert_eq!(sum, 499_500);
    });
}
