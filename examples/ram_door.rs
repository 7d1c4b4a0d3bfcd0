//! A device in memory behind a door, to try a door by hand or to measure it:
//!
//! `ram_door MINOR MIB THREADS RUNDIR` serves /dev/drbdMINOR until its standard input ends.

use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use drbdbox::export::door::{Detach, Door};
use drbdbox::export::loop_door::{LoopDoor, LoopDoorConfig};
use drbdbox::export::ram::RamBackend;
use drbdbox::export::request::Limits;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [minor, mib, threads, run_directory] = arguments.as_slice() else {
        return Err("usage: ram_door MINOR MIB THREADS RUNDIR".into());
    };
    let limits = Limits { write_zeroes: true, discard: true, ..Limits::default() };
    let backend = RamBackend::new(mib.parse::<u64>()? << 20, limits);
    let mut door = LoopDoor::create(LoopDoorConfig {
        minor: minor.parse()?,
        device_directory: PathBuf::from("/dev"),
        run_directory: PathBuf::from(run_directory),
        threads: threads.parse()?,
    })?;
    door.attach(backend.clone())?;
    println!("{}", door.describe());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    if let Err(error) = door.detach(Detach::Unused) {
        println!("{error}");
        door.detach(Detach::Forced)?;
    }
    println!(
        "reads {:?}, writes {:?}, flushes {:?}",
        backend.counters.reads.load(Ordering::Relaxed),
        backend.counters.writes.load(Ordering::Relaxed),
        backend.counters.flushes.load(Ordering::Relaxed),
    );
    Ok(())
}
