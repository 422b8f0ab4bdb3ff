//! Every program that measures without sockets, through each of its measures with few operations.
//!
//! A measure that hangs or panics would be found half an hour into a run. What cannot run here (no
//! uvloop, io_uring not permitted) says `skipped` and passes; with `EVLOOP_PEERS=required` in the
//! environment it fails instead, but for io_uring, which no package brings.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, Output};

use evloop_benches::foreign;
use evloop_benches::task_program::NO_SUCH_MEASURE;

/// All of README.md's table.
const MEASURES: [&str; 9] = [
    "spawn_await",
    "spawn_batch",
    "yield",
    "call_soon",
    "timer",
    "timer_call_later",
    "timer_10000",
    "sleeps",
    "cross_thread",
];

/// A few batches and bursts, after a warm-up with a tenth of it.
const OPERATIONS: &str = "20000";

/// The status of a program that was asked for something it cannot do here.
const CANNOT: i32 = 2;

fn run(program: &[&Path], arguments: &[&str], measure: &str) -> Output {
    // A program that hangs is killed, and fails the test.
    Command::new("timeout")
        .args(["--signal", "KILL", "60"])
        .args(program)
        .args(arguments)
        .args(["--measure", measure, "--operations", OPERATIONS])
        .output()
        .expect("timeout (Debian package coreutils)")
}

/// Each measure prints a figure, but for those that this runtime is known not to have.
fn has_all_but(missing: &[&str], program: &[&Path], arguments: &[&str]) {
    for measure in MEASURES {
        let output = run(program, arguments, measure);
        let said = String::from_utf8_lossy(&output.stdout);
        let words = String::from_utf8_lossy(&output.stderr);
        if missing.contains(&measure) {
            let code = output.status.code();
            assert_eq!(code, Some(NO_SUCH_MEASURE), "{measure}: {said}{words}");
            continue;
        }
        if arguments.contains(&"uring") && output.status.code() == Some(CANNOT) {
            println!("skipped: {words}");
            return;
        }
        assert!(
            output.status.success(),
            "{measure}: {}: {words}",
            output.status
        );
        let figure: f64 = said.trim().parse().expect(measure);
        assert!(figure > 0.0 && figure.is_finite(), "{measure}: {figure}");
    }
}

#[test]
fn evloop() {
    has_all_but(&[], &[Path::new(env!("CARGO_BIN_EXE_tasks_evloop"))], &[]);
}

#[test]
fn tokio() {
    let program = [Path::new(env!("CARGO_BIN_EXE_tasks_tokio"))];
    for variant in ["local", "spawn"] {
        has_all_but(&["timer_call_later"], &program, &["--variant", variant]);
    }
}

#[test]
fn smol() {
    let program = [Path::new(env!("CARGO_BIN_EXE_tasks_smol"))];
    has_all_but(&["timer_call_later"], &program, &[]);
}

#[test]
fn monoio() {
    let program = [Path::new(env!("CARGO_BIN_EXE_tasks_monoio"))];
    for variant in ["epoll", "uring"] {
        has_all_but(&["timer_call_later"], &program, &["--variant", variant]);
    }
}

#[test]
fn a_variant_that_nobody_has_is_refused() {
    for program in [
        env!("CARGO_BIN_EXE_tasks_tokio"),
        env!("CARGO_BIN_EXE_tasks_monoio"),
    ] {
        let output = run(&[Path::new(program)], &["--variant", "kqueue"], "yield");
        assert_eq!(output.status.code(), Some(CANNOT), "{program}");
    }
}

#[cfg(feature = "glommio")]
#[test]
fn glommio() {
    let program = [Path::new(env!("CARGO_BIN_EXE_tasks_glommio"))];
    if run(&program, &[], "yield").status.success() {
        has_all_but(&["call_soon", "timer_call_later"], &program, &[]);
    } else {
        println!("skipped: glommio needs io_uring and memory that it may lock");
    }
}

/// In Python `timer` is `call_later` and `cancel` already.
fn python(interpreter: &Path, runtime: &str) {
    let script = foreign::source("python/tasks.py");
    let arguments = ["--runtime", runtime];
    has_all_but(&["timer_call_later"], &[interpreter, &script], &arguments);
}

#[test]
fn asyncio() {
    python(&foreign::python(), "asyncio");
}

#[test]
fn uvloop() {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    match foreign::python_with_uvloop(scratch) {
        Ok(interpreter) => python(&interpreter, "uvloop"),
        Err(reason) => {
            println!("skipped: {reason}");
            let required = std::env::var("EVLOOP_PEERS").is_ok_and(|value| value == "required");
            assert!(!required, "{reason}");
        }
    }
}
