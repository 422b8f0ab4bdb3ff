//! Certificates for TLS: those of the tests, and what the README says about making one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One of the files that `tests/certs/make.sh` has made.
pub(crate) fn cert(name: &str) -> PathBuf {
    let path = [env!("CARGO_MANIFEST_DIR"), "tests", "certs", name];
    path.iter().collect()
}

/// Runs the README's command that makes `cert.pem` and `key.pem`, in this folder.
#[track_caller]
pub(crate) fn make_as_the_readme_says(folder: &Path) {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("the README");
    let mut lines = readme.lines();
    let start = "openssl req -x509 ";
    let first = lines.find(|line| line.starts_with(start)).expect(start);
    // A command goes on behind a backslash.
    let mut command = first.to_owned();
    while let Some(begun) = command.strip_suffix('\\') {
        command = begun.to_owned() + lines.next().expect("the rest of the command");
    }
    let status = Command::new("sh")
        .args(["-c", &command])
        .current_dir(folder)
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("a shell").success(), "{command}");
}
