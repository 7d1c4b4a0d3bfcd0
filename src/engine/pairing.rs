//! Which of several TCP connections become the two of a link. spec/wire.md 1.4 to 1.7, 12.2.
//!
//! Both nodes connect and both accept, so two connections for the same purpose can cross. DRBD's
//! kernel module then takes the incoming one and closes its own. Of two nodes that both do that,
//! neither has a living connection left, and they throw dice. Here both are kept for a moment: if the
//! peer closes the one that it opened, the other one stays; if it does not (it is a node like
//! this one), the connection that the node with the greater address opened stays on both.
//!
//! Who opened the data connection lets the peer open the meta connection, as 8.x does: the peer
//! does so at once if it accepts. Only if nothing comes it opens that one too.
//!
//! Pure: time and the liveness of sockets are arguments.

use crate::wire::Socket;
use std::time::Duration;

/// Time on a clock that never goes back.
pub type Instant = std::time::Instant;

/// How long two crossed connections are both kept.
const CROSSED: Duration = Duration::from_millis(150);

/// How long who opened the data connection waits for the peer to open the meta connection.
const META_GRACE: Duration = Duration::from_millis(1000);

/// How long both must have been there, alive, before they count.
const SETTLED: Duration = Duration::from_millis(100);

/// First pause after a failed attempt; doubled up to `connect-int`.
const FIRST_PAUSE: Duration = Duration::from_millis(1000);

/// The connections for one purpose.
#[derive(Debug)]
struct Side<S> {
    own: Option<S>,
    incoming: Option<S>,
    /// When the last change happened here.
    since: Instant,
}

impl<S> Side<S> {
    fn new(now: Instant) -> Side<S> {
        Side { own: None, incoming: None, since: now }
    }

    fn is_empty(&self) -> bool {
        self.own.is_none() && self.incoming.is_none()
    }

    fn is_single(&self) -> bool {
        self.own.is_some() != self.incoming.is_some()
    }

    fn is_crossed(&self) -> bool {
        self.own.is_some() && self.incoming.is_some()
    }

    /// Forgets dead connections, and one of two that are both alive for long enough.
    fn sweep(&mut self, now: Instant, keep_own: bool, alive: &impl Fn(&S) -> bool) {
        for slot in [&mut self.own, &mut self.incoming] {
            if slot.as_ref().is_some_and(|s| !alive(s)) {
                *slot = None;
                self.since = now;
            }
        }
        if self.is_crossed() && now >= self.since + CROSSED {
            if keep_own {
                self.incoming = None;
            } else {
                self.own = None;
            }
            self.since = now;
        }
    }
}

/// The two connections of a link.
#[derive(Debug)]
pub struct Pair<S> {
    /// Data connection.
    pub data: S,
    /// Meta connection.
    pub meta: S,
    /// This node accepted the meta connection. spec/wire.md 1.7.
    pub arbiter: bool,
}

/// The connections that there are.
#[derive(Debug)]
pub struct Pairing<S> {
    data: Side<S>,
    meta: Side<S>,
    /// The own address is greater than the peer's.
    greater: bool,
    connect_int: Duration,
    pause: Duration,
    next_attempt: Instant,
}

impl<S> Pairing<S> {
    /// No connections. The first attempt to connect is due `delay` from now.
    pub fn new(now: Instant, greater: bool, connect_int: Duration, delay: Duration) -> Pairing<S> {
        Pairing {
            data: Side::new(now),
            meta: Side::new(now),
            greater,
            connect_int,
            pause: FIRST_PAUSE.min(connect_int),
            next_attempt: now + delay,
        }
    }

    /// When an attempt to connect is due; `None`: none is needed.
    pub fn connect_due(&self) -> Option<Instant> {
        if self.data.is_empty() {
            Some(self.next_attempt)
        } else if self.meta.is_empty() && !self.data.is_crossed() {
            let grace = if self.data.own.is_some() { META_GRACE } else { Duration::ZERO };
            Some(self.next_attempt.max(self.data.since + grace))
        } else {
            None
        }
    }

    /// An attempt to connect failed: the next one is later.
    pub fn connect_failed(&mut self, now: Instant) {
        self.next_attempt = now + self.pause;
        self.pause = (self.pause * 2).min(self.connect_int);
    }

    /// An attempt to connect succeeded. Returns what the connection is for, or the socket if it is
    /// not needed any more; the caller sends the first packet.
    pub fn connected(&mut self, now: Instant, socket: S) -> Result<Socket, S> {
        self.pause = FIRST_PAUSE.min(self.connect_int);
        // If it gets lost again, the next attempt must not come at once.
        self.next_attempt = now + self.pause;
        let (side, purpose) = if self.data.is_empty() {
            (&mut self.data, Socket::Data)
        } else if self.meta.is_empty() {
            // The one for data was just as quick: what is missing may be asked for at once.
            (&mut self.meta, Socket::Meta)
        } else {
            return Err(socket);
        };
        side.own = Some(socket);
        side.since = now;
        Ok(purpose)
    }

    /// The peer connected and sent this first packet. Returns a line for the log if that replaces
    /// an earlier connection of the peer or crosses an own one.
    pub fn accepted(&mut self, now: Instant, purpose: Socket, socket: S) -> Option<&'static str> {
        let (side, text) = match purpose {
            Socket::Data => (&mut self.data, "initial packet S crossed"),
            Socket::Meta => (&mut self.meta, "initial packet M crossed"),
        };
        let crossed = !side.is_empty();
        side.incoming = Some(socket);
        side.since = now;
        if purpose == Socket::Data {
            // The peer waits for the meta connection now.
            self.next_attempt = self.next_attempt.min(now);
        }
        crossed.then_some(text)
    }

    /// Forgets dead connections, decides between crossed ones, and returns the pair if both have been
    /// there long enough. Else: when to call again at the latest.
    pub fn settle(&mut self, now: Instant, alive: impl Fn(&S) -> bool) -> Result<Pair<S>, Option<Instant>> {
        self.data.sweep(now, self.greater, &alive);
        self.meta.sweep(now, self.greater, &alive);
        let crossed = [&self.data, &self.meta]
            .into_iter()
            .filter(|side| side.is_crossed())
            .map(|side| side.since + CROSSED)
            .min();
        if !(self.data.is_single() && self.meta.is_single()) {
            return Err(crossed);
        }
        let settled = self.data.since.max(self.meta.since) + SETTLED;
        if now < settled {
            return Err(Some(settled));
        }
        let arbiter = self.meta.incoming.is_some();
        let take = |side: &mut Side<S>| side.own.take().or_else(|| side.incoming.take());
        match (take(&mut self.data), take(&mut self.meta)) {
            (Some(data), Some(meta)) => Ok(Pair { data, meta, arbiter }),
            _ => Err(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    const STEP: Duration = Duration::from_millis(10);
    const CONNECT_INT: Duration = Duration::from_secs(10);

    /// Two nodes with connections that are numbers; closed ones are dead at both ends.
    struct World {
        now: Instant,
        next: u32,
        closed: RefCell<BTreeSet<u32>>,
        /// Connections on their way to a node: (node, number, purpose).
        arriving: Vec<(usize, u32, Socket)>,
    }

    /// A connection's end; dropping it closes the connection.
    struct End<'a>(u32, &'a RefCell<BTreeSet<u32>>);

    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.1.borrow_mut().insert(self.0);
        }
    }

    /// Lets two nodes run until both have a pair; returns (data, meta, arbiter) of both.
    fn run(delays: [u64; 2], latency_steps: usize) -> [(u32, u32, bool); 2] {
        let start = Instant::now();
        let world = World { now: start, next: 0, closed: RefCell::default(), arriving: Vec::new() };
        let World { mut now, mut next, closed, mut arriving } = world;
        let mut nodes: [Pairing<End>; 2] =
            [0, 1].map(|i| Pairing::new(start, i == 1, CONNECT_INT, Duration::from_millis(delays[i])));
        let mut pairs: [Option<Pair<End>>; 2] = [None, None];
        let mut late: Vec<(usize, usize, u32, Socket)> = Vec::new();
        for step in 0..3000 {
            now += STEP;
            late.retain(|&(due, node, number, purpose)| {
                if due <= step {
                    arriving.push((node, number, purpose));
                }
                due > step
            });
            for node in 0..2 {
                if pairs[node].is_some() {
                    // Closes its listener: what still arrives is reset.
                    arriving.retain(|a| {
                        if a.0 == node {
                            closed.borrow_mut().insert(a.1);
                        }
                        a.0 != node
                    });
                    continue;
                }
                for (_, number, purpose) in arriving.extract_if_node(node) {
                    if !closed.borrow().contains(&number) {
                        nodes[node].accepted(now, purpose, End(number, &closed));
                    }
                }
                if nodes[node].connect_due().is_some_and(|due| due <= now) {
                    next += 1;
                    if let Ok(purpose) = nodes[node].connected(now, End(next, &closed)) {
                        late.push((step + latency_steps, 1 - node, next, purpose));
                    }
                }
                let alive = |end: &End| !closed.borrow().contains(&end.0);
                if let Ok(pair) = nodes[node].settle(now, alive) {
                    pairs[node] = Some(pair);
                }
            }
            if let [Some(a), Some(b)] = &pairs {
                let ends = [a, b].map(|p| (p.data.0, p.meta.0, p.arbiter));
                let dead = closed.borrow();
                assert!(!dead.contains(&ends[0].0) && !dead.contains(&ends[0].1));
                assert!(now - start < Duration::from_secs(3), "took {:?}", now - start);
                return ends;
            }
        }
        panic!("no pair");
    }

    trait ExtractNode {
        fn extract_if_node(&mut self, node: usize) -> Vec<(usize, u32, Socket)>;
    }

    impl ExtractNode for Vec<(usize, u32, Socket)> {
        fn extract_if_node(&mut self, node: usize) -> Vec<(usize, u32, Socket)> {
            let (mine, rest) = self.drain(..).partition(|a| a.0 == node);
            *self = rest;
            mine
        }
    }

    #[test]
    fn two_nodes_find_the_same_pair_whoever_starts_first() {
        for delays in [[0, 0], [0, 10], [10, 0], [0, 55], [70, 0], [0, 500], [900, 0]] {
            for latency_steps in [0, 1, 3, 8] {
                let [a, b] = run(delays, latency_steps);
                assert_eq!((a.0, a.1), (b.0, b.1), "{delays:?} {latency_steps}");
                assert_ne!(a.2, b.2, "exactly one is arbiter");
            }
        }
    }

    #[test]
    fn the_peers_crossing_replaces_a_dead_own_connection() {
        let now = Instant::now();
        let mut pairing = Pairing::new(now, true, CONNECT_INT, Duration::ZERO);
        assert_eq!(pairing.connected(now, 1), Ok(Socket::Data));
        assert_eq!(pairing.accepted(now, Socket::Data, 2), Some("initial packet S crossed"));
        pairing.accepted(now, Socket::Meta, 3);
        // The peer has closed the connection that this node opened.
        assert!(pairing.settle(now, |&s| s != 1).is_err());
        let pair = pairing.settle(now + CROSSED, |&s| s != 1).unwrap();
        assert_eq!((pair.data, pair.meta, pair.arbiter), (2, 3, true));
    }

    #[test]
    fn attempts_become_rarer_up_to_connect_int() {
        let mut now = Instant::now();
        let mut pairing = Pairing::<u32>::new(now, true, CONNECT_INT, Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            now = pairing.connect_due().unwrap();
            pairing.connect_failed(now);
            pauses.push((pairing.connect_due().unwrap() - now).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn a_peer_that_only_listens_gets_both_connections() {
        let now = Instant::now();
        let mut pairing = Pairing::new(now, false, CONNECT_INT, Duration::ZERO);
        assert_eq!(pairing.connected(now, 1), Ok(Socket::Data));
        let due = pairing.connect_due().unwrap();
        assert_eq!(pairing.connected(due, 2), Ok(Socket::Meta));
        let pair = pairing.settle(due + SETTLED, |_| true).unwrap();
        assert!(!pair.arbiter);
    }
}
