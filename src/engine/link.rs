//! A link to the peer and its threads.
//!
//! | thread | does | blocks in |
//! |---|---|---|
//! | receiver | establishes the link, reads the data socket, cleans up | poll, read, waiting for core |
//! | meta | reads the meta socket: acknowledgements, pings | read |
//! | sender, meta sender | send what others could not without waiting | write, waiting for work |
//!
//! Any of them that fails tells core; core ends the link with `Output::CloseLink`; the receiver
//! then waits for the others and tells core that no packet can come any more.

use super::connector::{establish, Outcomes, Target};
use super::outbox::Outbox;
use super::reader::PacketReader;
use super::runner::{DataReader, Inline, Runner};
use super::stop::Stop;
use crate::core::state::Conn;
use crate::core::types::{self, Level, LinkFailure};
use crate::wire::{Context, Release, Socket};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long what waits for the meta socket may take when a link is ended gracefully.
const DRAIN: Duration = Duration::from_secs(2);

/// How often core is told again that a link is dead, while it does not end it.
const REMIND: Duration = Duration::from_secs(1);

/// The sending ends of an established link.
#[derive(Debug)]
pub struct Link {
    /// Data socket.
    pub data: Outbox,
    /// Meta socket.
    pub meta: Outbox,
}

/// Starts the receiver thread.
pub fn start(runner: Arc<Runner>, target: Target, stop: Arc<Stop>) {
    let (of_thread, its_stop) = (Arc::clone(&runner), Arc::clone(&stop));
    let spawned = runner.thread("receiver").spawn(move || run(&of_thread, &target, &its_stop));
    if let Err(error) = spawned {
        let text = format!("cannot start the receiver thread: {error}");
        runner.link_refused(&stop, vec![(Level::Error, text)]);
    }
}

/// The receiver thread.
fn run(runner: &Arc<Runner>, target: &Target, stop: &Arc<Stop>) {
    runner.log(Level::Info, None, "receiver (re)started");
    let log = |level: Level, text: &str| runner.log(level, None, text);
    match establish(target, stop, &log) {
        Outcomes::Up(data, meta, description) => {
            serve(runner, stop, &data, &meta, description, target.release);
            runner.log(Level::Info, None, "receiver terminated");
            runner.link_closed(stop);
        }
        Outcomes::Refused(lines) => {
            runner.log(Level::Info, None, "receiver terminated");
            runner.link_refused(stop, lines);
        }
        Outcomes::Stopped => {
            runner.log(Level::Info, None, "receiver terminated");
            runner.link_closed(stop);
        }
    }
}

/// An established link, until it is stopped.
fn serve(
    runner: &Arc<Runner>,
    stop: &Arc<Stop>,
    data: &Arc<TcpStream>,
    meta: &Arc<TcpStream>,
    description: types::Link,
    release: Release,
) {
    let context =
        Context { version: description.version, features: description.features, peer_integrity_len: 0 };
    let link = Arc::new(Link {
        data: Outbox::new(Socket::Data, Arc::clone(data), description.version),
        meta: Outbox::new(Socket::Meta, Arc::clone(meta), description.version),
    });
    runner.link_up(Arc::clone(&link), description);
    let threads = match start_threads(runner, stop, &link, meta, context, release) {
        Ok(threads) => {
            read_data(runner, stop, &link, PacketReader::new(Arc::clone(data), Socket::Data, context));
            threads
        }
        Err(error) => {
            let text = format!("cannot start the threads of the connection: {error}");
            runner.link_lost(LinkFailure { conn: Conn::NetworkFailure, log: Some((Level::Error, text)) });
            Vec::new()
        }
    };
    if stop.drains_meta() {
        link.meta.wait_drained(DRAIN);
        // Everything that was sent reaches the peer before the end of the stream.
        let _ = meta.shutdown(Shutdown::Write);
    }
    link.data.close();
    link.meta.close();
    for thread in threads {
        // A thread that panicked has ended the whole daemon.
        let _ = thread.join();
    }
}

fn start_threads(
    runner: &Arc<Runner>,
    stop: &Arc<Stop>,
    link: &Arc<Link>,
    meta: &Arc<TcpStream>,
    context: Context,
    release: Release,
) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::with_capacity(3);
    let result = (|| {
        let (r, l) = (Arc::clone(runner), Arc::clone(link));
        threads.push(runner.thread("sender").spawn(move || l.data.run(&*r))?);
        let (r, l) = (Arc::clone(runner), Arc::clone(link));
        threads.push(runner.thread("meta sender").spawn(move || l.meta.run(&*r))?);
        let (r, s) = (Arc::clone(runner), Arc::clone(stop));
        let reader = PacketReader::new(Arc::clone(meta), Socket::Meta, context);
        let name = match release {
            Release::V83 => "asender",
            Release::V84 => "ack_receiver",
        };
        threads.push(runner.thread("meta").spawn(move || {
            read_meta(&r, &s, reader);
            r.log(Level::Info, None, &format!("{name} terminated"));
        })?);
        Ok(())
    })();
    match result {
        Ok(()) => Ok(threads),
        Err(error) => {
            link.data.close();
            link.meta.close();
            for thread in threads {
                let _ = thread.join();
            }
            Err(error)
        }
    }
}

/// Reads the data socket until the link is stopped.
fn read_data(runner: &Runner, stop: &Stop, link: &Link, mut reader: PacketReader) {
    let mut ready = false;
    let mut owes_pass = false;
    while !stop.is_stopped() {
        if !ready {
            runner.wait_for_receiver(stop);
            ready = true;
            continue;
        }
        match reader.receive() {
            Ok(received) => {
                // Its disk work is done by this thread if no other packet waits behind it, or must wait.
                let inline = DataReader { packets: &mut reader, owes_pass: &mut owes_pass };
                ready = runner.packet(Socket::Data, received, Inline::Reader(inline));
                if owes_pass && (!ready || !reader.has_more()) {
                    owes_pass = false;
                    link.meta.pass(runner);
                }
            }
            Err(error) => {
                // Core may have reasons to go on for a moment (a promotion that is not over).
                while !stop.is_stopped() {
                    runner.link_lost(error.failure(Socket::Data));
                    if stop.wait(REMIND) {
                        break;
                    }
                }
            }
        }
    }
}

/// Reads the meta socket until the link is stopped.
fn read_meta(runner: &Runner, stop: &Stop, mut reader: PacketReader) {
    runner.wait_for_link(stop);
    loop {
        match reader.receive() {
            Ok(received) => {
                runner.packet(Socket::Meta, received, Inline::Never);
            }
            Err(error) => {
                if !stop.is_stopped() {
                    runner.link_lost(error.failure(Socket::Meta));
                }
                return;
            }
        }
    }
}
