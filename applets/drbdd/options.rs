//! Options of the daemon.

use argh::FromArgs;
use drbdbox::control::access::{self, Access};
use drbdbox::engine::doors::DoorKind;
use drbdbox::engine::helpers::Program;
use drbdbox::engine::shared::Config;
use drbdbox::export::nbd_server::Listen;
use drbdbox::sys::paths;
use drbdbox::wire::ProtocolVersion;
use log::LevelFilter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The replication daemon of drbdbox. drbdadm and drbdsetup start it when they need it,
/// unless DRBDD_AUTOSTART=no is in their environment.
///
/// SIGTERM takes all resources down and ends it; while a device is in use it says who uses it and goes on. A
/// second SIGTERM within ten seconds ends it in any case: users of the devices see errors then.
#[derive(FromArgs, Debug)]
#[argh(
    note = "Files: RUNDIR/drbdd.sock (control), drbdd.pid, proc (text of /proc/drbd), running (configuration); \
               RUNDIR is /run/drbd, or /var/run/drbd where /run does not exist, or $DRBDBOX_RUNDIR."
)]
struct Arguments {
    /// stay in the foreground and log to stderr (the default)
    #[argh(switch)]
    foreground: bool,

    /// go to the background when ready, and log to syslog
    #[argh(switch)]
    background: bool,

    /// newest protocol version to offer, 86 to 101 (default 101); up to 97 it presents itself as DRBD 8.3
    #[argh(option, default = "101")]
    protocol_max: u32,

    /// how applications get at the devices: nbd or fuse-loop (both: /dev/drbdN), nbd-server, none, or auto (default:
    /// nbd if the kernel has it, else fuse-loop)
    #[argh(option, default = "String::from(\"auto\")")]
    door: String,

    /// where the NBD server listens: a path or ADDRESS:PORT (default: RUNDIR/nbd.sock)
    #[argh(option)]
    nbd_listen: Option<String>,

    /// off, error, warn, info (default), debug
    #[argh(option, default = "LevelFilter::Info")]
    log_level: LevelFilter,

    /// minors of 8.3's commands are below this number, 1 to 256 (default 256; the module's is 32)
    #[argh(option, default = "256")]
    minor_count: u32,

    /// program that runs handlers, called as PROGRAM HANDLER minor-N (default: this one, as /sbin/drbdadm)
    #[argh(option)]
    usermode_helper: Option<PathBuf>,

    /// group whose members may give orders as root may (name or number; default: none)
    #[argh(option)]
    admin_group: Option<String>,

    /// group whose members may see the state, without secrets (name or number; default: none)
    #[argh(option)]
    status_group: Option<String>,

    /// threads of a door for a device, where it needs some (default 8)
    #[argh(option, default = "8")]
    door_threads: usize,

    /// seconds after which a thread that does not get on is reported, and the daemon ended unless a device that still works
    /// is in use (default 60; 0: never)
    #[argh(option, default = "60")]
    stuck_after: u64,

    /// directory of the device nodes (default /dev)
    #[argh(option, default = "PathBuf::from(\"/dev\")")]
    device_directory: PathBuf,
}

/// Largest `--stuck-after`: a day.
const STUCK_AFTER_MAX: u64 = 86_400;

/// What the daemon was told.
#[derive(Debug)]
pub struct Options {
    /// Not in the background.
    pub foreground: bool,
    /// Least important lines that are logged.
    pub log_level: LevelFilter,
    /// Who may use the control socket, beside root.
    pub access: Access,
    /// How long a thread may not get on; `None`: as long as it likes.
    pub stuck_after: Option<Duration>,
    /// For the engine.
    pub config: Config,
}

/// The text of `--help`.
pub fn help() -> String {
    Arguments::from_args(&["drbdd"], &["--help"]).err().map(|exit| exit.output).unwrap_or_default()
}

impl Options {
    /// Reads the command line; prints help or what is wrong. `Err`: the exit status.
    pub fn parse(args: &[String]) -> Result<Options, u8> {
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        let (name, rest) = words.split_first().map_or(("drbdd", &[][..]), |(name, rest)| (*name, rest));
        let name = name.rsplit('/').next().unwrap_or(name);
        let arguments = match Arguments::from_args(&[name], rest) {
            Ok(arguments) => arguments,
            Err(exit) if exit.status.is_ok() => {
                crate::out(&format!("{}\n", exit.output));
                return Err(0);
            }
            Err(exit) => {
                eprintln!("{}", exit.output);
                return Err(2);
            }
        };
        Options::check(arguments).map_err(|text| {
            eprintln!("{name}: {text}");
            2
        })
    }

    fn check(arguments: Arguments) -> Result<Options, String> {
        let protocol_max = ProtocolVersion::new(arguments.protocol_max)
            .ok_or_else(|| format!("--protocol-max {}: must be 86 to 101", arguments.protocol_max))?;
        if !(1..=256).contains(&arguments.minor_count) {
            return Err(format!("--minor-count {}: must be 1 to 256", arguments.minor_count));
        }
        if !(1..=256).contains(&arguments.door_threads) {
            return Err(format!("--door-threads {}: must be 1 to 256", arguments.door_threads));
        }
        if arguments.stuck_after > STUCK_AFTER_MAX {
            return Err(format!("--stuck-after {}: must be 0 to {STUCK_AFTER_MAX}", arguments.stuck_after));
        }
        let group = |option: &str, name: Option<String>| {
            let found = name.map(|name| access::group(&name));
            found.transpose().map_err(|error| format!("--{option} {error}"))
        };
        let access = Access {
            change: group("admin-group", arguments.admin_group)?,
            look: group("status-group", arguments.status_group)?,
        };
        let run_directory = paths::rundir();
        let listen = match arguments.nbd_listen {
            None => Listen::Unix(run_directory.join("nbd.sock")),
            Some(text) => match text.parse::<SocketAddr>() {
                Ok(address) => Listen::Tcp(address),
                Err(_) if text.contains('/') => Listen::Unix(PathBuf::from(text)),
                Err(_) => {
                    return Err(format!("--nbd-listen {text}: neither a path nor ADDRESS:PORT"));
                }
            },
        };
        let door = match arguments.door.as_str() {
            "auto" => DoorKind::Auto,
            "nbd" => DoorKind::NbdKernel,
            "fuse-loop" => DoorKind::FuseLoop,
            "nbd-server" => DoorKind::NbdServer(listen),
            "none" => DoorKind::None,
            other => {
                return Err(format!("--door {other}: must be auto, nbd, fuse-loop, nbd-server or none"));
            }
        };
        let helper = match arguments.usermode_helper {
            None => Program::default(),
            Some(program) => Program { name: program.display().to_string(), executable: program },
        };
        Ok(Options {
            foreground: arguments.foreground || !arguments.background,
            log_level: arguments.log_level,
            access,
            stuck_after: (arguments.stuck_after > 0).then(|| Duration::from_secs(arguments.stuck_after)),
            config: Config {
                protocol_max,
                helper,
                door,
                device_directory: arguments.device_directory,
                run_directory,
                door_threads: arguments.door_threads,
                minor_count: arguments.minor_count,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, u8> {
        let args: Vec<String> = ["/sbin/drbdd"].iter().chain(words).map(|s| s.to_string()).collect();
        Options::parse(&args)
    }

    #[test]
    fn options_are_checked() {
        let options = parse(&[]).unwrap();
        assert!(options.foreground);
        assert!(!parse(&["--background"]).unwrap().foreground);
        assert_eq!(options.config.door, DoorKind::Auto);
        assert_eq!(parse(&["--door", "nbd"]).unwrap().config.door, DoorKind::NbdKernel);
        assert_eq!(parse(&["--door", "fuse-loop"]).unwrap().config.door, DoorKind::FuseLoop);
        assert_eq!(options.config.helper.name, "/sbin/drbdadm");
        assert_eq!(options.stuck_after, Some(Duration::from_secs(60)));
        assert_eq!(parse(&["--stuck-after", "0"]).unwrap().stuck_after, None);
        let options = parse(&["--door", "nbd-server", "--nbd-listen", "127.0.0.1:10809"]).unwrap();
        assert!(matches!(options.config.door, DoorKind::NbdServer(Listen::Tcp(_))));
        for wrong in [
            &["--protocol-max", "102"][..],
            &["--door", "window"],
            &["--nbd-listen", "somewhere"],
            &["--minor-count", "0"],
            &["--stuck-after", "86401"],
            &["--stuck-after", "-1"],
            &["--status-group", "no-such-group"],
            &["--no-such-option"],
        ] {
            assert_eq!(parse(wrong).unwrap_err(), 2, "{wrong:?}");
        }
        assert_eq!(parse(&["--help"]).unwrap_err(), 0);
    }
}
