//! A program of a Debian package: from the machine, else out of the package.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Longest time for a download, seconds.
const DOWNLOAD_SECONDS: &str = "60";

/// The program. `None`: it cannot be had; that has been said.
pub fn program(name: &str, package: &str, path: &str) -> Option<PathBuf> {
    let installed = Path::new("/").join(path);
    let mut why = String::new();
    let found = Some(installed).filter(|path| path.exists()).or_else(|| match unpacked(package) {
        Ok(directory) => Some(directory.join(path)).filter(|path| path.exists()),
        Err(text) => {
            why = text;
            None
        }
    });
    // It may want libraries that are not here.
    let works = found.filter(|path| {
        let started = Command::new(path).arg("--help").stdin(Stdio::null()).output();
        match started.as_ref().map(|output| output.status.code()) {
            Ok(Some(code)) if code < 126 => true,
            _ => {
                why = format!("it does not start: {started:?}");
                false
            }
        }
    });
    if works.is_none() {
        println!("SKIPPED: {name} on a daemon of ours: Debian package {package} is not there: {why}");
    }
    works
}

/// The content of a package, downloaded once.
fn unpacked(package: &str) -> Result<PathBuf, String> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let directory = place.join(package);
    if directory.exists() {
        return Ok(directory);
    }
    let work = tempfile::tempdir_in(place).map_err(|error| error.to_string())?;
    let run = |words: &[&str]| {
        let output =
            Command::new(words[0]).args(&words[1..]).current_dir(work.path()).stdin(Stdio::null()).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                Err(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("").to_string())
            }
            Err(error) => Err(format!("{}: {error}", words[0])),
        }
    };
    run(&["timeout", DOWNLOAD_SECONDS, "apt-get", "-q", "-o", "Acquire::Retries=0", "download", package])?;
    run(&["sh", "-c", "dpkg -x ./*.deb content"])?;
    match std::fs::rename(work.path().join("content"), &directory) {
        // Another test was faster.
        Err(error) if !directory.exists() => Err(error.to_string()),
        _ => Ok(directory),
    }
}
