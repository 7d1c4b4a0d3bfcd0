//! A device (a sparse file), directories for locks and records, and drbdmeta on them.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::case::{Image, Stdin, BLOCK};
use nix::unistd::{lseek, Whence};

/// The binary under test: another one than that of this build, such as the 32-bit one, if `DRBDMETA_TESTED` names it.
fn program() -> OsString {
    std::env::var_os("DRBDMETA_TESTED").unwrap_or_else(|| env!("CARGO_BIN_EXE_drbdbox").into())
}

/// One device and its surroundings.
pub struct Bench {
    dir: tempfile::TempDir,
    /// A loop device over the file: then that is the device.
    node: Option<PathBuf>,
}

/// What a call did.
pub struct Outcome {
    pub exit: i32,
    pub stdout: String,
    pub stderr: String,
    /// Both streams in their order, for calls with a terminal.
    pub merged: String,
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(node) = &self.node {
            let status = Command::new("losetup").arg("-d").arg(node).status();
            if !status.is_ok_and(|status| status.success()) {
                eprintln!("{} stays", node.display());
            }
        }
    }
}

/// The words of a line.
pub fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_string).collect()
}

impl Bench {
    /// A device of `bytes` zeroes; `None` if no file system here can hold such a file: ext4 ends at
    /// 16 TiB, tmpfs does not.
    pub fn new(bytes: u64) -> Option<Bench> {
        ["", "/dev/shm"].iter().find_map(|place| {
            let dir = match *place {
                "" => tempfile::tempdir(),
                place => tempfile::tempdir_in(place),
            };
            let bench = Bench { dir: dir.ok()?, node: None };
            bench.resize(bytes).ok().map(|()| bench)
        })
    }

    /// As [`Bench::new`], a block device. Needs root and loop devices.
    pub fn on_block_device(bytes: u64) -> Option<Bench> {
        Bench::new(bytes)?.into_block_device(&[])
    }

    /// The same content on a block device that cannot be written.
    pub fn into_read_only_block_device(self) -> Option<Bench> {
        self.into_block_device(&["--read-only"])
    }

    fn into_block_device(mut self, options: &[&str]) -> Option<Bench> {
        let output = Command::new("losetup")
            .args(options)
            .args(["--find", "--show"])
            .arg(self.file())
            .output()
            .ok()?;
        let node = String::from_utf8_lossy(&output.stdout).trim().to_string();
        if !output.status.success() {
            return None;
        }
        self.node = Some(node.into());
        Some(self)
    }

    pub fn is_block_device(&self) -> bool {
        self.node.is_some()
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("device")
    }

    pub fn device(&self) -> PathBuf {
        self.node.clone().unwrap_or_else(|| self.file())
    }

    pub fn record(&self) -> PathBuf {
        self.dir.path().join("drbd-minor-0.lkbd")
    }

    /// v06's meta data.
    pub fn counters_file(&self) -> PathBuf {
        self.dir.path().join("drbd0")
    }

    pub fn lock_file(&self) -> PathBuf {
        self.dir.path().join("drbd-147-0")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self) -> File {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.open(self.file()).expect("device file")
    }

    pub fn resize(&self, bytes: u64) -> std::io::Result<()> {
        self.open().set_len(bytes)?;
        if let Some(node) = &self.node {
            let status = Command::new("losetup").arg("--set-capacity").arg(node).status()?;
            assert!(status.success(), "losetup --set-capacity");
        }
        Ok(())
    }

    pub fn size(&self) -> u64 {
        self.open().metadata().expect("device file").len()
    }

    pub fn write(&self, offset: u64, bytes: &[u8]) {
        self.open().write_all_at(bytes, offset).expect("write");
    }

    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.open().read_exact_at(&mut bytes, offset).expect("read");
        bytes
    }

    pub fn load(&self, image: &Image) {
        for (offset, block) in image {
            let len = (self.size() - offset).min(BLOCK as u64) as usize;
            self.write(*offset, &block[..len]);
        }
    }

    /// Every non-zero block from byte `from` on; holes of the file are not read.
    pub fn image(&self, from: u64) -> Image {
        let file = self.open();
        let mut image = Image::new();
        let mut at = from as i64;
        while let Ok(data) = lseek(file.as_fd(), at, Whence::SeekData) {
            let hole = lseek(file.as_fd(), data, Whence::SeekHole).expect("hole after data");
            let mut offset = (data as u64 / BLOCK as u64 * BLOCK as u64).max(from);
            while offset < hole as u64 {
                let len = (self.size() - offset).min(BLOCK as u64) as usize;
                let mut block = self.read(offset, len);
                block.resize(BLOCK, 0);
                if block.iter().any(|byte| *byte != 0) {
                    image.insert(offset, block);
                }
                offset += BLOCK as u64;
            }
            at = hole;
        }
        image
    }

    /// Runs drbdmeta; `DEV` and other place holders in `words` are replaced, and put back in what it prints.
    pub fn run(&self, words: &[String], stdin: &Stdin) -> Outcome {
        let mut command = Command::new(program());
        command.arg0("drbdmeta");
        self.run_command(command, words, stdin)
    }

    /// As [`Bench::run`], with the words of a line and nothing to read.
    pub fn call(&self, line: &str) -> Outcome {
        self.run(&words(line), &Stdin::Empty)
    }

    /// As [`Bench::call`]; it has to succeed.
    pub fn done(&self, line: &str) -> Outcome {
        let outcome = self.call(line);
        assert_eq!(outcome.exit, 0, "{line}: {}", outcome.stderr);
        outcome
    }

    /// As [`Bench::run`]; requests that write behind byte `end` of a file fail.
    pub fn run_with_writes_failing_from(&self, end: u64, words: &[String], stdin: &Stdin) -> Outcome {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"", &(end / 512).to_string()])
            .arg(program())
            .arg("drbdmeta");
        self.run_command(command, words, stdin)
    }

    /// As [`Bench::run`]; the `number`th of these system calls on the device fails with EIO. Also returns whether there
    /// were so many. Needs strace.
    pub fn run_with_failing_call(&self, call: &str, number: usize, words: &[String]) -> (Outcome, bool) {
        let trace = self.path("trace");
        let mut command = Command::new(strace().expect("strace"));
        command
            .args(["-qq", "-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:error=EIO:when={number}")])
            .arg("-P")
            .arg(self.device())
            .arg("-o")
            .arg(&trace)
            .arg(program())
            .arg("drbdmeta");
        let outcome = self.run_command(command, words, &Stdin::Empty);
        let has_failed = std::fs::read_to_string(&trace).expect("trace").contains("(INJECTED)");
        (outcome, has_failed)
    }

    /// As [`Bench::run`], with so much memory (and a place for temporary files) as the test says.
    pub fn run_with_memory(&self, kib: u64, place: &Path, words: &[String], stdin: &Stdin) -> Outcome {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "ulimit -d \"$0\"; exec \"$@\"", &kib.to_string()])
            .arg(program())
            .arg("drbdmeta")
            .env("TMPDIR", place);
        self.run_command(command, words, stdin)
    }

    fn run_command(&self, mut command: Command, words: &[String], stdin: &Stdin) -> Outcome {
        let device = self.device().display().to_string();
        let merged_path = self.path("merged");
        command
            .current_dir(self.dir.path())
            .env("DRBDBOX_LIBDIR", self.dir.path())
            .env("DRBDBOX_LOCKDIR", self.dir.path())
            .env("DRBDBOX_RUNDIR", self.dir.path())
            // No pvs, whatever this machine has.
            .env("PATH", self.dir.path())
            .stdin(Stdio::null());
        for word in words {
            command.arg(if word == "DEV" { &device } else { word });
        }
        let input = match stdin {
            Stdin::Empty => None,
            Stdin::Terminal(answers) => Some(answers.join("\n") + "\n"),
            Stdin::Pipe(text) => Some(text.clone()),
        };
        if let Some(input) = input {
            let path = self.path("input");
            let mut file = File::create(&path).expect("input file");
            file.write_all(input.as_bytes()).expect("input file");
            command.stdin(File::open(&path).expect("input file"));
        }
        if let Stdin::Terminal(_) = stdin {
            let mut options = OpenOptions::new();
            options.create(true).append(true);
            std::fs::remove_file(&merged_path).ok();
            let out = options.open(&merged_path).expect("output file");
            command.stdout(out.try_clone().expect("output file"));
            command.stderr(out);
        } else {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let output = command.output().expect("drbdmeta runs");
        let merged = std::fs::read_to_string(&merged_path).unwrap_or_default();
        std::fs::remove_file(&merged_path).ok();
        let text = |bytes: &[u8]| self.mask(&String::from_utf8_lossy(bytes));
        Outcome {
            exit: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            merged: self.mask(&merged),
        }
    }

    /// Replaces what differs from run to run by the place holders of the vectors.
    pub fn mask(&self, text: &str) -> String {
        let dir = self.dir.path().display().to_string();
        let text = text
            .replace(&self.device().display().to_string(), "DEV")
            .replace(&self.record().display().to_string(), "/var/lib/drbd/drbd-minor-0.lkbd")
            .replace(&self.counters_file().display().to_string(), "/var/lib/drbd/drbd0")
            .replace(&self.lock_file().display().to_string(), "/var/lock/drbd-147-0")
            .replace(&dir, "DIR");
        let mut after_title = 0;
        let lines: Vec<String> = text
            .split('\n')
            .map(|line| {
                after_title += 1;
                if line == "# DRBD meta data dump" {
                    after_title = 0;
                }
                match after_title {
                    1 if line.starts_with("# ") && line.ends_with(']') => {
                        "# YYYY-MM-DD hh:mm:ss +ZZZZ [EPOCHSECONDS]".to_string()
                    }
                    2 if line.contains("> drbdmeta") => {
                        let call = line.split_once("> ").map_or(line, |(_, call)| call);
                        format!("# HOSTNAME> {call}")
                    }
                    _ => mask_pwrite(&mask_pid(line)),
                }
            })
            .collect();
        lines.join("\n")
    }
}

/// The program, if it is here and may trace.
pub fn strace() -> Option<PathBuf> {
    let directories = std::env::var_os("PATH")?;
    let program =
        std::env::split_paths(&directories).map(|place| place.join("strace")).find(|path| path.exists())?;
    let status = Command::new(&program).args(["-o", "/dev/null", "/bin/true"]).status();
    status.is_ok_and(|status| status.success()).then_some(program)
}

fn mask_pid(line: &str) -> String {
    match line.split_once(" currently held by pid:") {
        Some((start, _)) => format!("{start} currently held by pid:PID"),
        None => line.to_string(),
    }
}

/// The descriptor and the name of the routine that failed are the original's own affair.
pub fn mask_pwrite(line: &str) -> String {
    let Some(rest) = line.strip_prefix("pwrite(") else {
        return line.to_string();
    };
    let place = rest.split_once(',').map_or(rest, |(_, place)| place);
    match (place.split_once(") in "), place.split_once(" failed: ")) {
        (Some((request, _)), Some((_, error))) => {
            format!("pwrite(FD,{request}) in TAG failed: {error}")
        }
        _ => line.to_string(),
    }
}
