//! The rules of the house that a text search can check, over every file of `src/`.
//!
//! The sources are read as tokens, without comments, strings and test modules. Each rule is shown
//! to bite on a small bad file first, so that it can fail, and is then held against the crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Bottom to top. What stands on one line does not know its neighbour.
const FLOORS: &[&[&str]] = &[
    &["sansio"],
    &["sys"],
    &["event_loop"],
    &["tasks", "transports"],
    &["proxy", "tls", "without_proxy", "without_tls"],
    &["endpoints"],
    &["streams"],
    &["runner", "group", "testing"],
    &["fuzzing"],
    &["lib"],
    &["bin"],
];

// ------------------------------------------------------------------------------------ imports

#[test]
fn no_import_runs_up() {
    let rule = imports_that_run_up;
    bites(
        rule,
        &[
            ("sansio/a.rs", "\nuse crate::sys::Address;"),
            ("sys/mod.rs", ""),
        ],
        "src/sansio/a.rs:2",
    );
    bites(
        rule,
        &[
            (
                "sys/a.rs",
                "fn f() { drop(crate::event_loop::door::catch(g)) }",
            ),
            ("event_loop/door.rs", ""),
        ],
        "src/sys/a.rs:1",
    );
    bites(
        rule,
        &[
            ("tasks/a.rs", "use crate::transports::{\n    Transport,\n};"),
            ("transports/mod.rs", ""),
        ],
        "src/tasks/a.rs:2",
    );
    bites(rule, &[("attic/a.rs", "")], "src/attic/a.rs:1");
    passes(
        rule,
        &[
            (
                "tasks/a.rs",
                "use crate::event_loop::LoopHandle;\n// crate::streams::StreamReader",
            ),
            ("event_loop/mod.rs", ""),
            ("streams/mod.rs", ""),
            (
                "sansio/b.rs",
                "#[cfg(test)]\nmod tests { use crate::tasks::a; }",
            ),
        ],
    );
    holds(rule);
}

#[test]
fn no_import_goes_round_in_a_circle() {
    let rule = circles;
    bites(
        rule,
        &[
            ("tasks/a.rs", "use crate::tasks::b::B;"),
            ("tasks/b.rs", "\nuse crate::tasks::c;"),
            ("tasks/c.rs", "fn f() { crate::tasks::a::f() }"),
        ],
        "src/tasks/a.rs:1 -> src/tasks/b.rs:2 -> src/tasks/c.rs:1 -> src/tasks/a.rs",
    );
    // A circle of folders whose files make none.
    bites(
        rule,
        &[
            ("tasks/a.rs", "use crate::sys::c;"),
            ("sys/b.rs", "use crate::tasks::d;"),
            ("sys/c.rs", ""),
            ("tasks/d.rs", ""),
        ],
        "sys -> tasks -> sys",
    );
    passes(
        rule,
        &[
            ("tasks/mod.rs", "mod a; mod b; pub use self::a::A;"),
            ("tasks/a.rs", "use crate::tasks::b;"),
            ("tasks/b.rs", ""),
        ],
    );
    holds(rule);
}

#[test]
fn an_import_names_the_file_or_the_face_of_another_folder() {
    let rule = imports_by_another_way;
    // Through the crate's face.
    bites(
        rule,
        &[("tasks/a.rs", "use crate::LoopHandle;")],
        "src/tasks/a.rs:1",
    );
    // Through the face of its own folder.
    bites(
        rule,
        &[
            ("tasks/mod.rs", ""),
            ("tasks/a.rs", "use crate::tasks::Task;"),
        ],
        "src/tasks/a.rs:1",
    );
    bites(rule, &[("tasks/a.rs", "use super::b;")], "src/tasks/a.rs:1");
    passes(
        rule,
        &[
            ("event_loop/mod.rs", ""),
            ("event_loop/cells.rs", ""),
            ("tasks/b.rs", "#[cfg(test)]\nmod tests { use super::*; }"),
            (
                "tasks/a.rs",
                "/// See [`f`](crate::f).\npub(super) fn f() {}\n\
                 use crate::event_loop::{LoopHandle, cells::Slot};\nuse crate::tasks::b;",
            ),
        ],
    );
    holds(rule);
}

fn imports_that_run_up(house: &House) -> Vec<String> {
    let unknown = house.files.iter().filter(|file| rank(&file.path).is_none());
    let unknown = unknown.map(|file| {
        file.at(
            1,
            "no floor of that name: FLOORS in this test says where a new one stands",
        )
    });
    let up = house
        .edges()
        .into_iter()
        .filter(|edge| floor(&edge.from) != floor(&edge.to) && rank(&edge.to) >= rank(&edge.from));
    let up = up.map(|edge| {
        format!(
            "src/{}:{}: {} may not use {}",
            edge.from,
            edge.line,
            floor(&edge.from),
            floor(&edge.to)
        )
    });
    unknown.chain(up).collect()
}

fn circles(house: &House) -> Vec<String> {
    let edges = house.edges();
    let mut files: Graph = BTreeMap::new();
    let mut folders: Graph = BTreeMap::new();
    for edge in &edges {
        let line = files
            .entry(format!("src/{}", edge.from))
            .or_default()
            .entry(format!("src/{}", edge.to));
        line.or_insert_with(|| format!(":{}", edge.line));
        if floor(&edge.from) != floor(&edge.to) {
            let from = folders.entry(floor(&edge.from).to_owned()).or_default();
            from.entry(floor(&edge.to).to_owned()).or_default();
        }
    }
    [circle(&files), circle(&folders)]
        .into_iter()
        .flatten()
        .map(|circle| format!("a circle: {circle}"))
        .collect()
}

/// Who uses whom, and what to say about the arrow.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// The first circle there is, as a text.
fn circle(graph: &Graph) -> Option<String> {
    fn walk(
        graph: &Graph,
        node: &str,
        trail: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<String> {
        if let Some(start) = trail.iter().position(|seen| seen == node) {
            let mut text = String::new();
            for (i, from) in trail.iter().enumerate().skip(start) {
                let to = trail.get(i + 1).map_or(node, String::as_str);
                let _ = write!(text, "{from}{} -> ", graph[from][to]);
            }
            return Some(text + node);
        }
        if !done.insert(node.to_owned()) {
            return None;
        }
        trail.push(node.to_owned());
        let found = graph.get(node).into_iter().flatten();
        let found = found
            .map(|(to, _)| walk(graph, to, trail, done))
            .find(Option::is_some);
        trail.pop();
        found.flatten()
    }
    let mut done = BTreeSet::new();
    graph
        .keys()
        .find_map(|node| walk(graph, node, &mut Vec::new(), &mut done))
}

fn imports_by_another_way(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for edge in house.edges() {
        let place = format!("src/{}:{}", edge.from, edge.line);
        if edge.to == "lib.rs" {
            found.push(format!("{place}: through lib.rs: name the module itself"));
        } else if edge.to == format!("{}/mod.rs", floor(&edge.from)) {
            found.push(format!(
                "{place}: through the face of its own folder: name the file"
            ));
        }
    }
    for file in &house.files {
        for line in file.find("super ::") {
            found.push(file.at(line, "super:: outside a test module: name the file"));
        }
    }
    found
}

// ------------------------------------------------------------------------------------ borrows

/// Where a protocol's own cell is borrowed. The number is how many times, exactly.
const GUARDS: &[(&str, &str, usize)] = &[
    // The one borrow that is held while user code runs: the protocol's, for one of its methods.
    ("transports/connection.rs", "try_borrow_mut", 1),
    // As a user does it, since streams stand on public items: for a moment, of our own protocol.
    ("streams/open.rs", "borrow_mut", 1),
    ("streams/unix.rs", "borrow_mut", 1),
];

/// Where a protocol in its cell has to be named or made: its type is public.
const PROTOCOL_CELLS: &[&str] = &[
    "transports/contract.rs",
    "transports/connection.rs",
    "transports/stacking.rs",
    "endpoints/accepted_socket.rs",
    "endpoints/connect.rs",
    "endpoints/connected.rs",
    "endpoints/joining.rs",
    "endpoints/server.rs",
    "endpoints/serving.rs",
    "endpoints/unix_connect.rs",
    "proxy/front.rs",
    "tls/stack.rs",
    "tls/start.rs",
    "without_tls.rs",
];

#[test]
fn nothing_is_borrowed_outside_the_cells() {
    let rule = guards;
    bites(
        rule,
        &[("tasks/a.rs", "fn f() { x\n    .borrow_mut().y() }")],
        "src/tasks/a.rs:2",
    );
    bites(
        rule,
        &[("tasks/a.rs", "fn f() { protocol.borrow(); }")],
        "src/tasks/a.rs:1",
    );
    bites(
        rule,
        &[(
            "transports/connection.rs",
            "fn f() { protocol.try_borrow_mut(); }\nfn g() { protocol.try_borrow_mut(); }",
        )],
        "src/transports/connection.rs:2",
    );
    bites(
        rule,
        &[("streams/open.rs", "fn f() { state.borrow(); }")],
        "src/streams/open.rs:1",
    );
    bites(
        rule,
        &[("tasks/a.rs", "use std::cell::RefCell;")],
        "src/tasks/a.rs:1",
    );
    bites(
        rule,
        &[(
            "endpoints/server.rs",
            "use std::cell::RefCell;\nstruct S { x: RefCell<u8> }",
        )],
        "src/endpoints/server.rs:2",
    );
    passes(
        rule,
        &[
            ("event_loop/cells.rs", "fn f() { self.0.borrow_mut(); }"),
            (
                "endpoints/server.rs",
                "use std::cell::{Cell, RefCell};\nfn f(p: Rc<RefCell<dyn Protocol>>) {}",
            ),
            ("tasks/a.rs", "/// `.borrow()` of a `RefCell`\nfn f() {}"),
        ],
    );
    holds(rule);
}

fn guards(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for file in &house.files {
        if file.path == "event_loop/cells.rs" {
            continue;
        }
        for method in ["borrow", "borrow_mut", "try_borrow", "try_borrow_mut"] {
            let of_a_protocol = file.find(&format!("protocol . {method} ("));
            let allowed = GUARDS
                .iter()
                .find(|(path, name, _)| *path == file.path && *name == method)
                .map_or(0, |(_, _, times)| *times);
            let allowed = &of_a_protocol[..allowed.min(of_a_protocol.len())];
            for line in file.find(&format!(". {method} (")) {
                if !allowed.contains(&line) || of_a_protocol.len() > allowed.len() {
                    found.push(file.at(line, "a guard outside event_loop/cells.rs"));
                }
            }
        }
        let tokens = &file.tokens;
        for i in file.positions("RefCell") {
            let named = PROTOCOL_CELLS.contains(&&*file.path)
                && (file.is_in_a_use(i)
                    || file.matches(i.saturating_sub(2), "Rc < RefCell < dyn Protocol >")
                    || file.matches(i.saturating_sub(2), "Rc < RefCell < P >")
                    || file.matches(i.saturating_sub(4), "Rc :: new ( RefCell :: new ("));
            if !named {
                let what = "a RefCell outside event_loop/cells.rs that is not a protocol's";
                found.push(file.at(tokens[i].line, what));
            }
        }
    }
    found
}

// --------------------------------------------------------------------------- words in one place

/// What may be named in these places only (a folder ends with a slash), and why there.
struct Place {
    words: &'static str,
    only_in: &'static [&'static str],
}

const PLACES: &[Place] = &[
    Place {
        words: "catch_unwind",
        // The door; the threads of the pool, which outlive what they are given to do; a crate that
        // panics at what a name server may say, and another that does, in debug builds, at what a
        // peer may.
        only_in: &[
            "event_loop/door.rs",
            "sys/pool.rs",
            "sys/resolver.rs",
            "tls/engine.rs",
        ],
    },
    Place {
        words: "Instant :: now",
        // The clock; and when the program's loops were heard of, which others than they ask.
        only_in: &["sys/", "testing/", "bin/echo-server/stats.rs"],
    },
    Place {
        words: "SystemTime",
        only_in: &["sys/", "testing/"],
    },
    Place {
        words: "mio ::",
        // The driver; and signals, whose pairs are registered with the same poller.
        only_in: &["sys/mio/", "sys/signals.rs"],
    },
    Place {
        words: "socket2 ::",
        only_in: &["sys/mio/"],
    },
    Place {
        words: "rustix ::",
        // The sockets; and what the program asks of the system for itself.
        only_in: &[
            "sys/mio/",
            "bin/echo-server/activation.rs",
            "bin/echo-server/descriptors.rs",
            "bin/echo-server/manager.rs",
        ],
    },
    Place {
        words: "signal_hook ::",
        only_in: &["sys/signals.rs"],
    },
    Place {
        words: "dns_lookup ::",
        only_in: &["sys/resolver.rs"],
    },
    Place {
        words: "thread ::",
        // Those for what blocks; those of a program with several loops, each of which has one; and
        // the one that waits for whoever reads the program's numbers.
        only_in: &["sys/pool.rs", "group.rs", "bin/echo-server/lines.rs"],
    },
    Place {
        words: "Mutex",
        // What other threads hand in; what they are given to do, how much of it, and its outcome;
        // the process's signals; the certificate that any of them may have read again; how many
        // connections all of them may have; and what the workers of the program have in common.
        only_in: &[
            "bin/echo-server/count.rs",
            "bin/echo-server/manager.rs",
            "bin/echo-server/service.rs",
            "bin/echo-server/stats.rs",
            "endpoints/limit.rs",
            "event_loop/remote.rs",
            "event_loop/services.rs",
            "event_loop/sync.rs",
            "sys/pool.rs",
            "sys/signals.rs",
            "tasks/executor.rs",
            "tls/context.rs",
        ],
    },
    Place {
        words: "rustls ::",
        // Its types; its functions are called in one file.
        only_in: &["tls/"],
    },
    Place {
        words: "ClientConnection",
        only_in: &["tls/engine.rs"],
    },
    Place {
        words: "ServerConnection",
        only_in: &["tls/engine.rs"],
    },
    Place {
        words: "ppp ::",
        only_in: &["proxy/header.rs"],
    },
    Place {
        words: "RwLock",
        only_in: &[],
    },
    Place {
        words: "unsafe",
        only_in: &[],
    },
];

#[test]
fn some_words_have_their_place() {
    let rule = words_out_of_place;
    for place in PLACES {
        let text = format!("\nfn f() {{ {} }}", place.words.replace(' ', ""));
        bites(rule, &[("streams/a.rs", &text)], "src/streams/a.rs:2");
        for only_in in place.only_in {
            passes(rule, &[(only_in, &text)]);
        }
    }
    passes(
        rule,
        &[
            ("sys/mod.rs", "pub(crate) use self::mio::MioDriver;"),
            ("lib.rs", "#![forbid(unsafe_code)]"),
            ("streams/a.rs", "fn f() { \"unsafe Mutex\"; } // Mutex"),
        ],
    );
    holds(rule);
}

fn words_out_of_place(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for file in &house.files {
        for place in PLACES {
            if place.only_in.iter().any(|only| {
                file.path == *only || only.ends_with('/') && file.path.starts_with(only)
            }) {
                continue;
            }
            for i in file.positions(place.words) {
                // `self::mio::…` is our file of that name.
                let ours = i > 0 && file.tokens[i - 1].text == "::" && place.words.ends_with(" ::");
                if !ours || place.words == "thread ::" {
                    let what = format!("{} out of its place", place.words);
                    found.push(file.at(file.tokens[i].line, &what));
                }
            }
        }
    }
    found
}

#[test]
fn the_pure_floor_is_pure() {
    let rule = impurities;
    for impure in [
        "log::debug!(\"\")",
        "Rc::new(1)",
        "RefCell::new(1)",
        "Cell::new(1)",
        "std::net::f()",
        "std::io::f()",
        "Instant::now()",
    ] {
        let text = format!("\nfn f() {{ {impure}; }}");
        bites(rule, &[("sansio/a.rs", &text)], "src/sansio/a.rs:2");
        passes(rule, &[("streams/a.rs", &text)]);
    }
    holds(rule);
}

fn impurities(house: &House) -> Vec<String> {
    let impure = [
        "log ::",
        "Rc",
        "RefCell",
        "Cell",
        "net",
        "std :: io",
        "Instant :: now",
    ];
    let pure = house
        .files
        .iter()
        .filter(|file| file.path.starts_with("sansio/"));
    pure.flat_map(|file| {
        impure.iter().flat_map(move |words| {
            let lines = file.find(words);
            lines
                .into_iter()
                .map(move |line| file.at(line, &format!("{words} on the pure floor")))
        })
    })
    .collect()
}

#[test]
fn of_libc_only_constants_are_used() {
    let rule = libc_functions;
    bites(
        rule,
        &[("sys/a.rs", "fn f() { libc::close(1); }")],
        "src/sys/a.rs:1",
    );
    passes(rule, &[("sys/a.rs", "fn f() { libc::EMFILE; }")]);
    holds(rule);
}

fn libc_functions(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for file in &house.files {
        for i in file.positions("libc ::") {
            let name = file.tokens.get(i + 2).map_or("", |token| &token.text);
            if name.is_empty() || name.contains(|c: char| c.is_lowercase()) {
                found.push(file.at(
                    file.tokens[i].line,
                    "of libc only constants are used, by their path",
                ));
            }
        }
    }
    found
}

// ------------------------------------------------------------------------------ inside functions

#[test]
fn no_function_has_a_cfg_inside() {
    let rule = cfg_in_functions;
    bites(
        rule,
        &[("sys/a.rs", "fn f() {\n    if cfg!(unix) {}\n}")],
        "src/sys/a.rs:2",
    );
    bites(
        rule,
        &[(
            "sys/a.rs",
            "fn f<T>(x: T) -> [u8; 1] where T: Fn() {\n #[cfg(unix)]\n x();\n}",
        )],
        "src/sys/a.rs:2",
    );
    passes(
        rule,
        &[(
            "sys/a.rs",
            "#[cfg(unix)]\nfn f() {}\nconst X: bool = cfg!(unix);\ntrait T { fn g(); }\n#[cfg(unix)]\nfn h() {}",
        )],
    );
    holds(rule);
}

fn cfg_in_functions(house: &House) -> Vec<String> {
    let mut found = BTreeSet::new();
    for file in &house.files {
        for function in file.functions() {
            for i in function.body.clone() {
                let cfg =
                    ["cfg !", "# [ cfg (", "# [ cfg_attr ("].map(|words| file.matches(i, words));
                if cfg.contains(&true) {
                    found.insert(file.at(file.tokens[i].line, "cfg in the body of a function"));
                }
            }
        }
    }
    found.into_iter().collect()
}

#[test]
fn an_unwrap_says_why_it_cannot_fail() {
    let rule = unwraps_without_a_reason;
    bites(
        rule,
        &[("sys/a.rs", "fn f() {\n    x.unwrap();\n}")],
        "src/sys/a.rs:2",
    );
    bites(
        rule,
        &[("sys/a.rs", "fn f() {\n    x\n    .expect(\"y\");\n}")],
        "src/sys/a.rs:3",
    );
    passes(
        rule,
        &[(
            "sys/a.rs",
            "/// ```\n/// x.unwrap();\n/// ```\nfn f() {\n    // Set above.\n    x.unwrap();\n    \
             y.unwrap(); // Never empty.\n    z.unwrap_or(0);\n}\n#[cfg(test)]\nmod tests { fn f() { x.unwrap() } }",
        )],
    );
    holds(rule);
}

fn unwraps_without_a_reason(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for file in &house.files {
        for words in [". unwrap ( )", ". expect ("] {
            for line in file.find(words) {
                if !file.comments.contains(&line) && !file.comments.contains(&(line - 1)) {
                    found.push(file.at(line, "an unwrap without a comment that says why"));
                }
            }
        }
    }
    found
}

#[test]
fn one_turn_of_the_loop_fits_on_a_screen() {
    let rule = long_turns;
    let long = format!("impl L {{\nfn run_once() {{{}}}\n}}", "\n x();".repeat(60));
    bites(
        rule,
        &[("event_loop/mod.rs", &long)],
        "src/event_loop/mod.rs:2",
    );
    bites(
        rule,
        &[("event_loop/mod.rs", "fn turn() {}")],
        "src/event_loop/mod.rs:1",
    );
    passes(
        rule,
        &[("event_loop/mod.rs", "fn run_once() {\n    x();\n}")],
    );
    holds(rule);
}

fn long_turns(house: &House) -> Vec<String> {
    let file = house
        .files
        .iter()
        .find(|file| file.path == "event_loop/mod.rs");
    let Some(file) = file else {
        return vec!["src/event_loop/mod.rs is missing".to_owned()];
    };
    let turns: Vec<Function> = file
        .functions()
        .into_iter()
        .filter(|function| function.name == "run_once")
        .collect();
    if turns.is_empty() {
        return vec![file.at(1, "run_once is missing")];
    }
    turns
        .iter()
        .filter(|turn| turn.last_line - turn.line >= 60)
        .map(|turn| file.at(turn.line, "run_once has more than 60 lines"))
        .collect()
}

// --------------------------------------------------------------------------------- whole files

#[test]
fn every_module_says_what_it_owns_and_why() {
    let rule = missing_headers;
    let header =
        "//! A.\n//!\n//! Owns: a. Why: b. Invariants: c. asyncio's\n//! counterpart: d.\n";
    for part in ["Owns:", "Why:", "Invariants:", "counterpart:"] {
        bites(
            rule,
            &[("sys/a.rs", &header.replace(part, ""))],
            "src/sys/a.rs:1",
        );
    }
    let below = format!("fn f() {{}}\n{header}");
    bites(rule, &[("sys/a.rs", &below)], "src/sys/a.rs:1");
    passes(
        rule,
        &[("sys/a.rs", header), ("lib.rs", ""), ("bin/a.rs", "")],
    );
    holds(rule);
}

fn missing_headers(house: &House) -> Vec<String> {
    // The crate's page and the programs have readers of their own.
    let modules = house
        .files
        .iter()
        .filter(|file| file.path != "lib.rs" && !file.path.starts_with("bin/"));
    modules
        .filter_map(|file| {
            let header: Vec<&str> = file
                .text
                .lines()
                .map_while(|line| line.strip_prefix("//!"))
                .map(str::trim)
                .collect();
            let header = header.join(" ");
            let parts = ["Owns:", "Why:", "Invariants:", "asyncio's counterpart:"];
            let missing: Vec<&str> = parts
                .into_iter()
                .filter(|part| !header.contains(part))
                .collect();
            let what = format!("the module's header lacks {}", missing.join(", "));
            (!missing.is_empty()).then(|| file.at(1, &what))
        })
        .collect()
}

#[test]
fn files_have_one_purpose() {
    let rule = shapeless_files;
    bites(rule, &[("sys/utils.rs", "")], "src/sys/utils.rs:1");
    bites(rule, &[("utils/mod.rs", "")], "src/utils/mod.rs:1");
    let long = "fn f() {}\n".repeat(601);
    bites(rule, &[("sys/a.rs", &long)], "src/sys/a.rs:1");
    let tested = format!("#[cfg(test)]\nmod tests {{\n{long}}}");
    passes(rule, &[("sys/a.rs", &tested)]);
    holds(rule);
}

fn shapeless_files(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for file in &house.files {
        if file
            .path
            .split('/')
            .any(|part| matches!(part.trim_end_matches(".rs"), "util" | "utils"))
        {
            found.push(file.at(1, "utils has no purpose: name it after what it does"));
        }
        let code: BTreeSet<usize> = file.tokens.iter().map(|token| token.line).collect();
        if code.len() > 600 {
            let what = format!("{} lines of code: what is its one purpose?", code.len());
            found.push(file.at(1, &what));
        }
    }
    found
}

/// A guide and not a limit: `cargo test --test architecture long_files -- --nocapture` shows them.
#[test]
#[allow(clippy::print_stdout, reason = "a list for whoever asks for it")]
fn long_files_are_listed() {
    for file in &House::read().files {
        let lines = file.text.lines().count();
        if lines > 500 {
            println!("src/{}: {lines} lines with comments and tests", file.path);
        }
    }
}

// ------------------------------------------------------------------------------------ the house

#[test]
fn the_reader_tells_code_from_what_only_looks_like_it() {
    let text = "let a = \"crate::x // no\"; // crate::y\nlet b = r#\"\"crate::z\"#; /* /* a */ b */\n\
                let c = '\"'; let d: &'static str = b\"\\\"\"; let e = '\\''; f('{')";
    let file = Source::new("a.rs", text);
    let words: Vec<&str> = file.tokens.iter().map(|token| &*token.text).collect();
    assert_eq!(
        words.join(" "),
        "let a = \"\" ; let b = \"\" ; let c = \"\" ; let d : & ' static str = \"\" ; let e = \"\" ; f ( \"\" )"
    );
    assert_eq!(file.comments, BTreeSet::from([1, 2]));
    let paths = Source::new(
        "a.rs",
        "use crate::a::{self, b::{C, D as E}, *}; x(crate::f::<u8>())",
    );
    let paths: Vec<String> = paths
        .paths()
        .into_iter()
        .map(|(path, _)| path.join("::"))
        .collect();
    assert_eq!(
        paths,
        [
            "crate::a::self",
            "crate::a::b::C",
            "crate::a::b::D",
            "crate::a::*",
            "crate::f"
        ]
    );
}

#[test]
fn what_is_for_tests_alone_is_no_part_of_the_house() {
    let text = "#[cfg(test)]\nmod a;\nmod b;\n#[cfg(any(test, fuzzing))]\npub mod c;\n\
                #[cfg(all(test, loom))]\nmod d { use e; }\n#[cfg(not(all(test, f)))]\nuse g;";
    assert_eq!(files_for_tests("lib.rs", text), ["a", "c"]);
    assert_eq!(files_for_tests("x/mod.rs", text), ["x/a", "x/c"]);
    let left = Source::new("lib.rs", text);
    let left: Vec<&str> = left.tokens.iter().map(|token| &*token.text).collect();
    assert_eq!(
        left.join(" "),
        "mod b ; # [ cfg ( not ( all ( test , f ) ) ) ] use g ;"
    );
    let mut house = House::of(&[
        ("sys/mod.rs", text),
        ("sys/a.rs", "fn f() { unsafe {} }"),
        ("sys/c/d.rs", "fn f() { unsafe {} }"),
    ]);
    house.clear_tests();
    assert!(words_out_of_place(&house).is_empty());
}

#[test]
fn the_whole_crate_is_read() {
    let house = House::read();
    assert!(house.files.len() > 40, "only {}", house.files.len());
    assert!(house.edges().len() > 100, "only {}", house.edges().len());
    for floor in FLOORS.iter().flat_map(|floors| *floors) {
        let found = house
            .files
            .iter()
            .any(|file| self::floor(&file.path) == *floor);
        assert!(found, "no file on the floor {floor}");
    }
}

#[track_caller]
fn holds(rule: fn(&House) -> Vec<String>) {
    let found = rule(&House::read());
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// The rule finds something there.
#[track_caller]
fn bites(rule: fn(&House) -> Vec<String>, files: &[(&str, &str)], place: &str) {
    let found = rule(&House::of(files));
    assert!(
        found.iter().any(|found| found.contains(place)),
        "nothing at {place} in {found:?}"
    );
}

#[track_caller]
fn passes(rule: fn(&House) -> Vec<String>, files: &[(&str, &str)]) {
    let found = rule(&House::of(files));
    assert!(found.is_empty(), "{found:?}");
}

/// `a` of `a/b.rs`, and of `a.rs`.
fn floor(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap()
}

fn rank(path: &str) -> Option<usize> {
    FLOORS
        .iter()
        .position(|floors| floors.contains(&floor(path)))
}

struct House {
    files: Vec<Source>,
}

/// `from` names `to` in this line.
struct Edge {
    from: String,
    to: String,
    line: usize,
}

impl House {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
                    files.push(Source::new(name, &fs::read_to_string(&path).unwrap()));
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut house = Self { files };
        house.clear_tests();
        house
    }

    /// Files for tests alone are judged by their headers only.
    fn clear_tests(&mut self) {
        let faces = self.files.iter();
        let tests: Vec<String> = faces
            .flat_map(|file| files_for_tests(&file.path, &file.text))
            .collect();
        for file in &mut self.files {
            let module = file.path.trim_end_matches(".rs");
            let is_in = |test: &String| module.starts_with(&format!("{test}/"));
            if tests.iter().any(|test| test == module || is_in(test)) {
                file.tokens.clear();
            }
        }
    }

    fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| Source::new(path, text));
        Self {
            files: files.collect(),
        }
    }

    /// Who names whom. A program in `bin/` is a crate of its own.
    fn edges(&self) -> Vec<Edge> {
        let modules: BTreeMap<Vec<&str>, &str> = self
            .files
            .iter()
            .map(|file| (file.module(), &*file.path))
            .collect();
        let mut edges = Vec::new();
        for file in self.files.iter().filter(|file| floor(&file.path) != "bin") {
            for (path, line) in file.paths() {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                let full = match path[0] {
                    "crate" => path[1..].to_vec(),
                    "self" if file.is_face() => [file.module(), path[1..].to_vec()].concat(),
                    _ => continue,
                };
                let to = (1..=full.len())
                    .rev()
                    .find_map(|n| modules.get(&full[..n]))
                    .copied()
                    .unwrap_or("lib.rs");
                if to != file.path {
                    edges.push(Edge {
                        from: file.path.clone(),
                        to: to.to_owned(),
                        line,
                    });
                }
            }
        }
        edges
    }
}

/// A file of `src/`.
struct Source {
    path: String,
    text: String,
    /// Without comments and test modules; a string or a character is `""`.
    tokens: Vec<Token>,
    /// The lines that have a comment which documents nothing.
    comments: BTreeSet<usize>,
}

struct Token {
    text: String,
    line: usize,
}

struct Function {
    name: String,
    line: usize,
    last_line: usize,
    /// The tokens between its braces.
    body: std::ops::Range<usize>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let (tokens, comments) = tokenize(text);
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            tokens: without_tests(tokens),
            comments,
        }
    }

    fn at(&self, line: usize, what: &str) -> String {
        format!("src/{}:{line}: {what}", self.path)
    }

    fn is_face(&self) -> bool {
        self.path == "lib.rs" || self.path.ends_with("/mod.rs")
    }

    fn module(&self) -> Vec<&str> {
        let mut parts: Vec<&str> = self.path.trim_end_matches(".rs").split('/').collect();
        if self.is_face() {
            parts.pop();
        }
        parts
    }

    /// Whether these words, with blanks between them, stand at the i-th token.
    fn matches(&self, i: usize, words: &str) -> bool {
        let mut tokens = self.tokens[i.min(self.tokens.len())..].iter();
        words
            .split(' ')
            .all(|word| tokens.next().is_some_and(|token| token.text == word))
    }

    fn positions(&self, words: &str) -> Vec<usize> {
        (0..self.tokens.len())
            .filter(|&i| self.matches(i, words))
            .collect()
    }

    /// The lines in which these words stand, or begin.
    fn find(&self, words: &str) -> Vec<usize> {
        let found = self.positions(words).into_iter();
        found.map(|i| self.tokens[i].line).collect()
    }

    fn is_in_a_use(&self, i: usize) -> bool {
        let before = self.tokens[..i].iter().rev();
        before
            .map(|token| &*token.text)
            .find(|text| matches!(*text, "use" | ";" | "(" | "="))
            == Some("use")
    }

    /// All paths that begin with `crate` or `self`, imports and others, with their lines.
    fn paths(&self) -> Vec<(Vec<String>, usize)> {
        let mut found = Vec::new();
        let mut i = 0;
        while i < self.tokens.len() {
            let begins = matches!(&*self.tokens[i].text, "crate" | "self")
                && self.matches(i + 1, "::")
                && (i == 0 || self.tokens[i - 1].text != "::");
            i = if begins {
                self.path_tree(i, &[], &mut found)
            } else {
                i + 1
            };
        }
        found
    }

    /// Reads `a::{b, c::d}` from the i-th token; gives the position behind it.
    fn path_tree(
        &self,
        mut i: usize,
        prefix: &[String],
        found: &mut Vec<(Vec<String>, usize)>,
    ) -> usize {
        let mut path = prefix.to_vec();
        let line = self.tokens[i].line;
        loop {
            if self.matches(i, "{") {
                i += 1;
                while i < self.tokens.len() && !self.matches(i, "}") {
                    i = self.path_tree(i, &path, found);
                    while i < self.tokens.len() && !self.matches(i, ",") && !self.matches(i, "}") {
                        i += 1; // `as name`
                    }
                    i += usize::from(self.matches(i, ","));
                }
                return i + 1;
            }
            if !self.matches(i, "<") {
                path.push(self.tokens[i].text.clone());
            }
            i += 1;
            if !self.matches(i, "::") || i + 1 >= self.tokens.len() || self.matches(i + 1, "<") {
                found.push((path, line));
                return i;
            }
            i += 1;
        }
    }

    fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for i in self.positions("fn") {
            let Some(name) = self.tokens.get(i + 1).filter(|name| name.text != "(") else {
                continue; // A type.
            };
            let mut nested = 0;
            let mut open = i + 2;
            while let Some(token) = self.tokens.get(open) {
                match &*token.text {
                    "(" | "[" => nested += 1,
                    ")" | "]" => nested -= 1,
                    "{" | ";" if nested == 0 => break,
                    _ => {}
                }
                open += 1;
            }
            if self.matches(open, "{") {
                let close = closing(&self.tokens, open);
                functions.push(Function {
                    name: name.text.clone(),
                    line: self.tokens[i].line,
                    last_line: self.tokens[close].line,
                    body: open + 1..close,
                });
            }
        }
        functions
    }
}

/// The position of the brace that closes the one at `open`, or the last token.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match &*token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    tokens.len() - 1
}

/// Takes everything out that stands behind `#[cfg(test)]`, or a condition of which `test` is the
/// first.
fn without_tests(mut tokens: Vec<Token>) -> Vec<Token> {
    while let Some((item, _)) = test_item(&tokens) {
        tokens.drain(item);
    }
    tokens
}

/// The first item for tests alone, and its name if it is a module in a file of its own.
fn test_item(tokens: &[Token]) -> Option<(std::ops::Range<usize>, Option<&str>)> {
    let heads: [&[&str]; 3] = [
        &["#", "[", "cfg", "(", "test", ")", "]"],
        &["#", "[", "cfg", "(", "all", "(", "test"],
        &["#", "[", "cfg", "(", "any", "(", "test"],
    ];
    let begins = |start: usize, head: &[&str]| {
        let words = head.iter().zip(&tokens[start..]);
        tokens.len() - start >= head.len() && words.into_iter().all(|(a, b)| *a == b.text)
    };
    let start = (0..tokens.len()).find(|&i| heads.iter().any(|head| begins(i, head)))?;
    let end = (start..tokens.len()).find(|&end| matches!(&*tokens[end].text, "{" | ";"));
    let end = end.unwrap_or(tokens.len() - 1);
    if tokens[end].text == "{" {
        return Some((start..closing(tokens, end) + 1, None));
    }
    let is_module = end >= 2 && tokens[end - 2].text == "mod";
    Some((start..end + 1, is_module.then(|| &*tokens[end - 1].text)))
}

/// The modules with files of their own that are compiled for tests alone, as `mod.rs` and `lib.rs` say.
fn files_for_tests(path: &str, text: &str) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let (mut tokens, _) = tokenize(text);
    let mut found = Vec::new();
    while let Some((item, module)) = test_item(&tokens) {
        found.extend(module.map(|name| match folder {
            "" => name.to_owned(),
            folder => format!("{folder}/{name}"),
        }));
        tokens.drain(item);
    }
    found
}

fn tokenize(text: &str) -> (Vec<Token>, BTreeSet<usize>) {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let starts = |i: usize, with: &str| with.chars().enumerate().all(|(n, c)| at(i + n) == c);
    let mut tokens = Vec::new();
    let mut comments = BTreeSet::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let begin = i;
        let mut word = None;
        if starts(i, "//") {
            if !starts(i, "///") && !starts(i, "//!") {
                comments.insert(line);
            }
            while i < chars.len() && at(i) != '\n' {
                i += 1;
            }
        } else if starts(i, "/*") {
            comments.insert(line);
            let mut depth = 0;
            loop {
                depth += i32::from(starts(i, "/*"));
                depth -= i32::from(starts(i, "*/"));
                let two = starts(i, "/*") || starts(i, "*/");
                i += if two { 2 } else { 1 };
                if depth == 0 || i >= chars.len() {
                    break;
                }
            }
        } else if let Some(end) = end_of_string(&chars, i) {
            i = end;
            word = Some("\"\"".to_owned());
        } else if at(i).is_alphanumeric() || at(i) == '_' {
            while at(i).is_alphanumeric() || at(i) == '_' {
                i += 1;
            }
            word = Some(chars[begin..i].iter().collect());
        } else if starts(i, "::") {
            i += 2;
            word = Some("::".to_owned());
        } else {
            if !at(i).is_whitespace() {
                word = Some(at(i).to_string());
            }
            i += 1;
        }
        if let Some(text) = word {
            tokens.push(Token { text, line });
        }
        line += chars[begin..i].iter().filter(|c| **c == '\n').count();
    }
    (tokens, comments)
}

/// Behind the string or character that begins at `i`, if one does.
fn end_of_string(chars: &[char], mut i: usize) -> Option<usize> {
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    if at(i) == '\'' {
        // Anything else is a lifetime.
        let escaped = at(i + 1) == '\\';
        let mut end = i + 2 + usize::from(escaped);
        while escaped && end < chars.len() && at(end) != '\'' {
            end += 1;
        }
        return (at(end) == '\'').then_some(end + 1);
    }
    let prefix = (i..i + 2)
        .take_while(|&n| matches!(at(n), 'r' | 'b' | 'c'))
        .count();
    let raw = (i..i + prefix).any(|n| at(n) == 'r');
    let part_of_a_word = i > 0 && (at(i - 1).is_alphanumeric() || at(i - 1) == '_');
    i += prefix;
    let hashes = if raw {
        (i..).take_while(|&n| at(n) == '#').count()
    } else {
        0
    };
    i += hashes;
    if at(i) != '"' || (prefix > 0 && part_of_a_word) {
        return None;
    }
    i += 1;
    while i < chars.len() {
        if at(i) == '\\' && !raw {
            i += 2;
        } else if at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#') {
            return Some(i + 1 + hashes);
        } else {
            i += 1;
        }
    }
    Some(chars.len())
}
