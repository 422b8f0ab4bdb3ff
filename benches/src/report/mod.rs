//! The reporting half: from a run, at once or from its file, to tables, plots and pages.
//!
//! Nothing in here measures. Rounds are reduced in `reduce`, looked up in `figures`, and shown by
//! `tables`, `targets` and `plots`.

mod cell_name;
mod complete;
mod figures;
mod markdown;
mod pages;
mod plots;
mod profile;
mod reduce;
#[cfg(test)]
mod sample;
mod tables;
mod targets;
mod tls;

use std::fs;
use std::io;
use std::path::Path;

use crate::report::figures::Figures;
use crate::report::pages::Parts;
use crate::report::plots::PLOTS;
use crate::results::Run;

/// The pages that have generated parts.
const PAGES: [&str; 4] = [
    "docs/performance.md",
    "docs/performance-tables.md",
    "docs/performance-tasks.md",
    "docs/performance-fairness.md",
];

/// The page of a run over TLS.
const TLS_PAGES: [&str; 1] = ["docs/performance-tls.md"];

/// Where the plots go.
const PLOT_FOLDER: &str = "docs/performance";

/// Everything that a run found, as Markdown; what it did not measure is not mentioned, but for the
/// figures to reach.
pub fn markdown(run: &Run) -> String {
    let figures = Figures::new(run);
    let sections = sections(&figures);
    let measured = sections
        .iter()
        .filter(|section| section.text != tables::NOT_MEASURED);
    let sections = measured.map(|section| {
        let Section { title, text, .. } = section;
        format!("## {title}\n\n{}\n", text.trim_end())
    });
    sections.collect::<Vec<_>>().join("\n")
}

/// Renews the generated parts of the documentation: tables between their markers, and the plots.
///
/// # Errors
///
/// When the run is a part of one, when a file cannot be read or written, and when a page has a marker that nothing is called by,
/// or no page has a marker for one of the tables; then nothing is changed.
pub fn write_docs(run: &Run, repository: &Path) -> io::Result<()> {
    if let Some(shortfall) = complete::shortfall(run) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the pages show whole runs, and this is {shortfall}"),
        ));
    }
    let figures = Figures::new(run);
    let parts: Parts = sections(&figures)
        .into_iter()
        .map(|section| (section.marker, section.text))
        .collect();
    if tls::is_all_of(run) {
        return pages::write(repository, &TLS_PAGES, &parts);
    }
    pages::write(repository, &PAGES, &parts)?;
    let folder = repository.join(PLOT_FOLDER);
    fs::create_dir_all(&folder)?;
    for plot in &PLOTS {
        fs::write(folder.join(plot.file), plot.draw(&figures))?;
    }
    Ok(())
}

struct Section {
    marker: &'static str,
    title: &'static str,
    text: String,
}

fn sections(figures: &Figures) -> Vec<Section> {
    let run = figures.run;
    let section = |marker, title, text| Section {
        marker,
        title,
        text,
    };
    if tls::is_all_of(run) {
        return vec![
            section("machine", "Machine", tables::machine(run)),
            section("tls", "evloop and tokio-rustls", tls::table(figures)),
            section("left-out", "Left out", tables::left_out(run)),
        ];
    }
    vec![
        section("machine", "Machine", tables::machine(run)),
        section("targets", "Figures to reach", targets::table(figures)),
        section(
            "means",
            "Server CPU ÷ bare epoll loop: geometric means",
            tables::means(figures),
        ),
        section(
            "cells",
            "Server CPU ÷ bare epoll loop: cells",
            tables::cells(figures),
        ),
        section(
            "best-peers",
            "evloop ÷ the best of tokio, smol, monoio, libuv",
            tables::best_peers(figures),
        ),
        section("counts", "Counts", tables::counts(run)),
        section("profile", "Where our instructions are", profile::table(run)),
        section("latency", "Round trips", tables::latency(figures)),
        section("idle", "Idle connections", tables::idle(run)),
        section("tasks", "Without sockets", tables::tasks(figures)),
        section(
            "growth",
            "From 10 to 10,000 connections",
            tables::growth(figures),
        ),
        section("left-out", "Left out", tables::left_out(run)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_table() {
        let mut run = sample::run();
        run.left_out = vec!["glommio: it needs more locked memory.".to_owned()];
        let text = markdown(&run);
        for words in [
            "## Figures to reach",
            "| c100-1K        |",
            "| geometric mean |",
            "system calls per operation",
            "| spawn and await one ",
            "- glommio: it needs more locked memory.",
            "is a tie",
        ] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }

    #[test]
    fn a_run_that_measured_nothing_shows_what_there_is_to_reach() {
        let text = markdown(&Run::default());
        let titles: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(titles, ["## Figures to reach", "## Left out"]);
        assert!(
            !text.contains("NaN") && !text.contains(" reached"),
            "{text}"
        );
    }

    #[test]
    fn a_part_of_a_run_is_not_written() {
        let refused = write_docs(&Run::default(), Path::new("/no/such/folder")).unwrap_err();
        assert!(
            refused.to_string().ends_with("0 rounds: no verdict"),
            "{refused}"
        );
    }

    /// The pages of this repository have the markers, so that a long run is not in vain.
    #[test]
    fn the_documentation_has_a_place_for_every_table() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let folder = std::env::temp_dir().join(format!("evloop-docs-{}", std::process::id()));
        fs::create_dir_all(folder.join("docs")).unwrap();
        for page in PAGES.iter().chain(&TLS_PAGES) {
            fs::copy(repository.join(page), folder.join(page)).unwrap();
        }
        let written = write_docs(&sample::run(), &folder)
            .and_then(|()| write_docs(&sample::run_over_tls(), &folder));
        let lines = PAGES.map(|page| {
            fs::read_to_string(folder.join(page))
                .unwrap()
                .lines()
                .count()
        });
        let plots = fs::read_dir(folder.join(PLOT_FOLDER)).map(Iterator::count);
        fs::remove_dir_all(&folder).unwrap();
        written.unwrap();
        assert_eq!(plots.unwrap(), PLOTS.len());
        assert!(lines.iter().all(|lines| *lines <= 300), "{lines:?}");
    }
}
