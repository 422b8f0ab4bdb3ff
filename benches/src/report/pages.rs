//! The generated parts of the documentation: what stands between two markers of a page.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Text by the name of its markers, `<!-- begin: NAME -->` and `<!-- end: NAME -->`.
pub type Parts = Vec<(&'static str, String)>;

/// Writes the parts into the pages that have their markers. All of them have to be somewhere, and
/// no page may ask for another; else nothing is written at all.
pub fn write(repository: &Path, pages: &[&str], parts: &Parts) -> io::Result<()> {
    let mut written = Vec::new();
    let mut replaced = Vec::new();
    for page in pages {
        let path = repository.join(page);
        let text = fs::read_to_string(&path)
            .map_err(|error| io::Error::new(error.kind(), format!("{page}: {error}")))?;
        let (text, names) =
            replace(&text, parts).map_err(|problem| invalid(format!("{page}:{problem}")))?;
        written.push((path, text));
        replaced.extend(names);
    }
    for (name, _) in parts {
        let times = replaced.iter().filter(|found| *found == name).count();
        if times != 1 {
            let pages = pages.join(", ");
            let problem = format!("{times} times `<!-- begin: {name} -->` in {pages}, not once");
            return Err(invalid(problem));
        }
    }
    for (path, text) in written {
        fs::write(path, text)?;
    }
    Ok(())
}

/// The text with its parts replaced, and their names. A problem begins with the number of its line.
fn replace(text: &str, parts: &Parts) -> Result<(String, Vec<String>), String> {
    let mut result = String::new();
    let mut names: Vec<String> = Vec::new();
    let mut open: Option<(usize, &str)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match (marker(line, "begin"), marker(line, "end"), open) {
            (Some(name), _, None) => {
                let part = parts.iter().find(|(known, _)| *known == name);
                let Some((_, part)) = part else {
                    return Err(format!("{number}: nothing is called `{name}`"));
                };
                result.push_str(&format!("{line}\n\n{}\n\n", part.trim_matches('\n')));
                names.push(name.to_owned());
                open = Some((number, name));
            }
            (Some(name), _, Some((_, outer))) => {
                return Err(format!("{number}: `{name}` begins inside `{outer}`"));
            }
            (None, Some(name), Some((_, begun))) if name == begun => {
                result.push_str(&format!("{line}\n"));
                open = None;
            }
            (None, Some(name), _) => {
                return Err(format!("{number}: `{name}` ends and has not begun"));
            }
            (None, None, None) => result.push_str(&format!("{line}\n")),
            (None, None, Some(_)) => {}
        }
    }
    match open {
        Some((number, name)) => Err(format!("{number}: `{name}` does not end")),
        None => Ok((result, names)),
    }
}

fn marker<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    let inside = line.trim().strip_prefix("<!--")?.strip_suffix("-->")?;
    let name = inside.trim().strip_prefix(kind)?.strip_prefix(':')?;
    Some(name.trim())
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        vec![("a", "| new |\n".to_owned()), ("b", "two".to_owned())]
    }

    #[test]
    fn what_stands_between_the_markers_is_replaced_and_nothing_else() {
        let text = "# T\n<!-- begin: a -->\nold\n<!-- end: a -->\nprose\n";
        let (text, names) = replace(text, &parts()).unwrap();
        assert_eq!(
            text,
            "# T\n<!-- begin: a -->\n\n| new |\n\n<!-- end: a -->\nprose\n"
        );
        assert_eq!(names, ["a"]);
        assert_eq!(replace(&text, &parts()).unwrap().0, text, "twice is once");
    }

    #[test]
    fn a_wrong_marker_is_told_with_its_line() {
        let problems = [
            (
                "x\n<!-- begin: c -->\n<!-- end: c -->",
                "2: nothing is called `c`",
            ),
            ("<!-- begin: a -->\n", "1: `a` does not end"),
            ("<!-- end: a -->\n", "1: `a` ends and has not begun"),
            (
                "<!-- begin: a -->\n<!-- end: b -->",
                "2: `b` ends and has not begun",
            ),
            (
                "<!-- begin: a -->\n<!-- begin: b -->",
                "2: `b` begins inside `a`",
            ),
        ];
        for (text, problem) in problems {
            assert_eq!(replace(text, &parts()).unwrap_err(), problem);
        }
    }

    #[test]
    fn with_a_missing_marker_nothing_is_written() {
        let folder = std::env::temp_dir().join(format!("evloop-pages-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let text = "<!-- begin: a -->\n<!-- end: a -->\n";
        fs::write(folder.join("page.md"), text).unwrap();
        let error = write(&folder, &["page.md"], &parts()).unwrap_err();
        let left = fs::read_to_string(folder.join("page.md")).unwrap();
        let absent = write(&folder, &["absent.md"], &parts()).unwrap_err();
        fs::remove_dir_all(&folder).unwrap();
        let problem = "0 times `<!-- begin: b -->` in page.md, not once";
        assert_eq!(error.to_string(), problem);
        assert_eq!(left, text);
        assert!(absent.to_string().starts_with("absent.md: "), "{absent}");
    }
}
