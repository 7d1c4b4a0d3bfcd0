//! A file in RUNDIR that is kept up to date.

use crate::sys::paths;
use log::Level;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file. That it cannot be written is said once, not with every try.
#[derive(Debug)]
pub struct Kept {
    /// Where it is.
    pub path: PathBuf,
    /// What holds until it is written again.
    meanwhile: &'static str,
    /// The last try failed.
    pub fails: bool,
}

impl Kept {
    /// A file that was not written yet. `meanwhile`: what the log says of the time in which it cannot be.
    pub fn new(path: &Path, meanwhile: &'static str) -> Kept {
        Kept { path: path.to_owned(), meanwhile, fails: false }
    }

    /// Takes how a try ended; what the log has to say of it.
    pub fn line(&mut self, result: io::Result<()>) -> Option<(Level, String)> {
        match (result, self.fails) {
            (Err(error), false) => {
                self.fails = true;
                let failure = paths::write_failure(&self.path, &error);
                Some((
                    Level::Error,
                    format!("{failure}. {}. It is tried again every second.", self.meanwhile),
                ))
            }
            (Ok(()), true) => {
                self.fails = false;
                Some((Level::Info, format!("{}: written again", self.path.display())))
            }
            _ => None,
        }
    }

    /// As [`Kept::line`], and says it.
    pub fn tried(&mut self, result: io::Result<()>) {
        if let Some((level, line)) = self.line(result) {
            log::log!(level, "{line}");
        }
    }
}

/// Writes a file under another name and renames it: who reads it sees the old content or the new one.
///
/// # Errors
/// The system's.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = path.with_extension("new");
    // Not one that somebody else has put there, with a mode of his choice.
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_is_told_once_and_so_is_its_return() {
        let mut kept = Kept::new(Path::new("/run/drbd/proc"), "The text shows the state of before");
        let full = || Err(io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(kept.line(Ok(())), None);
        let (level, line) = kept.line(full()).unwrap();
        assert_eq!(level, Level::Error);
        for part in ["/run/drbd/proc: No space", "df -h /run/drbd", "of before", "again every second"] {
            assert!(line.contains(part), "{line}");
        }
        assert_eq!(kept.line(full()), None);
        assert_eq!(kept.line(Ok(())).map(|(level, _)| level), Some(Level::Info));
        assert_eq!(kept.line(Ok(())), None);
    }
}
