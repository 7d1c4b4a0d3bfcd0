//! The walk-through, the init script and half a minute of torture on two hosts that are made on this machine: scripts in
//! tests/hosts, which need root and some programs of the system. Without them the tests say what is missing and pass.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Exit status of a script that cannot run here.
const SKIPPED: i32 = 77;
/// Two pairs of hosts at a time would be too much for a small machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The directory of the examples that were built together with this test.
fn host_programs() -> PathBuf {
    let test = std::env::current_exe().expect("path of this test");
    let profile = test.parent().and_then(Path::parent).expect("directory of the profile");
    profile.join("examples")
}

fn run(script: &str, environment: &[(&str, &str)]) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let variant = environment.first().map_or("", |(name, _)| name);
    let log_path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{script}{variant}.log"));
    let log = File::create(&log_path).expect("log file");
    let mut command = Command::new(top.join("tests/hosts").join(script));
    if std::env::var_os("DRBDBOX").is_none() {
        command.env("DRBDBOX", env!("CARGO_BIN_EXE_drbdbox"));
    }
    finish(script, command, environment, &log_path, log);
}

fn finish(script: &str, mut command: Command, environment: &[(&str, &str)], log_path: &Path, log: File) {
    if std::env::var_os("HOST_PROGRAMS").is_none() {
        command.env("HOST_PROGRAMS", host_programs());
    }
    let status = command
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("log file"))
        .stderr(log)
        .status()
        .unwrap_or_else(|error| panic!("{script}: {error}"));
    let text = std::fs::read(log_path).expect("log file");
    let text = String::from_utf8_lossy(&text);
    match status.code() {
        Some(0) => {}
        Some(SKIPPED) => {
            let why: Vec<&str> = text.lines().collect();
            println!("SKIPPED: tests/hosts/{script}: {}", why.join("; "));
        }
        _ => panic!("{script}: {status}; its output ({}):\n{text}", log_path.display()),
    }
}

#[test]
fn the_how_to_works_from_the_first_command_to_the_last() {
    run("demo.sh", &[]);
}

#[test]
fn the_package_and_five_commands_make_a_mirror() {
    run("rhel5.sh", &[]);
}

#[test]
fn cluster_managers_and_their_handlers_work_with_daemons() {
    run("cluster.sh", &[]);
}

#[test]
fn the_init_script_starts_stops_and_tells() {
    run("init-script.sh", &[]);
}

/// As a user without any privilege, and with the limit on locked memory that users have, also when the tests run as root.
#[test]
fn replication_works_without_root_over_nbd_servers() {
    const SCRIPT: &str = "demo-user.sh";
    // The user may not get to where the tests are.
    let place = tempfile::tempdir().expect("directory for the user");
    let everybody = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(place.path(), everybody).expect("directory for the user");
    let program = std::env::var_os("DRBDBOX").unwrap_or_else(|| env!("CARGO_BIN_EXE_drbdbox").into());
    for (from, to) in [(Path::new("tests/hosts").join(SCRIPT), SCRIPT), (program.into(), "drbdbox")] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(from);
        std::fs::copy(from, place.path().join(to)).expect("copy for the user");
    }
    let log_path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{SCRIPT}.log"));
    let log = File::create(&log_path).expect("log file");
    let script = place.path().join(SCRIPT);
    let command = if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("prlimit");
        command.args([
            "--memlock=8388608:8388608",
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ]);
        command.args(["--inh-caps=-all", "--bounding-set=-all"]).arg(script);
        command
    } else {
        Command::new(script)
    };
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let program = place.path().join("drbdbox").display().to_string();
    let directory = place.path().display().to_string();
    finish(SCRIPT, command, &[("DRBDBOX", &program), ("TMPDIR", &directory)], &log_path, log);
}

/// The release, for only that has a C library that can do without newer calls: two daemons, first copy, writes, failover,
/// a crash and the resync after it, with the system calls that Linux 2.6.18 has.
#[test]
fn the_release_needs_no_system_call_that_linux_2_6_18_lacks() {
    let floor = host_programs().join("kernel-floor");
    let program = std::env::var_os("DRBDBOX").map(PathBuf::from);
    let missing = match &program {
        _ if cfg!(not(target_arch = "x86_64")) => Some("the filter is for x86_64"),
        _ if !floor.exists() => Some("no kernel-floor was built"),
        None => Some("DRBDBOX does not name a release (make test does)"),
        Some(program) if !is_of_musl(program) => {
            Some("the release is not built for musl (rustup target add)")
        }
        Some(_) => None,
    };
    if let Some(missing) = missing {
        println!("SKIPPED: the system calls of Linux 2.6.18: {missing}");
        return;
    }
    run("demo-user.sh", &[("UNDER", &floor.display().to_string())]);
}

/// Static, and without the texts of the GNU C library.
fn is_of_musl(program: &Path) -> bool {
    let bytes = std::fs::read(program).unwrap_or_default();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    !has(b"ld-linux") && !has(b"The futex facility returned an unexpected error code")
}

/// Another seed each time; a failure names it.
#[test]
fn nothing_acknowledged_is_lost_whatever_happens_to_daemons_hosts_disks_and_network() {
    run("torture.sh", &[("TORTURE_SECONDS", "30")]);
}
