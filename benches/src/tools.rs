//! Programs of the system that are started here, and where Debian has them.

use std::process::{Command, Stdio};

/// A sentence where a tool is not there, the same one wherever it is missed.
pub fn find(tool: &str) -> Result<(), String> {
    let found = Command::new(tool)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_ok_and(|status| status.success()) {
        Ok(())
    } else {
        Err(format!(
            "{tool} is not there (Debian package {})",
            package(tool)
        ))
    }
}

fn package(tool: &str) -> &str {
    match tool {
        "cc" => "gcc",
        "chrt" | "setpriv" | "taskset" => "util-linux",
        "timeout" => "coreutils",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        assert_eq!(find("cargo"), Ok(()));
        assert_eq!(
            find("no-such-tool"),
            Err("no-such-tool is not there (Debian package no-such-tool)".to_owned())
        );
        assert_eq!(package("setpriv"), "util-linux");
    }
}
