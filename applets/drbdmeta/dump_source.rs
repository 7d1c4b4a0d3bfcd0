//! Where a dump is read from: a file, or a stream that can be read only once.
//!
//! `restore-md` reads a dump twice, first to see that all of it is right, then to write it: the bitmap of 16 TiB does not
//! fit into memory. What comes through a pipe is kept meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use super::call::{Call, Failure};
use super::progress::Progress;
use super::ui::say_err;
use super::{EXIT_ERROR, EXIT_USAGE};
use drbdbox::meta::dump_parser::{DumpReader, Fields, ParseError};
use drbdbox::meta::Format;
use drbdbox::sys::block_device::error_text;

/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 16;
/// So much of a stream is kept in memory; what is longer goes to a file. A rescue system need not have room for one, and
/// only the dumps of large bitmaps without any pattern need it.
const KEPT_IN_MEMORY_MAX: usize = 4 << 20;
/// For so long a pipe is waited for without a word, in milliseconds: whoever uncompresses the dump starts at the same time.
const SILENT_WAIT: u16 = 2000;

/// A dump that nobody has looked at.
pub enum Source {
    /// A regular file, and its length.
    File(File, u64),
    /// A pipe or a device.
    Stream(File),
    /// Standard input.
    Stdin,
}

/// A dump that is right from its first byte to the last.
pub struct Checked {
    /// What it says in front of the bitmap.
    pub fields: Fields,
    /// Words of the bitmap.
    pub words: u64,
    format: Format,
    text: Text,
}

/// A text that can be read again.
enum Text {
    File(File),
    Memory(Vec<u8>),
}

impl Source {
    /// Opens the argument's file; without one it is stdin.
    pub fn open(call: &Call) -> Result<Source, Failure> {
        let Some(path) = call.argument.as_deref() else {
            return Ok(Source::Stdin);
        };
        let refused = |why: &str| Failure::new(EXIT_USAGE, format!("open of '{path}' failed.{why}"));
        if is_stdin(Path::new(path)) {
            return Ok(Source::Stdin);
        }
        // Without waiting: what it is has to be known before anything is waited for.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let (metadata, file) = match opened.and_then(|file| Ok((file.metadata()?, file))) {
            Ok(opened) => opened,
            // The system's answer to all of them.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
                return Err(refused(
                    " It is a socket, or a device that is not there: a dump is a file or a pipe.",
                ))
            }
            Err(_) => return Err(refused("")),
        };
        let kind = metadata.file_type();
        if kind.is_file() {
            return Ok(Source::File(file, metadata.len()));
        }
        if kind.is_dir() {
            return Err(refused(" It is a directory: a dump is a file or a pipe."));
        }
        if kind.is_fifo() {
            wait_for_writer(&file, path);
        }
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_RDONLY))
            .map_err(|errno| refused(&format!(" {}", errno.desc())))?;
        Ok(Source::Stream(file))
    }

    /// Reads all of it, and keeps nothing.
    pub fn verify(self, format: Format) -> Result<(), Failure> {
        let checked = match self {
            Source::File(file, bytes) => check(Watched::new(file, Some(bytes)), format),
            Source::Stream(file) => check(Watched::new(file, None), format),
            Source::Stdin => check(Watched::new(io::stdin().lock(), None), format),
        };
        checked.map(|_| ()).map_err(failure)
    }

    /// Reads all of it, and keeps what cannot be read again.
    pub fn check(self, format: Format) -> Result<Checked, Failure> {
        let mut kept = Kept::new(KEPT_IN_MEMORY_MAX);
        let (fields, words, text) = match self {
            Source::File(mut file, bytes) => {
                let (fields, words) = check(Watched::new(&mut file, Some(bytes)), format).map_err(failure)?;
                (fields, words, Text::File(file))
            }
            Source::Stream(file) => {
                let input = Watched::new(Keeping { input: file, kept: &mut kept }, None);
                let (fields, words) = check(input, format).map_err(failure)?;
                (fields, words, kept.text)
            }
            Source::Stdin => {
                // The same buffer as the questions': nothing is lost in between.
                let input = Keeping { input: io::stdin().lock(), kept: &mut kept };
                let (fields, words) = check(Watched::new(input, None), format).map_err(failure)?;
                (fields, words, kept.text)
            }
        };
        Ok(Checked { fields, words, format, text })
    }
}

/// Whether a path leads to what this program reads as its standard input, and that can be read only once. The questions read
/// from there, too: it has to be read through the same buffer.
fn is_stdin(path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (!metadata.is_file()).then(|| (metadata.dev(), metadata.ino()));
    let stdin = fs::metadata("/proc/self/fd/0").ok().and_then(identity);
    stdin.is_some() && fs::metadata(path).ok().and_then(identity) == stdin
}

/// Waits until somebody has written to a pipe, or has left it, and says so: nobody may ever come. The device is not open yet.
fn wait_for_writer(file: &File, path: &str) {
    let wait = |timeout| {
        let mut descriptors = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        poll(&mut descriptors, timeout)
    };
    if wait(PollTimeout::from(SILENT_WAIT)) != Ok(0) {
        return;
    }
    say_err!("'{path}' is a pipe that nobody has written to: waiting (Ctrl-C ends this)");
    // Whatever else may happen, reading tells.
    while wait(PollTimeout::NONE) == Err(Errno::EINTR) {}
}

fn failure(error: ParseError) -> Failure {
    Failure::new(EXIT_ERROR, error.to_string())
}

fn check(input: impl Read, format: Format) -> Result<(Fields, u64), ParseError> {
    let (fields, rest) = DumpReader::open(BufReader::with_capacity(READ_BYTES, input), format)?;
    Ok((fields, rest.count_words()?))
}

impl Checked {
    /// The words of the bitmap, once more.
    pub fn runs(&mut self) -> Result<Runs<'_>, Failure> {
        let input: Box<dyn Read> = match &mut self.text {
            Text::File(file) => {
                file.rewind().map_err(|error| failure(error.into()))?;
                Box::new(file)
            }
            Text::Memory(bytes) => Box::new(bytes.as_slice()),
        };
        let opened = DumpReader::open(BufReader::with_capacity(READ_BYTES, input), self.format);
        let (fields, reader) = opened.map_err(failure)?;
        if fields != self.fields {
            return Err(changed());
        }
        Ok(Runs { reader, remaining: self.words })
    }
}

/// Somebody wrote to the file between the two looks at it.
fn changed() -> Failure {
    Failure::new(EXIT_ERROR, "the dump was changed while it was read; the meta data were not restored")
}

/// The words of a checked dump.
pub struct Runs<'a> {
    reader: DumpReader<BufReader<Box<dyn Read + 'a>>>,
    remaining: u64,
}

impl Runs<'_> {
    /// The next words, as (count, word).
    pub fn next_run(&mut self) -> Result<Option<(u64, u64)>, Failure> {
        match self.reader.next_run().map_err(failure)? {
            Some((count, word)) => {
                self.remaining = self.remaining.checked_sub(count).ok_or_else(changed)?;
                Ok(Some((count, word)))
            }
            None if self.remaining > 0 => Err(changed()),
            None => Ok(None),
        }
    }
}

/// Shows how much was read.
struct Watched<R> {
    input: R,
    done: u64,
    total: Option<u64>,
    progress: Progress,
}

impl<R> Watched<R> {
    fn new(input: R, total: Option<u64>) -> Watched<R> {
        Watched { input, done: 0, total, progress: Progress::new("reading the dump") }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.done += count as u64;
        match self.total {
            Some(total) => self.progress.show(self.done.min(total), total),
            None => self.progress.show_bytes(self.done),
        }
        Ok(count)
    }
}

/// Keeps what is read.
struct Keeping<'a, R> {
    input: R,
    kept: &'a mut Kept,
}

impl<R: Read> Read for Keeping<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.kept.add(&buffer[..count])?;
        Ok(count)
    }
}

/// A copy of a stream.
struct Kept {
    text: Text,
    in_memory_max: usize,
}

impl Kept {
    fn new(in_memory_max: usize) -> Kept {
        Kept { text: Text::Memory(Vec::new()), in_memory_max }
    }

    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Text::Memory(kept) = &mut self.text {
            if kept.len() + bytes.len() <= self.in_memory_max {
                kept.extend_from_slice(bytes);
                return Ok(());
            }
        }
        let directory = std::env::temp_dir();
        self.add_to_file(&directory, bytes).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "it is too long for memory, and cannot be kept in {}: {}; name its file on the command line, or a \
                     directory with room in TMPDIR",
                    directory.display(),
                    error_text(&error)
                ),
            )
        })
    }

    fn add_to_file(&mut self, directory: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Text::Memory(kept) = &self.text {
            let mut file = unnamed_file(directory)?;
            file.write_all(kept)?;
            self.text = Text::File(file);
        }
        match &mut self.text {
            Text::File(file) => file.write_all(bytes),
            Text::Memory(_) => Ok(()),
        }
    }
}

/// A file that nobody else can open, and that goes with this process.
fn unnamed_file(directory: &Path) -> io::Result<File> {
    let path = directory.join(format!("drbdmeta-{}.dump", std::process::id()));
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_kept_whole_wherever_it_is_kept() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i % 251) as u8).collect();
        for (max, in_memory) in [(10_000, true), (9_999, false), (0, false)] {
            let mut kept = Kept::new(max);
            let mut input = Keeping { input: bytes.as_slice(), kept: &mut kept };
            io::copy(&mut input, &mut io::sink()).unwrap();
            let found = match kept.text {
                Text::Memory(found) => {
                    assert!(in_memory);
                    found
                }
                Text::File(mut file) => {
                    assert!(!in_memory);
                    file.rewind().unwrap();
                    let mut found = Vec::new();
                    file.read_to_end(&mut found).unwrap();
                    found
                }
            };
            assert!(found == bytes);
        }
    }

    #[test]
    fn a_stream_without_a_place_is_an_error() {
        let mut kept = Kept::new(0);
        assert!(kept.add_to_file(Path::new("/nonexistent"), b"x").is_err());
        assert!(matches!(kept.text, Text::Memory(_)));
    }
}
