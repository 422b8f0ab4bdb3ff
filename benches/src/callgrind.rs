//! Reads what callgrind wrote: how many instructions there were, and how often memory was asked
//! for.

use std::collections::HashMap;
use std::io;

/// The functions by which a program asks the system's allocator for memory.
const ALLOCATORS: [&str; 6] = [
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
];

/// Totals of one process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Totals {
    pub instructions: u64,
    pub allocations: u64,
}

/// Reads a callgrind output file.
///
/// A function's name stands at its first mention only, `cfn=(7) malloc`; later it is `cfn=(7)`. A
/// call is a `cfn` line, perhaps with others that say where the callee lives, and then a line
/// `calls=COUNT POSITION`.
pub fn read(output: &str) -> io::Result<Totals> {
    let mut names = HashMap::new();
    let mut callee = "";
    let mut instructions = None;
    let mut allocations = 0;
    for line in output.lines() {
        if let Some(function) = line.strip_prefix("cfn=") {
            callee = resolve(&mut names, function);
        } else if let Some(function) = line.strip_prefix("fn=") {
            resolve(&mut names, function);
        } else if let Some(calls) = line.strip_prefix("calls=") {
            if ALLOCATORS.contains(&callee) {
                let count = calls.split(' ').next().unwrap_or_default();
                allocations += count.parse::<u64>().map_err(io::Error::other)?;
            }
        } else if let Some(total) = line.strip_prefix("totals: ") {
            instructions = total.trim().parse().ok();
        }
    }
    Ok(Totals {
        instructions: instructions.ok_or_else(|| io::Error::other("callgrind wrote no totals"))?,
        allocations,
    })
}

/// The name of a function that is given as `(number) name` or as `(number)`.
fn resolve<'a>(names: &mut HashMap<&'a str, &'a str>, function: &'a str) -> &'a str {
    match function.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(function).copied().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_allocators_are_added_up() {
        let output = "fn=(1) main\n5 3\ncob=(2) libc\ncfn=(7) malloc\ncalls=3 0\n5 9\n\
                      cfn=(8) free\ncalls=2 0\n5 4\nfn=(9) other\ncfn=(7)\ncalls=1 0\n1 1\n\
                      totals: 17\n";
        let profile = read(output).unwrap();
        assert_eq!(
            profile,
            Totals {
                instructions: 17,
                allocations: 4,
            }
        );
        assert!(read("fn=(1) main\n").is_err());
    }
}
