//! How many descriptors the process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit in force to the one that the administrator has set: each connection is a
/// descriptor, and the usual limit is there for programs that keep them in a bit set.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let (now, asked) = (number(limit.current), number(limit.maximum));
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => log::debug!("descriptors: {asked} instead of {now}"),
        Err(error) => log::warn!("descriptors: {now} and not {asked}: {error}"),
    }
}

fn number(limit: Option<u64>) -> String {
    limit.map_or_else(|| "any number".to_owned(), |limit| limit.to_string())
}
