//! Establishes a link: listens, connects, finds the two connections, agrees on version and features,
//! authenticates. Endlessly, until it is stopped or the peer speaks another language.
//! spec/wire.md 1.2 to 1.9 and 3, spec/state.md 16.2, 16.3.
//!
//! One thread: that of the data reader, before there is anything to read. It blocks in poll (descriptors
//! and the stop descriptor) and in the handshake's reads and writes, which have time limits.

use super::pairing::{Pair, Pairing};
use super::stop::Stop;
use crate::conf::settings::NetSettings;
use crate::core::types::{Level, Link};
use crate::sys::net::{self, BufferSizes, Channel};
use crate::sys::send::receive_now;
use crate::sys::{random, time};
use crate::wire::auth::{self, AuthError, Authenticator, CHALLENGE_LEN};
use crate::wire::handshake::{
    expect_features, first_packet, Agreement, HandshakeError, Offer, Outcome, FEATURES_LEN,
};
use crate::wire::{FeaturesPacket, Framing, Header, Packet, ProtocolVersion, Release, Socket};
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Accepted connections whose first packet has not come yet, at most; the oldest makes room for one more.
const NAMELESS_MAX: usize = 16;

/// Pause before the next attempt after a failed handshake, or without a listening socket.
const RETRY: Duration = Duration::from_secs(1);

/// With whom, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// Own address and port.
    pub local: SocketAddr,
    /// The peer's.
    pub peer: SocketAddr,
    /// Settings of the connection.
    pub net: NetSettings,
    /// Versions and features to offer.
    pub offer: Offer,
    /// Whose words the log uses.
    pub release: Release,
    /// A link was just lost: both nodes notice that at the same time, so wait a random moment.
    pub after_loss: bool,
}

/// How an attempt to establish a link ended.
#[derive(Debug)]
pub enum Outcomes {
    /// The link is there: its data and meta socket, in blocking mode with time-outs set.
    Up(Arc<TcpStream>, Arc<TcpStream>, Link),
    /// Not to be tried again: lines for the log.
    Refused(Vec<(Level, String)>),
    /// [`Stop::stop`] was called.
    Stopped,
}

/// Takes log lines.
pub type Logger<'a> = &'a dyn Fn(Level, &str);

/// Establishes a link. See the module's text.
pub fn establish(target: &Target, stop: &Stop, log: Logger) -> Outcomes {
    let mut after_loss = target.after_loss;
    loop {
        let pair = match pair_up(target, after_loss, stop, log) {
            Ok(Some(pair)) => pair,
            Ok(None) => return Outcomes::Stopped,
            Err(text) => return Outcomes::Refused(vec![(Level::Error, text)]),
        };
        stop.guard(&pair.data);
        match shake_hands(target, &pair, log) {
            Ok(agreement) => {
                let link =
                    Link { version: agreement.version, features: agreement.features, arbiter: pair.arbiter };
                match set_time_limits(target, &pair) {
                    Ok(()) => return Outcomes::Up(pair.data, pair.meta, link),
                    Err(error) => log(Level::Error, &format!("setting socket options: {error}")),
                }
            }
            Err(Failure::Retry(line)) => {
                if !stop.is_stopped() {
                    line.iter().for_each(|text| log(Level::Error, text));
                }
            }
            Err(Failure::StandAlone(lines)) if !stop.is_stopped() => {
                pair.hang_up();
                let lines = lines.into_iter().map(|text| (Level::Error, text));
                return Outcomes::Refused(lines.collect());
            }
            Err(Failure::StandAlone(_)) => {}
        }
        // `stop` still knows the data connection: without this the peer would see it open until the next one.
        pair.hang_up();
        drop(pair);
        if stop.wait(RETRY) {
            return Outcomes::Stopped;
        }
        after_loss = true;
    }
}

impl Pair<Arc<TcpStream>> {
    /// Ends both connections. They are dead already if that fails.
    fn hang_up(&self) {
        let _ = self.data.shutdown(Shutdown::Both);
        let _ = self.meta.shutdown(Shutdown::Both);
    }
}

fn timeout_until(deadline: Instant) -> PollTimeout {
    let left = deadline.saturating_duration_since(Instant::now());
    // Rounded up: not to spin in the last millisecond.
    let milliseconds = left.as_micros().div_ceil(1000);
    PollTimeout::try_from(i32::try_from(milliseconds).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
}

fn deciseconds(value: u32) -> Duration {
    Duration::from_millis(u64::from(value) * 100)
}

/// Time limit of each step of the handshake.
fn handshake_limit(net: &NetSettings) -> Duration {
    deciseconds(net.ping_timeout) * 4
}

/// A connection attempt of this node.
struct Attempt {
    stream: TcpStream,
    deadline: Instant,
}

/// An accepted connection whose first packet is not complete.
struct Nameless {
    stream: TcpStream,
    received: Vec<u8>,
    deadline: Instant,
}

/// The line for the log about an address that cannot be listened on.
pub fn listen_error(local: SocketAddr, error: &io::Error) -> String {
    let number = error.raw_os_error().unwrap_or(0);
    let hint = match Errno::from_raw(number) {
        Errno::EADDRINUSE => {
            "; another program listens on this port: look with ss -ltnp or netstat -ltnp, stop it or \
             configure another port, then connect again"
        }
        Errno::EADDRNOTAVAIL => "; no interface of this host has this address",
        _ => "",
    };
    format!("bind before listen failed, err = -{number} ({local}: {error}{hint})")
}

/// What the loop of [`pair_up`] works on.
struct Meeting<'a> {
    target: &'a Target,
    log: Logger<'a>,
    pairing: Pairing<Arc<TcpStream>>,
    listener: Option<TcpListener>,
    next_listen: Instant,
    listen_error_logged: bool,
    attempt: Option<Attempt>,
    nameless: Vec<Nameless>,
}

/// Listens and connects until there are a data and a meta connection. `None`: stopped.
///
/// # Errors
/// The line for the log if the address cannot be listened on, and will not be.
fn pair_up(
    target: &Target,
    after_loss: bool,
    stop: &Stop,
    log: Logger,
) -> Result<Option<Pair<Arc<TcpStream>>>, String> {
    let now = Instant::now();
    let greater = (target.local.ip(), target.local.port()) > (target.peer.ip(), target.peer.port());
    let delay = if after_loss {
        Duration::from_millis(random::number().unwrap_or_else(|_| time::monotonic_us()) % 100)
    } else {
        Duration::ZERO
    };
    let connect_int = Duration::from_secs(u64::from(target.net.connect_int));
    let mut meeting = Meeting {
        target,
        log,
        pairing: Pairing::new(now, greater, connect_int, delay),
        listener: None,
        next_listen: now,
        listen_error_logged: false,
        attempt: None,
        nameless: Vec::new(),
    };
    loop {
        if stop.is_stopped() {
            return Ok(None);
        }
        let now = Instant::now();
        meeting.listen_if_due(now)?;
        meeting.connect_if_due(now);
        meeting.nameless.retain(|n| n.deadline > now);
        let settle_at = match meeting.pairing.settle(now, |s| net::is_alive(s)) {
            Ok(pair) => return Ok(Some(pair)),
            Err(at) => at,
        };
        meeting.wait(stop, settle_at);
    }
}

impl Meeting<'_> {
    fn buffers(&self) -> BufferSizes {
        BufferSizes { send: self.target.net.sndbuf_size, receive: self.target.net.rcvbuf_size }
    }

    /// `Err`: somebody else has the port, which an administrator has to settle (spec/state.md 16.2).
    fn listen_if_due(&mut self, now: Instant) -> Result<(), String> {
        if self.listener.is_some() || now < self.next_listen {
            return Ok(());
        }
        match net::listen(self.target.local, self.buffers()) {
            Ok(listener) => {
                self.listener = Some(listener);
                self.listen_error_logged = false;
            }
            Err(error) => {
                let text = listen_error(self.target.local, &error);
                if error.kind() == io::ErrorKind::AddrInUse {
                    return Err(text);
                }
                // The address may come up later.
                self.next_listen = now + RETRY;
                if !std::mem::replace(&mut self.listen_error_logged, true) {
                    (self.log)(Level::Error, &format!("{text}, will try again"));
                }
            }
        }
        Ok(())
    }

    fn connect_if_due(&mut self, now: Instant) {
        if self.attempt.as_ref().is_some_and(|a| a.deadline <= now) {
            self.attempt = None;
            self.pairing.connect_failed(now);
        }
        let due = self.pairing.connect_due();
        if self.attempt.is_some() || due.is_none_or_later(now) {
            return;
        }
        let limit = Duration::from_secs(u64::from(self.target.net.connect_int.max(1)));
        match net::connect_start(Some(self.target.local.ip()), self.target.peer, self.buffers()) {
            Ok(stream) => {
                self.attempt = Some(Attempt { stream, deadline: now + limit });
            }
            Err(error) => self.connect_failed(now, &error),
        }
    }

    fn connect_failed(&mut self, now: Instant, error: &io::Error) {
        self.pairing.connect_failed(now);
        let number = error.raw_os_error().unwrap_or(0);
        let silent = matches!(
            Errno::from_raw(number),
            Errno::ETIMEDOUT
                | Errno::EAGAIN
                | Errno::EINPROGRESS
                | Errno::EINTR
                | Errno::ECONNREFUSED
                | Errno::ENETUNREACH
                | Errno::EHOSTDOWN
                | Errno::EHOSTUNREACH
                // Told by the listening socket already.
                | Errno::EADDRNOTAVAIL
        );
        if !silent {
            let text = format!("connect failed, err = -{number}");
            (self.log)(Level::Error, &text);
        }
    }

    /// Waits for the next thing to happen, and lets it happen.
    fn wait(&mut self, stop: &Stop, settle_at: Option<Instant>) {
        let mut wake = settle_at;
        let mut earlier = |at: Option<Instant>| {
            if let Some(at) = at {
                wake = Some(wake.map_or(at, |wake| wake.min(at)));
            }
        };
        match &self.attempt {
            Some(attempt) => earlier(Some(attempt.deadline)),
            None => earlier(self.pairing.connect_due()),
        }
        if self.listener.is_none() {
            earlier(Some(self.next_listen));
        }
        earlier(self.nameless.iter().map(|n| n.deadline).min());
        let mut descriptors = Vec::with_capacity(3 + self.nameless.len());
        descriptors.push(PollFd::new(stop.descriptor(), PollFlags::POLLIN));
        let listener = self.listener.as_ref();
        if let Some(listener) = listener {
            descriptors.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        }
        if let Some(attempt) = &self.attempt {
            descriptors.push(PollFd::new(attempt.stream.as_fd(), PollFlags::POLLOUT));
        }
        for nameless in &self.nameless {
            descriptors.push(PollFd::new(nameless.stream.as_fd(), PollFlags::POLLIN));
        }
        let timeout = wake.map_or(PollTimeout::NONE, timeout_until);
        if poll(&mut descriptors, timeout).is_err() {
            // EINTR, or the system is out of memory; try again, but do not spin.
            std::thread::sleep(Duration::from_millis(10));
            return;
        }
        let ready: Vec<bool> = descriptors.iter().map(|d| d.any() == Some(true)).collect();
        let mut ready = ready.into_iter().skip(1);
        let accept = listener.is_some() && ready.next() == Some(true);
        let connected = self.attempt.is_some() && ready.next() == Some(true);
        let readable: Vec<bool> = ready.collect();
        let now = Instant::now();
        self.read_first_packets(now, &readable);
        if connected {
            self.attempt_ended(now);
        }
        if accept {
            self.accept(now);
        }
    }

    /// The own attempt succeeded or failed.
    fn attempt_ended(&mut self, now: Instant) {
        let Some(attempt) = self.attempt.take() else {
            return;
        };
        if let Err(error) = net::connect_finish(&attempt.stream) {
            self.connect_failed(now, &error);
            return;
        }
        let stream = Arc::new(attempt.stream);
        if let Ok(purpose) = self.pairing.connected(now, Arc::clone(&stream)) {
            let packet = match purpose {
                Socket::Data => Packet::InitialData,
                Socket::Meta => Packet::InitialMeta,
            };
            // Eight bytes always fit a new socket. If it is dead, the liveness test finds it out.
            let _ = (&*stream).write_all(&packet.to_bytes(0, ProtocolVersion::MAX));
        }
    }

    fn accept(&mut self, now: Instant) {
        let Some(listener) = &self.listener else {
            return;
        };
        match net::accept(listener, Duration::ZERO) {
            Ok(Some((stream, _))) => {
                if self.nameless.len() >= NAMELESS_MAX {
                    // A peer's first packet comes with its connection: who is silent for long is no peer.
                    self.nameless.remove(0);
                }
                self.nameless.push(Nameless {
                    stream,
                    received: Vec::with_capacity(8),
                    deadline: now + handshake_limit(&self.target.net),
                });
            }
            Ok(None) => {}
            Err(error) => {
                let number = error.raw_os_error().unwrap_or(0);
                (self.log)(Level::Error, &format!("accept failed, err = -{number}"));
                self.listener = None;
                self.next_listen = now + RETRY;
            }
        }
    }

    fn read_first_packets(&mut self, now: Instant, readable: &[bool]) {
        let mut flags = readable.iter();
        let mut index = 0;
        while index < self.nameless.len() {
            if flags.next() != Some(&true) {
                index += 1;
                continue;
            }
            match read_first_packet(&mut self.nameless[index]) {
                FirstPacket::Incomplete => index += 1,
                FirstPacket::Wrong => {
                    self.nameless.remove(index);
                    (self.log)(Level::Warning, "Error receiving initial packet");
                }
                FirstPacket::Purpose(purpose) => {
                    let stream = Arc::new(self.nameless.remove(index).stream);
                    if let Some(text) = self.pairing.accepted(now, purpose, stream) {
                        (self.log)(Level::Warning, text);
                    }
                }
            }
        }
    }
}

trait Due {
    fn is_none_or_later(&self, now: Instant) -> bool;
}

impl Due for Option<Instant> {
    fn is_none_or_later(&self, now: Instant) -> bool {
        match self {
            None => true,
            Some(due) => *due > now,
        }
    }
}

enum FirstPacket {
    Incomplete,
    Wrong,
    Purpose(Socket),
}

/// Reads what has come of the eight bytes of a first packet, and no more.
fn read_first_packet(nameless: &mut Nameless) -> FirstPacket {
    let mut bytes = [0; 8];
    let missing = 8 - nameless.received.len();
    match receive_now(&nameless.stream, &mut bytes[..missing]) {
        Ok(None) => return FirstPacket::Incomplete,
        Ok(Some(0)) | Err(_) => return FirstPacket::Wrong,
        Ok(Some(count)) => nameless.received.extend_from_slice(&bytes[..count]),
    }
    if nameless.received.len() < 8 {
        return FirstPacket::Incomplete;
    }
    match Header::decode(Framing::First, &nameless.received).map(|h| first_packet(&h)) {
        Ok(Some(purpose)) => FirstPacket::Purpose(purpose),
        _ => FirstPacket::Wrong,
    }
}

/// Why a handshake failed.
enum Failure {
    /// Try again; a line for the log.
    Retry(Option<String>),
    /// Give up; lines for the log.
    StandAlone(Vec<String>),
}

impl Failure {
    fn of_handshake(error: &HandshakeError, release: Release, stream: &TcpStream) -> Failure {
        let mut text = error.log_text(release);
        if let (HandshakeError::Header(_), Ok(address)) = (error, stream.peer_addr()) {
            text += &format!("; {address} is no DRBD: does another service use the port?");
        }
        match error.outcome() {
            Outcome::Retry => Failure::Retry(Some(text)),
            Outcome::StandAlone => Failure::StandAlone(vec![text]),
        }
    }
}

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Failure {
        let text = error.to_string();
        let last = AuthError::WrongResponse.to_string();
        match error.outcome() {
            Outcome::Retry => Failure::Retry(Some(text)),
            Outcome::StandAlone if text == last => Failure::StandAlone(vec![text]),
            Outcome::StandAlone => Failure::StandAlone(vec![text, last]),
        }
    }
}

/// Features and authentication, on the data socket.
fn shake_hands(target: &Target, pair: &Pair<Arc<TcpStream>>, log: Logger) -> Result<Agreement, Failure> {
    let stream = &*pair.data;
    let broken = |_: io::Error| Failure::Retry(None);
    net::configure(stream, Channel::Data).map_err(broken)?;
    net::configure(&pair.meta, Channel::Meta).map_err(broken)?;
    let limit = Some(handshake_limit(&target.net));
    net::set_send_timeout(stream, limit).map_err(broken)?;
    net::set_receive_timeout(stream, limit).map_err(broken)?;
    let agreement =
        exchange_features(target, stream).map_err(|e| Failure::of_handshake(&e, target.release, stream))?;
    for line in agreement.log_lines(target.release) {
        log(Level::Info, &line);
    }
    if !target.net.cram_hmac_alg.is_empty() {
        authenticate(target, stream, agreement.version, log)?;
    }
    Ok(agreement)
}

/// Reads as much as there is up to the buffer's length; returns how much that was.
fn read_up_to(mut stream: &TcpStream, buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    filled
}

fn exchange_features(target: &Target, mut stream: &TcpStream) -> Result<Agreement, HandshakeError> {
    let packet = Packet::ConnectionFeatures(target.offer.packet());
    let short = |received| HandshakeError::ShortRead { received };
    stream.write_all(&packet.to_bytes(0, ProtocolVersion::MAX)).map_err(|_| short(0))?;
    let mut head = [0; 8];
    let received = read_up_to(stream, &mut head);
    if received < head.len() {
        return Err(short(received));
    }
    let header = Header::decode(Framing::First, &head).map_err(HandshakeError::Header)?;
    expect_features(&header)?;
    let mut features = [0; FEATURES_LEN];
    let received = read_up_to(stream, &mut features);
    if received < features.len() {
        return Err(short(head.len() + received));
    }
    let features = FeaturesPacket::parse(&features).map_err(HandshakeError::Header)?;
    target.offer.agree(&features)
}

/// Reads a header of the agreed version.
fn read_header(stream: &TcpStream, version: ProtocolVersion) -> Result<Header, AuthError> {
    let framing = Framing::Agreed(version);
    let mut head = [0; Header::LEN_MAX];
    let head = &mut head[..framing.header_len()];
    if read_up_to(stream, head) < head.len() {
        return Err(AuthError::Interrupted);
    }
    Header::decode(framing, head).map_err(|_| AuthError::Interrupted)
}

fn read_bytes(stream: &TcpStream, count: usize) -> Result<Vec<u8>, AuthError> {
    let mut bytes = vec![0; count];
    if read_up_to(stream, &mut bytes) < count {
        return Err(AuthError::Interrupted);
    }
    Ok(bytes)
}

/// Each node proves that it knows the shared secret. spec/wire.md 3.5.
fn authenticate(
    target: &Target,
    mut stream: &TcpStream,
    version: ProtocolVersion,
    log: Logger,
) -> Result<(), Failure> {
    let net = &target.net;
    let authenticator = Authenticator::new(&net.cram_hmac_alg, &net.shared_secret).ok_or_else(|| {
        let name = &net.cram_hmac_alg;
        Failure::StandAlone(vec![format!("cram-hmac-alg '{name}' is not known")])
    })?;
    let interrupted = |_: io::Error| Failure::from(AuthError::Interrupted);
    let mut mine = [0; CHALLENGE_LEN];
    random::fill(&mut mine)
        .map_err(|error| Failure::StandAlone(vec![format!("no random numbers for a challenge: {error}")]))?;
    let challenge = Packet::AuthChallenge(mine.to_vec()).to_bytes(0, version);
    stream.write_all(&challenge).map_err(interrupted)?;
    let header = read_header(stream, version)?;
    let theirs = read_bytes(stream, auth::expect_challenge(&header)?)?;
    let response = authenticator.respond(&mine, &theirs)?;
    let response = Packet::AuthResponse(response.to_vec()).to_bytes(0, version);
    stream.write_all(&response).map_err(interrupted)?;
    let header = read_header(stream, version)?;
    let response = read_bytes(stream, authenticator.expect_response(&header)?)?;
    authenticator.verify(&mine, &response)?;
    log(Level::Info, &authenticator.success_text(target.release));
    Ok(())
}

/// The time-outs of the sockets of a link. spec/wire.md 1.2.
fn set_time_limits(target: &Target, pair: &Pair<Arc<TcpStream>>) -> io::Result<()> {
    let timeout = Some(deciseconds(target.net.timeout));
    net::set_send_timeout(&pair.data, timeout)?;
    net::set_send_timeout(&pair.meta, timeout)?;
    net::set_receive_timeout(&pair.data, None)?;
    // Core's timers watch the pings; the meta reader itself waits without limit.
    net::set_receive_timeout(&pair.meta, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::Dialect;
    use crate::sys::sync::Mutex;
    use std::thread;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Two ports that are free now.
    fn ports() -> [u16; 2] {
        let listeners = [(); 2].map(|()| TcpListener::bind(address(0)).unwrap());
        listeners.map(|l| l.local_addr().unwrap().port())
    }

    fn target(local: u16, peer: u16) -> Target {
        let mut net = NetSettings::defaults(Dialect::V84);
        net.ping_timeout = 30;
        Target {
            local: address(local),
            peer: address(peer),
            net,
            offer: Offer::default(),
            release: Release::V84,
            after_loss: false,
        }
    }

    /// Runs both ends; returns outcomes and logs.
    fn run(targets: [Target; 2]) -> [(Outcomes, Vec<String>); 2] {
        let threads = targets.map(|target| {
            thread::spawn(move || {
                let lines = Mutex::new(Vec::new());
                let log = |_: Level, text: &str| lines.lock().push(text.to_string());
                let outcome = establish(&target, &Stop::new().unwrap(), &log);
                (outcome, lines.into_inner())
            })
        });
        threads.map(|t| t.join().unwrap())
    }

    #[test]
    fn two_nodes_meet_and_agree() {
        let [a, b] = ports();
        let results = run([target(a, b), target(b, a)]);
        let links = results.map(|(outcome, log)| match outcome {
            Outcomes::Up(data, meta, link) => {
                let agreed = "Handshake successful: Agreed network protocol version 101";
                assert!(log.iter().any(|l| l == agreed), "{log:?}");
                (data, meta, link)
            }
            other => panic!("{other:?}"),
        });
        let [(data_a, meta_a, link_a), (data_b, meta_b, link_b)] = links;
        assert_ne!(link_a.arbiter, link_b.arbiter);
        let local = |s: &TcpStream| s.local_addr().unwrap();
        let peer = |s: &TcpStream| s.peer_addr().unwrap();
        assert_eq!((local(&data_a), peer(&data_a)), (peer(&data_b), local(&data_b)));
        assert_eq!((local(&meta_a), peer(&meta_a)), (peer(&meta_b), local(&meta_b)));
        // Nobody listens any more.
        assert!(TcpStream::connect(address(a)).is_err());
    }

    #[test]
    fn ipv6_does_as_well() {
        let any = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0));
        let (Ok(one), Ok(other)) = (TcpListener::bind(any), TcpListener::bind(any)) else {
            eprintln!("skipped: this host has no IPv6");
            return;
        };
        let [a, b] = [one, other].map(|listener| listener.local_addr().unwrap());
        let targets = [(a, b), (b, a)].map(|(local, peer)| Target { local, peer, ..target(0, 0) });
        for (outcome, log) in run(targets) {
            assert!(matches!(outcome, Outcomes::Up(..)), "{log:?}");
        }
    }

    #[test]
    fn the_secret_must_be_the_same() {
        let [a, b] = ports();
        let mut targets = [target(a, b), target(b, a)];
        for (target, secret) in targets.iter_mut().zip(["one", "other"]) {
            target.net.cram_hmac_alg = "sha1".into();
            target.net.shared_secret = secret.into();
        }
        let mut right = targets.clone();
        right[1].net.shared_secret = "one".into();
        for (outcome, _) in run(targets) {
            match outcome {
                Outcomes::Refused(lines) => {
                    assert_eq!(lines[0].1, "Authentication of peer failed");
                }
                other => panic!("{other:?}"),
            }
        }
        for (outcome, log) in run(right) {
            assert!(matches!(outcome, Outcomes::Up(..)));
            assert!(log.contains(&"Peer authenticated using 20 bytes HMAC".to_string()));
        }
    }

    #[test]
    fn different_languages_are_given_up() {
        let [a, b] = ports();
        let mut targets = [target(a, b), target(b, a)];
        targets[0].offer = Offer::up_to(ProtocolVersion::MIN);
        targets[1].offer.min = ProtocolVersion::MAX;
        for (outcome, _) in run(targets) {
            match outcome {
                Outcomes::Refused(lines) => {
                    assert!(lines[0].1.starts_with("incompatible DRBD dialects"));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn stopping_ends_the_wait_for_a_peer() {
        let [a, b] = ports();
        let stop = Arc::new(Stop::new().unwrap());
        let connector = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || establish(&target(a, b), &stop, &|_, _| {}))
        };
        // It listens: it is in its loop.
        while TcpStream::connect(address(a)).is_err() {
            thread::yield_now();
        }
        stop.stop(false);
        assert!(matches!(connector.join().unwrap(), Outcomes::Stopped));
    }

    #[test]
    fn noise_on_the_port_does_no_harm() {
        let [a, b] = ports();
        let thread = thread::spawn(move || run([target(a, b), target(b, a)]));
        for port in [a, b] {
            for _ in 0..20 {
                if let Ok(mut stream) = TcpStream::connect(address(port)) {
                    let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
                }
            }
        }
        for (outcome, _) in thread.join().unwrap() {
            assert!(matches!(outcome, Outcomes::Up(..)));
        }
    }
}
