//! A folder for what a server leaves behind: one that is killed does not remove its socket's path.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A new folder among the temporary files, removed with everything in it when this is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> io::Result<Self> {
        // The system puts letters of its own in the place of the last six.
        let template = env::temp_dir().join("evloop-bench-XXXXXX");
        Ok(Self(nix::unistd::mkdtemp(&template)?))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Somebody may have cleaned up before us.
        let _ = fs::remove_dir_all(&self.0);
    }
}
