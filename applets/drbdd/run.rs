//! The daemon's life: start, signals, end.

use super::options::Options;
use drbdbox::control::{Reply, Server};
use drbdbox::engine::daemon::Daemon;
use drbdbox::engine::doors::DoorKind;
use drbdbox::engine::log::LogSink;
use drbdbox::engine::shared::Shared;
use drbdbox::engine::{adoption, proc_file, running, watchdog};
use drbdbox::export::predecessor::{clean_after_dead_daemon, Kind};
use drbdbox::sys::process::{self, PidFile, Ready};
use drbdbox::sys::sync::{channel, Receiver, Sender};
use drbdbox::sys::syslog::{self, Syslog};
use drbdbox::sys::{build, paths};
use log::LevelFilter;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{umask, Mode};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A second signal within this time ends the daemon in any case.
const INSIST: Duration = Duration::from_secs(10);

/// Runs until it is ended. Returns the exit status.
pub fn in_foreground(options: Options) -> u8 {
    env_logger::Builder::new().filter_level(options.log_level).format_target(false).init();
    match serve(options, None) {
        Ok(()) => 0,
        Err(text) => {
            eprintln!("drbdd: {text}");
            1
        }
    }
}

/// Goes to the background. Returns the exit status of the starter: whether the daemon serves.
pub fn in_background(options: Options) -> u8 {
    let started = process::start_daemon(|ready| {
        to_syslog(options.log_level);
        match serve(options, Some(ready)) {
            Ok(()) => 0,
            Err(text) => {
                log::error!("{text}");
                1
            }
        }
    });
    match started {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("drbdd: {error}");
            1
        }
    }
}

fn to_syslog(level: LevelFilter) {
    let logger = Syslog::new(Path::new(syslog::SOCKET), "drbdd");
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
}

/// A thread that dies takes the daemon with it: a half-dead daemon would hold devices without serving them,
/// while a dead one is seen at once, by users and by the peer.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let text = format!("thread '{}': {panic}", thread.name().unwrap_or("?"));
        log::error!(target: "alert", "defect in the program, ending at once: {text}");
        eprintln!("{text}");
        std::process::abort();
    }));
}

/// What the main thread waits for.
enum Event {
    /// SIGTERM or SIGINT.
    Terminate,
    /// A client has had everything taken down.
    Stop,
    /// An attempt to take everything down has ended.
    Down(Result<(), Reply>),
}

/// Serves until the end. `ready`: who started the daemon waits for this.
fn serve(options: Options, ready: Option<Ready>) -> Result<(), String> {
    let mut ready = ready;
    let result = start(options).and_then(|running| {
        if let Some(ready) = ready.take() {
            ready.succeed();
        }
        running.main_loop()
    });
    if let (Err(text), Some(ready)) = (&result, ready) {
        ready.fail(text);
    }
    result
}

/// A daemon that serves.
struct Running {
    daemon: Arc<Daemon>,
    server: Server,
    proc_writer: thread::JoinHandle<()>,
    _pid_file: PidFile,
    events: Receiver<Event>,
    sender: Sender<Event>,
}

fn start(options: Options) -> Result<Running, String> {
    abort_on_panic();
    umask(Mode::from_bits_truncate(0o022));
    // Before any thread is started: all of them leave the signals to the one that waits for them.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block().map_err(|error| format!("block signals: {error}"))?;
    make_run_directory(&options.config.run_directory)?;
    let pid_file = PidFile::create(&paths::pid_file()).map_err(|error| error.to_string())?;
    log::info!(
        "drbdbox {} (compatible with DRBD 8.3.16/8.4.11, proto 86-{})",
        build::RELEASE,
        options.config.protocol_max
    );
    for (what, error) in process::protect() {
        // Without privileges none of it works; with them, most of it does.
        log::debug!("cannot {what}: {error}");
    }
    let mut config = options.config;
    config.door = config.door.choose();
    let log = LogSink::new(LogSink::to_log_crate()).map_err(|error| format!("start a thread: {error}"))?;
    let shared = Shared::new(config, log);
    let daemon = Daemon::new(shared);
    let (sender, events) = channel();
    let stop = sender.clone();
    daemon.on_stop_request(Box::new(move || {
        stop.send(Event::Stop);
    }));
    // What the daemon before left goes, also of minors that do not come back, and also if this daemon has no nodes: the dead
    // one may have had some. But a door of the same kind may go on with its device.
    let config = &daemon.shared.config;
    let (run, devices) = (&config.run_directory, &config.device_directory);
    let may_go_on = |kind| kind == Kind::Nbd && config.door == DoorKind::NbdKernel;
    clean_after_dead_daemon(run, devices, |_, kind| may_go_on(kind));
    if let Some(limit) = options.stuck_after {
        let end = Box::new(|| std::process::abort());
        watchdog::start(&daemon, limit, end).map_err(|error| format!("start a thread: {error}"))?;
    }
    running::restore(&daemon, &paths::running());
    clean_after_dead_daemon(run, devices, |minor, _| daemon.shared.doors.find(minor).is_some());
    adoption::start(&daemon);
    daemon.shared.running.start(&paths::running());
    let socket = paths::socket();
    let access = options.access;
    let server =
        Server::start(&socket, access, daemon.clone()).map_err(|e| paths::write_failure(&socket, &e))?;
    let proc_writer = proc_file::start(Arc::clone(&daemon), paths::proc_text())
        .map_err(|error| paths::write_failure(&paths::proc_text(), &error))?;
    let of_thread = sender.clone();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || wait_for_signals(&signals, &of_thread))
        .map_err(|error| format!("start a thread: {error}"))?;
    Ok(Running { daemon, server, proc_writer, _pid_file: pid_file, events, sender })
}

fn wait_for_signals(signals: &SigSet, sender: &Sender<Event>) {
    loop {
        // SIGHUP has no meaning: there is no configuration file to be read again.
        let ends = matches!(signals.wait(), Ok(Signal::SIGTERM | Signal::SIGINT));
        if ends && !sender.send(Event::Terminate) {
            return;
        }
    }
}

impl Running {
    fn main_loop(self) -> Result<(), String> {
        let mut asked: Option<Instant> = None;
        // The channel never closes: `self.sender` is one of its ends.
        while let Some(event) = self.events.receive() {
            match event {
                Event::Terminate => {
                    let insists = asked.replace(Instant::now()).is_some_and(|at| at.elapsed() < INSIST);
                    if insists {
                        log::warn!("ending although devices may be in use");
                    }
                    self.take_down(insists);
                }
                Event::Down(Ok(())) | Event::Stop => break,
                Event::Down(Err(Reply::Code { info, .. })) => {
                    for line in info {
                        log::error!("cannot end: {line}");
                    }
                    let seconds = INSIST.as_secs();
                    log::error!("umount and stop what uses the devices; a second signal within {seconds} s ends the daemon in any case");
                }
                Event::Down(Err(_)) => {}
            }
        }
        let Running { daemon, server, proc_writer, .. } = self;
        drop(server);
        daemon.shared.end();
        let _ = proc_writer.join();
        log::info!("ended");
        Ok(())
    }

    /// In a thread: it may wait for frozen I/O, and the second signal must be heard.
    fn take_down(&self, force: bool) {
        let (daemon, sender) = (Arc::clone(&self.daemon), self.sender.clone());
        let spawned = thread::Builder::new().name("end".into()).spawn(move || {
            sender.send(Event::Down(daemon.take_all_down(force)));
        });
        if let Err(error) = spawned {
            log::error!("start a thread: {error}");
        }
    }
}

/// Makes RUNDIR, and leads /var/run/drbd to it where that is another place. spec/decisions.md 4.
fn make_run_directory(directory: &Path) -> Result<(), String> {
    let result = DirBuilder::new().recursive(true).mode(0o755).create(directory);
    result.map_err(|error| paths::write_failure(directory, &error))?;
    let old = Path::new("/var/run/drbd");
    if directory == Path::new("/run/drbd") && fs::symlink_metadata(old).is_err() {
        if let Err(error) = std::os::unix::fs::symlink(directory, old) {
            if error.kind() != io::ErrorKind::NotFound {
                log::warn!("{}: {error}", old.display());
            }
        }
    }
    Ok(())
}
