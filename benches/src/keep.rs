//! `--save`: the file that a run is kept in, while it goes on and when it is done.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::results::Run;

/// Where a run is kept, if anywhere.
pub struct Keep(Option<PathBuf>);

impl Keep {
    /// Fails now, and not after half an hour, where nothing can be written there.
    pub fn at(file: Option<&Path>) -> io::Result<Self> {
        if let Some(file) = file {
            // What is in it stays until there is something better.
            let opened = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(false)
                .open(file);
            opened.map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", file.display()))
            })?;
        }
        Ok(Self(file.map(Path::to_owned)))
    }

    /// Replaces what was kept. Whoever reads meanwhile sees the old or the new one.
    pub fn save(&self, run: &Run) -> io::Result<()> {
        let Some(file) = &self.0 else {
            return Ok(());
        };
        let mut unfinished = file.clone().into_os_string();
        unfinished.push(".part");
        fs::write(&unfinished, serde_json::to_vec_pretty(run)?)?;
        fs::rename(unfinished, file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_cannot_be_written_is_refused_at_once() {
        assert!(Keep::at(Some(Path::new("/no/such/folder/run.json"))).is_err());
        assert!(Keep::at(None).is_ok());
    }

    #[test]
    fn a_run_is_kept_and_kept_again() {
        let file = std::env::temp_dir().join(format!("evloop-keep-{}", std::process::id()));
        let keep = Keep::at(Some(&file)).unwrap();
        let mut run = Run::default();
        for rounds in [3, 5] {
            run.rounds = rounds;
            keep.save(&run).unwrap();
            let kept: Run = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            assert_eq!(kept.rounds, rounds);
        }
        fs::remove_file(&file).unwrap();
    }
}
