//! What the pages of `docs/` and the README name exists: files, functions, links.
//!
//! A sentence cannot be tested, the names in it can. So a page that lags behind a renamed file or
//! function fails here. Paths are written from the root (`src/event_loop/mod.rs`), functions with
//! their parentheses (`run_once()`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const LONGEST_PAGE: usize = 300;

#[test]
fn every_file_that_a_page_names_exists() {
    for (page, text) in pages() {
        for (number, line) in numbered(&text) {
            for path in paths(line) {
                assert!(
                    root().join(path).exists(),
                    "{page}:{number}: there is no {path}"
                );
            }
        }
    }
}

/// "`f()` in `src/a.rs`" and "`src/a.rs`: `f()`, `g()`" say where; any other is somewhere in `src/`.
#[test]
fn every_function_that_a_page_names_exists() {
    let sources = sources();
    let anywhere: String = sources.values().map(String::as_str).collect();
    let mut placed = 0;
    for (page, text) in pages() {
        for (number, block) in blocks(&text) {
            for (function, file) in functions(&block) {
                // Most functions of the map are asyncio's, and its test is above.
                if page == "docs/asyncio-map.md" && file.is_none() {
                    continue;
                }
                let text = file.map_or(&anywhere, |file| &sources[file]);
                let found = [format!("fn {function}("), format!("fn {function}<")]
                    .iter()
                    .any(|definition| text.contains(definition));
                let file = file.unwrap_or("src/");
                assert!(found, "{page}:{number}: no function {function} in {file}");
                placed += usize::from(file != "src/");
            }
        }
    }
    assert!(
        placed > 50,
        "only {placed} functions were found with their files"
    );
}

/// "`tests/a.rs::name`" is a test in that file.
#[test]
fn every_test_that_a_page_names_exists() {
    let mut named = 0;
    for (page, text) in pages() {
        for (number, line) in outside_of_blocks(&text) {
            for (file, test) in code_spans(line).into_iter().filter_map(test_in) {
                let text = fs::read_to_string(root().join(file));
                let text = text.unwrap_or_else(|_| panic!("{page}:{number}: there is no {file}"));
                assert!(
                    is_test(&text, test),
                    "{page}:{number}: no test {test} in {file}"
                );
                named += 1;
            }
        }
    }
    assert!(named > 200, "only {named} tests were found");
}

/// Each of them is a story, and the page tells it.
#[test]
fn every_pitfall_that_is_tested_is_told() {
    let page = fs::read_to_string(root().join("docs/pitfalls.md")).unwrap();
    let mut tests = 0;
    for entry in fs::read_dir(root().join("tests/pitfalls")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let file = path.file_name().unwrap().to_str().unwrap();
        for line in text.lines() {
            let name = line
                .strip_prefix("fn ")
                .and_then(|rest| rest.split_once('('));
            let Some((name, _)) = name.filter(|(name, _)| is_test(&text, name)) else {
                continue;
            };
            let told = format!("`tests/pitfalls/{file}::{name}`");
            assert!(page.contains(&told), "docs/pitfalls.md lacks {told}");
            tests += 1;
        }
    }
    assert!(tests > 40, "only {tests} tests were found");
}

/// The second column of the map's tables is what we call it.
#[test]
fn every_name_of_ours_in_the_map_exists() {
    let anywhere: String = sources().into_values().collect();
    let text = fs::read_to_string(root().join("docs/asyncio-map.md")).unwrap();
    let mut names = 0;
    let mut ours = false;
    for (number, line) in outside_of_blocks(&text) {
        let columns: Vec<&str> = line.split('|').collect();
        if !line.starts_with('|') || columns.len() < 4 {
            continue;
        }
        if columns[1].trim().starts_with("asyncio") {
            ours = columns[2].trim() == "evloop";
            continue;
        }
        if !ours {
            continue;
        }
        for code in code_spans(columns[2]) {
            let name = code.split(['(', '<', ' ', '{']).next().unwrap_or_default();
            let name = name.rsplit("::").next().unwrap_or_default();
            let known = |at: usize| {
                let before = anywhere[..at].chars().next_back();
                let after = anywhere[at + name.len()..].chars().next();
                let word = |c: char| c.is_alphanumeric() || c == '_';
                !before.is_some_and(word) && !after.is_some_and(word)
            };
            let found = anywhere.match_indices(name).any(|(at, _)| known(at));
            assert!(found, "docs/asyncio-map.md:{number}: no {name} in src/");
            names += 1;
        }
    }
    assert!(names > 100, "only {names} names of ours were found");
}

/// A row without a test is a claim. A rule by which recordings of asyncio are replayed is one, too.
#[test]
fn every_difference_from_asyncio_has_its_test() {
    let map = differences("docs/asyncio-map.md");
    let tests = differences("docs/asyncio-tests.md");
    let golden = fs::read_dir(root().join("tests/golden")).unwrap();
    let golden: String = golden
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert!(map.len() > 30, "only {} differences were found", map.len());
    for name in map.keys() {
        let test = tests.get(name).map_or("", String::as_str);
        let shown = test.contains("a doctest of `src/")
            || code_spans(test)
                .into_iter()
                .any(|code| test_in(code).is_some())
            || golden.contains(&format!("\"{name}\""));
        assert!(shown, "docs/asyncio-tests.md has no test for {name:?}");
    }
    for name in tests.keys() {
        assert!(map.contains_key(name), "the map has no row {name:?}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    for (page, text) in pages() {
        let folder = root().join(&page).parent().unwrap().to_owned();
        for (number, line) in outside_of_blocks(&text) {
            for link in links(line) {
                if link.contains("://") || link.starts_with("mailto:") {
                    continue;
                }
                let (file, heading) = link.split_once('#').unwrap_or((link, ""));
                let target = match file {
                    "" => root().join(&page),
                    file => folder.join(file),
                };
                assert!(target.exists(), "{page}:{number}: {link} leads nowhere");
                let there = heading.is_empty() || headings(&target).iter().any(|h| h == heading);
                assert!(there, "{page}:{number}: no heading for {link}");
            }
        }
    }
}

#[test]
fn a_page_can_be_read_in_one_sitting() {
    for (page, text) in pages() {
        let lines = text.lines().count();
        assert!(lines <= LONGEST_PAGE, "{page} has {lines} lines");
    }
}

#[test]
fn what_is_looked_for_is_found() {
    let line = "| `src/a/b.rs`: `f()`, `T::g(x)` and `h` | [there](a.md#part), [x](https://y) |";
    assert_eq!(paths(line), ["src/a/b.rs"]);
    assert_eq!(links(line), ["a.md#part", "https://y"]);
    assert_eq!(
        functions(line),
        [("f", Some("src/a/b.rs")), ("g", Some("src/a/b.rs"))]
    );
    let line = "`a()` and `T::b(x)` in `src/a.rs`, as `c()` has it; `d()` in `x`";
    assert_eq!(
        functions(line),
        [
            ("a", Some("src/a.rs")),
            ("b", Some("src/a.rs")),
            ("c", None),
            ("d", None)
        ]
    );
    let text = "one\ntwo\n\n- three\n  four\n- five\n1. six";
    let lines: Vec<String> = blocks(text).into_iter().map(|(_, block)| block).collect();
    assert_eq!(lines, ["one two", "", "- three four", "- five", "1. six"]);
    assert_eq!(outside_of_blocks("a\n```\nb\n```\nc").len(), 2);
    assert_eq!(
        slug("Edge-triggered, and what follows"),
        "edge-triggered-and-what-follows"
    );
    assert!(pages().len() > 6);
    assert_eq!(test_in("tests/a.rs::b"), Some(("tests/a.rs", "b")));
    assert_eq!(test_in("src/a.rs"), None);
    assert_eq!(test_in("Task::cancel"), None);
    let text = "#[test]\n#[should_panic]\nfn a() {}\n\nfn b() {}\n";
    assert!(is_test(text, "a") && !is_test(text, "b") && !is_test(text, "c"));
}

/// The first two columns of the table of differences.
fn differences(page: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let (_, section) = text.split_once("\n## Where we leave asyncio\n").unwrap();
    section
        .lines()
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .map(|line| {
            let mut columns = line.split('|').map(|column| column.trim().to_owned());
            columns.next();
            (columns.next().unwrap(), columns.next().unwrap())
        })
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// README, changelog, what is promised against a hostile peer, and all of `docs/`, by their paths.
fn pages() -> BTreeMap<String, String> {
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()));
    let pages = ["README.md", "CHANGELOG.md", "SECURITY.md"].map(str::to_owned);
    pages
        .into_iter()
        .chain(docs)
        .filter(|page| page.ends_with(".md"))
        .map(|page| {
            let text = fs::read_to_string(root().join(&page)).unwrap();
            (page, text)
        })
        .collect()
}

fn sources() -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
                sources.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    sources
}

fn numbered(text: &str) -> Vec<(usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line))
        .collect()
}

/// The lines of prose and tables, not those of code.
fn outside_of_blocks(text: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut lines = numbered(text);
    lines.retain(|(_, line)| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    lines
}

/// Names of files and folders in this repository.
fn paths(line: &str) -> Vec<&str> {
    line.split(|c: char| !(c.is_alphanumeric() || "/_.-".contains(c)))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| {
            ["src/", "tests/", "docs/", "examples/"]
                .iter()
                .any(|folder| word.starts_with(folder))
        })
        .collect()
}

/// Paragraphs, list items and rows of tables, each as one line, with the number of its first one.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut last = 0;
    for (number, line) in outside_of_blocks(text) {
        let line = line.trim();
        let item = line.starts_with(['|', '-', '#'])
            || line
                .split_once(". ")
                .is_some_and(|(n, _)| n.parse::<u8>().is_ok());
        match blocks.last_mut() {
            Some((_, block)) if !item && !line.is_empty() && last + 1 == number => {
                block.push(' ');
                block.push_str(line);
            }
            _ => blocks.push((number, line.to_owned())),
        }
        // What follows an empty line begins anew.
        last = if line.is_empty() { 0 } else { number };
    }
    blocks
}

/// The functions that a block names, each with the file that it is said to be in.
fn functions(block: &str) -> Vec<(&str, Option<&str>)> {
    let parts: Vec<&str> = block.split('`').collect();
    let is_file = |part: &str| part.starts_with("src/") && part.ends_with(".rs");
    let (is_list, is_in) = ([", ", " and ", " or "], [" in ", " of "]);
    let mut found = Vec::new();
    for i in (1..parts.len()).step_by(2) {
        let Some(function) = function_in(parts[i]) else {
            continue;
        };
        let mut after = i;
        while after + 2 < parts.len() && is_list.contains(&parts[after + 1]) {
            after += 2;
        }
        let mut before = i;
        while before > 2 && is_list.contains(&parts[before - 1]) {
            before -= 2;
        }
        let file = if after + 2 < parts.len() && is_in.contains(&parts[after + 1]) {
            Some(parts[after + 2])
        } else if before > 2 && parts[before - 1] == ": " {
            Some(parts[before - 2])
        } else {
            None
        };
        found.push((function, file.filter(|file| is_file(file))));
    }
    found
}

fn code_spans(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// File and name of a test.
fn test_in(code: &str) -> Option<(&str, &str)> {
    let (file, test) = code.split_once("::")?;
    file.ends_with(".rs").then_some((file, test))
}

/// Whether `#[test]` stands among the attributes above this function.
fn is_test(text: &str, name: &str) -> bool {
    let head = format!("fn {name}()");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(i, line)| {
        let above = lines[..i].iter().rev();
        line.starts_with(&head)
            && above
                .take_while(|line| !line.is_empty() && !line.starts_with('}'))
                .any(|line| *line == "#[test]")
    })
}

/// `g` of `T::g(x)`.
fn function_in(code: &str) -> Option<&str> {
    let (name, _) = code.split_once('(')?;
    let name = name.rsplit(['.', ':']).next()?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_lowercase() || c == '_');
    is_name.then_some(name)
}

fn links(line: &str) -> Vec<&str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(link, _)| link)
        .collect()
}

fn headings(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    outside_of_blocks(&text)
        .into_iter()
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| slug(line.trim_start_matches('#').trim()))
        .collect()
}

/// How a heading is called in a link.
fn slug(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
