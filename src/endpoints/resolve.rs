//! From hosts to addresses, without making the loop's thread wait.
//!
//! Owns: [`resolve`]. Why: the system's resolver blocks, so the driver asks it on another thread.
//! Invariants: a literal never touches a thread; an answer that comes when nobody waits any more
//! is dropped. asyncio's counterpart: `_ensure_resolved`.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use crate::endpoints::error::EndpointError;
use crate::event_loop::{LoopHandle, running};
use crate::sys::Query;

/// The addresses of a name: at least one. The outer error is the loop's, the inner one the name's.
pub(crate) async fn resolve(
    handle: &LoopHandle,
    host: &str,
    port: u16,
) -> io::Result<Result<Vec<SocketAddr>, EndpointError>> {
    let answer = Arc::new(Mutex::new(Answer::default()));
    let reply = Arc::clone(&answer);
    let query = Query {
        host: host.to_owned(),
        port,
    };
    let done = Box::new(move |found| {
        let waker = {
            let mut answer = reply.lock().unwrap_or_else(PoisonError::into_inner);
            answer.found = Some(found);
            answer.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    });
    handle.driver(|driver| {
        driver.resolve(query, done);
        Ok(())
    })?;
    let found = poll_fn(|cx| {
        running::poll_leaf(handle.number(), cx, |cx| {
            let waker = cx.waker().clone();
            let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
            match answer.found.take() {
                Some(found) => Poll::Ready(found),
                None => {
                    let old = answer.waker.replace(waker);
                    drop(answer);
                    drop(old);
                    Poll::Pending
                }
            }
        })
    })
    .await?;
    Ok(match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unresolved(host, io::ErrorKind::NotFound.into())),
        Err(error) => Err(unresolved(host, error)),
    })
}

fn unresolved(host: &str, source: io::Error) -> EndpointError {
    let host = host.to_owned();
    EndpointError::Resolve { host, source }
}

#[derive(Default)]
struct Answer {
    found: Option<io::Result<Vec<SocketAddr>>>,
    waker: Option<Waker>,
}
