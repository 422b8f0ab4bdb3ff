//! Who is compared, as data.

use evloop_benches::contract::Transport;

use crate::cells::{LARGEST_BUFFER, Shape};

/// A row or column of the tables, and how its server is started.
#[derive(Clone, Copy, Debug)]
pub struct Participant {
    /// As it is shown, and as `--only` takes it.
    pub name: &'static str,
    pub program: Program,
    /// Arguments besides `--work` and `--buffer`.
    pub arguments: &'static [&'static str],
    pub takes: Takes,
}

/// Where the server program comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    /// One of this package's, built by cargo.
    Cargo(&'static str),
    /// The same, behind a feature of its own: others are built where it cannot be.
    Feature(&'static str, &'static str),
    /// C, built by `cc` where libuv's headers are.
    Libuv,
    /// Python with nothing but its standard library.
    Asyncio,
    /// Python with uvloop, from a scratch environment.
    Uvloop,
}

impl Program {
    pub fn is_python(self) -> bool {
        matches!(self, Self::Asyncio | Self::Uvloop)
    }
}

/// What a participant takes part in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Takes {
    Everything,
    /// The line cells, with the write buffer that its users add by hand.
    LinesBuffered,
    /// Counts of echoes: an API that is shown in no table of times.
    CountsOfEcho,
    /// The cells over TLS only.
    Tls,
}

impl Participant {
    /// The server's `--work` for cells of this shape; `None` when it takes no part.
    pub fn work(&self, listen: Transport, shape: Shape) -> Option<&'static str> {
        if listen == Transport::Tls {
            return self.has_tls().then(|| shape.work());
        }
        match (self.takes, shape) {
            (Takes::Everything, _) => Some(shape.work()),
            (Takes::LinesBuffered, Shape::Lines) => Some("lines-buffered"),
            (Takes::CountsOfEcho, Shape::Echo { .. }) => Some("echo"),
            _ => None,
        }
    }

    /// Whether it takes part in the cells over TLS.
    pub fn has_tls(&self) -> bool {
        self.takes == Takes::Tls || self.is_profiled()
    }

    /// The server's `--buffer` for cells of this shape. One that serves a whole loop is as large as
    /// ours; one of each connection holds what is in flight there.
    pub fn buffer(&self, shape: Shape) -> usize {
        match self.program {
            Program::Libuv | Program::Cargo("serve_bare" | "serve_mio") => LARGEST_BUFFER,
            _ => shape.buffer(),
        }
    }

    /// Whether `--only` names it. Nobody named is everybody.
    pub fn is_among(&self, only: &[String]) -> bool {
        let first_word = self.name.split(' ').next();
        only.is_empty()
            || only
                .iter()
                .any(|wanted| wanted == self.name || Some(wanted.as_str()) == first_word)
    }

    /// Whether it puts a buffer by hand around the runtime's writer.
    pub fn is_buffered(name: &str) -> bool {
        let known = ALL.iter().find(|one| one.name == name);
        known.is_some_and(|one| one.takes == Takes::LinesBuffered)
    }

    /// Whether the profile shows it: our own two interfaces.
    pub fn is_profiled(&self) -> bool {
        self.program == Program::Cargo("serve_evloop") && self.takes == Takes::Everything
    }

    /// valgrind knows no io_uring.
    pub fn runs_under_valgrind(&self) -> bool {
        !self.arguments.contains(&"uring")
    }

    pub fn is_python(&self) -> bool {
        self.program.is_python()
    }
}

const fn everywhere(
    name: &'static str,
    program: Program,
    arguments: &'static [&'static str],
) -> Participant {
    Participant {
        name,
        program,
        arguments,
        takes: Takes::Everything,
    }
}

/// The one by which the others are divided comes first.
pub const ALL: [Participant; 16] = [
    everywhere("bare", Program::Cargo("serve_bare"), &[]),
    everywhere("mio", Program::Cargo("serve_mio"), &[]),
    everywhere(
        "evloop protocol",
        Program::Cargo("serve_evloop"),
        &["--api", "protocol"],
    ),
    everywhere(
        "evloop streams",
        Program::Cargo("serve_evloop"),
        &["--api", "streams"],
    ),
    Participant {
        name: "evloop read_into",
        program: Program::Cargo("serve_evloop"),
        arguments: &["--api", "streams-into"],
        takes: Takes::CountsOfEcho,
    },
    everywhere("tokio", Program::Cargo("serve_tokio"), &[]),
    Participant {
        name: "tokio buffered",
        program: Program::Cargo("serve_tokio"),
        arguments: &[],
        takes: Takes::LinesBuffered,
    },
    Participant {
        name: "tokio-rustls",
        program: Program::Cargo("serve_tokio_rustls"),
        arguments: &[],
        takes: Takes::Tls,
    },
    everywhere("smol", Program::Cargo("serve_smol"), &[]),
    everywhere(
        "monoio uring",
        Program::Cargo("serve_monoio"),
        &["--driver", "uring"],
    ),
    everywhere(
        "monoio epoll",
        Program::Cargo("serve_monoio"),
        &["--driver", "epoll"],
    ),
    everywhere("libuv", Program::Libuv, &[]),
    everywhere(
        "asyncio protocol",
        Program::Asyncio,
        &["--runtime", "asyncio", "--api", "protocol"],
    ),
    everywhere(
        "asyncio streams",
        Program::Asyncio,
        &["--runtime", "asyncio", "--api", "streams"],
    ),
    everywhere(
        "uvloop protocol",
        Program::Uvloop,
        &["--runtime", "uvloop", "--api", "protocol"],
    ),
    everywhere(
        "uvloop streams",
        Program::Uvloop,
        &["--runtime", "uvloop", "--api", "streams"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_word_names_all_of_its_kind() {
        let among = |only: &[&str]| {
            let only: Vec<_> = only.iter().map(|name| (*name).to_owned()).collect();
            ALL.iter().filter(|one| one.is_among(&only)).count()
        };
        assert_eq!(among(&[]), ALL.len());
        assert_eq!(among(&["bare", "evloop"]), 4);
        assert_eq!(among(&["evloop protocol"]), 1);
    }
}
