//! Tests at whose end nobody has complained.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use evloop::get_running_loop;

use crate::common::run;

/// Runs a test of which the exception handler hears nothing.
#[track_caller]
pub(crate) fn run_quietly<F: Future>(test: F) -> F::Output {
    let complaints = Rc::<RefCell<Vec<String>>>::default();
    let heard = Rc::clone(&complaints);
    let output = run(async move {
        let handle = get_running_loop().unwrap();
        handle.set_exception_handler(move |_, context| {
            let error = context.exception().map(ToString::to_string);
            let complaint = format!("{}: {error:?}", context.message());
            heard.borrow_mut().push(complaint);
        });
        test.await
    });
    assert_eq!(*complaints.borrow(), [""; 0]);
    output
}
