//! Files: `include`, and how a file is read. spec/config.md 1, 4.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::lexer::Lexer;
use super::model::FileName;
use super::parser::{Parser, Stop};
use super::pattern;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Most bytes of all files together.
const TOTAL_BYTES_MAX: usize = 32 << 20;
/// Deepest nesting of includes: below the number of files that a process may open.
const INCLUDE_DEPTH_MAX: u32 = 100;
/// Most files that one configuration may include.
const INCLUDES_MAX: u32 = 10_000;

impl Parser {
    pub(super) fn include(&mut self, name: &str, line: u32) -> Result<(), Stop> {
        let failed = format!("Failed to open include file '{name}'.");
        if self.config.file.absolute == STANDARD_INPUT {
            self.errors += 1;
            self.messages
                .push_str(&format!("chdir(\"{STANDARD_INPUT}\") failed: No such file or directory\n"));
            return Err(Stop(3));
        }
        let directory = match self.file.absolute.rfind('/') {
            Some(at) => self.file.absolute[..at.max(1)].to_string(),
            None => "/".to_string(),
        };
        let names = pattern::expand(Path::new(&directory), name);
        if names.is_empty() {
            match pattern::is_pattern(name) {
                true => self.warn(line, &format!("no file matches '{name}'")),
                false => self.record_at(line, &failed),
            }
        }
        for display in names {
            let path = Path::new(&directory).join(&display);
            self.included += 1;
            let allowed = self.depth < INCLUDE_DEPTH_MAX
                && self.included <= INCLUDES_MAX
                && self.bytes_read <= TOTAL_BYTES_MAX;
            let read = match allowed {
                true => read_included(&path),
                false => Err(io::Error::other("too many files; does one include itself?")),
            };
            let bytes = match read {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.record_at(line, &failed);
                    // The original does not say which of the files that match, nor why.
                    if display != name || error.kind() == io::ErrorKind::PermissionDenied {
                        self.messages.push_str(&format!("\t{display}: {error}\n"));
                    }
                    continue;
                }
            };
            self.bytes_read += bytes.len();
            let file = FileName { absolute: absolute_name(&path), display };
            let outer_file = std::mem::replace(&mut self.file, file);
            let outer_lexer = std::mem::replace(&mut self.lexer, Lexer::new(bytes));
            self.depth += 1;
            let result = self.top_level();
            self.depth -= 1;
            result?;
            self.file = outer_file;
            self.lexer = outer_lexer;
        }
        Ok(())
    }
}

/// The name of standard input in messages.
pub const STANDARD_INPUT: &str = "STDIN";

/// As [`read_limited`]; but only a regular file: opening a pipe would wait for ever.
fn read_included(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() || kind.is_file() {
        return read_stream(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"))
}

/// A file's bytes, unless there are too many of them (a device, for instance).
///
/// # Errors
/// Those of opening and reading, and `InvalidData` above 16 MiB.
pub fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    read_stream(File::open(path)?)
}

/// As [`read_limited`], from an open stream.
///
/// # Errors
/// Those of reading, and `InvalidData` above 16 MiB.
pub fn read_stream(stream: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "larger than 16 MiB"));
    }
    Ok(bytes)
}

/// The directory resolved, the last component as it is. spec/config.md 1.
pub fn absolute_name(path: &Path) -> String {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf());
    match path.file_name() {
        Some(name) => directory.join(name).to_string_lossy().into_owned(),
        None => directory.to_string_lossy().into_owned(),
    }
}
