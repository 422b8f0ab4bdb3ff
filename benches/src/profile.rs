//! Where the instructions of an echo are: what callgrind saw at each address, told by the file of
//! the source that the address belongs to.
//!
//! The compiler inlines nearly everything into a few functions, so a function's name says little.
//! The debugging information knows for each address which calls were inlined there; the innermost
//! one that is not the standard library's is taken: a `Vec` that grows is work of whoever pushes.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fs;
use std::path::Path;

use addr2line::Loader;
use evloop_benches::foreign;

/// A floor of the library, or what else it is; and the file or function in it.
pub type Place = (String, String);

/// Instructions by place.
pub type Places = BTreeMap<Place, u64>;

const STANDARD: &str = "standard library";

/// Reads what callgrind wrote with `--dump-instr=yes --compress-strings=no --compress-pos=no`.
pub fn read(output: &str, program: &Path) -> Result<Places, Box<dyn Error>> {
    let program = fs::canonicalize(program)?;
    let repository = fs::canonicalize(foreign::source(".."))?;
    let sources = Sources {
        loader: Loader::new(&program).map_err(|error| error.to_string())?,
        repository: repository.display().to_string(),
    };
    let mut known = HashMap::new();
    let mut places = Places::new();
    for cost in costs(output)? {
        let place = if Path::new(cost.object) == program {
            known
                .entry(cost.address)
                .or_insert_with(|| sources.place(cost.address))
                .clone()
        } else {
            elsewhere(cost.object, cost.function)
        };
        *places.entry(place).or_default() += cost.instructions;
    }
    Ok(places)
}

/// Instructions at an address.
#[derive(Debug, PartialEq, Eq)]
struct Cost<'a> {
    object: &'a str,
    function: &'a str,
    address: u64,
    instructions: u64,
}

/// What was spent at each address itself, not in what was called from there.
///
/// A line of costs is `0xADDRESS LINE COUNT`. The one after `calls=` is what the call cost.
fn costs(output: &str) -> Result<Vec<Cost<'_>>, Box<dyn Error>> {
    let (mut object, mut function) = ("", "");
    let mut of_a_call = false;
    let mut costs = Vec::new();
    for line in output.lines() {
        if let Some(name) = line.strip_prefix("ob=") {
            object = name;
        } else if let Some(name) = line.strip_prefix("fn=") {
            function = name;
        } else if line.starts_with("calls=") {
            of_a_call = true;
        } else if let Some(figures) = line.strip_prefix("0x") {
            if std::mem::take(&mut of_a_call) {
                continue;
            }
            let mut figures = figures.split(' ');
            let (address, _, instructions) = (figures.next(), figures.next(), figures.next());
            costs.push(Cost {
                object,
                function,
                address: u64::from_str_radix(address.unwrap_or_default(), 16)?,
                instructions: instructions.unwrap_or_default().parse()?,
            });
        }
    }
    Ok(costs)
}

struct Sources {
    loader: Loader,
    /// Where the library's own files are.
    repository: String,
}

impl Sources {
    /// The place of the innermost call that is not the standard library's.
    fn place(&self, address: u64) -> Place {
        let Ok(mut frames) = self.loader.find_frames(address) else {
            return unknown();
        };
        let mut place = unknown();
        while let Ok(Some(frame)) = frames.next() {
            let Some(file) = frame.location.and_then(|location| location.file) else {
                continue;
            };
            place = place_of(file, &self.repository);
            if place.0 != STANDARD {
                break;
            }
        }
        place
    }
}

fn unknown() -> Place {
    ("without a line".to_owned(), String::new())
}

/// The place of a file of the source.
fn place_of(file: &str, repository: &str) -> Place {
    let own = file
        .strip_prefix(repository)
        .map(|file| file.trim_start_matches('/'));
    if let Some(path) = own.and_then(|own| own.strip_prefix("src/")) {
        let floor = path.split_once('/').map_or("lib", |(floor, _)| floor);
        return (floor.to_owned(), format!("src/{path}"));
    }
    if own.is_some_and(|own| own.starts_with("benches/")) {
        return ("the server's own code".to_owned(), String::new());
    }
    match file.split_once("/registry/src/") {
        Some((_, path)) => {
            let name = path.split('/').nth(1).unwrap_or_default();
            (format!("crate {}", without_version(name)), String::new())
        }
        None => (STANDARD.to_owned(), String::new()),
    }
}

/// `mio` of `mio-1.2.5`.
fn without_version(name: &str) -> &str {
    let version = name
        .rfind("-")
        .filter(|at| name[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    version.map_or(name, |at| &name[..at])
}

/// What another object's function is called in the table: `libc.so.6` and `memcpy`, whichever of
/// its variants the processor chose.
fn elsewhere(object: &str, function: &str) -> Place {
    let object = Path::new(object)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let object = match object.split('.').next().unwrap_or_default() {
        "libc" => "libc",
        "ld-linux-x86-64" | "ld-linux-aarch64" => "dynamic linker",
        _ => &object,
    };
    let function = function.trim_start_matches('_');
    let variant = ["_avx", "_sse", "_evex", "_erms", "_generic"]
        .iter()
        .filter_map(|mark| function.find(mark))
        .min();
    let function = &function[..variant.unwrap_or(function.len())];
    let function = function.trim_end_matches("_unaligned");
    let function = function.split('@').next().unwrap_or_default();
    (object.to_owned(), function.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_cost_is_not_the_callers() {
        let output = "ob=/bin/server\nfl=a.rs\nfn=main\n0x1f 12 3\ncfn=read\ncalls=2 0x40 0\n\
                      0x20 13 500\n0x24 13 1\nob=/lib/libc.so.6\nfn=recv\n0x40 0 500\n";
        let costs = costs(output).unwrap();
        let seen: Vec<_> = costs
            .iter()
            .map(|cost| (cost.function, cost.address, cost.instructions))
            .collect();
        assert_eq!(
            seen,
            [("main", 0x1f, 3), ("main", 0x24, 1), ("recv", 0x40, 500)]
        );
        assert_eq!(costs[2].object, "/lib/libc.so.6");
    }

    #[test]
    fn a_file_says_whose_code_it_is() {
        let place = |file| place_of(file, "/home/evloop");
        let floor = |file| place(file).0;
        assert_eq!(
            place("/home/evloop/src/streams/state.rs"),
            ("streams".to_owned(), "src/streams/state.rs".to_owned())
        );
        assert_eq!(floor("/home/evloop/src/lib.rs"), "lib");
        assert_eq!(
            floor("/home/evloop/benches/src/bin/serve_evloop.rs"),
            "the server's own code"
        );
        assert_eq!(
            floor("/x/registry/src/index.crates.io-1949/mio-1.2.5/src/poll.rs"),
            "crate mio"
        );
        assert_eq!(floor("/rustc/5980/library/core/src/cell.rs"), STANDARD);
    }

    #[test]
    fn a_function_of_the_system_has_its_plain_name() {
        let name = |function| elsewhere("/lib/x86_64-linux-gnu/libc.so.6", function);
        let libc = |function: &str| ("libc".to_owned(), function.to_owned());
        assert_eq!(name("__memcpy_avx_unaligned_erms"), libc("memcpy"));
        assert_eq!(name("__memmove_evex_unaligned_erms"), libc("memmove"));
        assert_eq!(name("recv"), libc("recv"));
        assert_eq!(name("malloc"), libc("malloc"));
    }
}
