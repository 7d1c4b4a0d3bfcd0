//! The end of a connection, and what is durable before its beginning.

use super::*;
use crate::core::state::StateWord;

impl Pair {
    /// `b` asks to be let go, is refused, and offers to be outdated: the answer to that stays on its way.
    fn begin_disconnect_of_b(&mut self) -> AdminId {
        let id = self.b.begin(Command::Disconnect { force: false });
        let refusals = |pair: &Pair| {
            let refusal = |packet: &&Packet| {
                matches!(packet, Packet::ConnectionStateChangeReply(_) | Packet::StateChangeReply(_))
            };
            pair.a.sent.iter().filter(refusal).count()
        };
        let first = refusals(self);
        for _ in 0..200 {
            let _ = self.a.work() | self.b.work();
            Pair::deliver(&mut self.b, &mut self.a, Socket::Data, self.now);
            Pair::deliver(&mut self.b, &mut self.a, Socket::Meta, self.now);
            if refusals(self) == first {
                Pair::deliver(&mut self.a, &mut self.b, Socket::Meta, self.now);
            }
        }
        assert_eq!(self.a.outgoing[Socket::Meta as usize].len(), 1, "{}", self.logs());
        id
    }
}

/// A Primary with fencing that asks its peer to be let go, up to where the peer has answered and hung up. The two
/// sockets are not ordered: the end of the data socket is seen first.
fn left_by_its_peer() -> Pair {
    let mut pair = synced_pair();
    let settings =
        DiskSettings { fencing: Fencing::ResourceOnly, ..pair.a.core.volume(V).settings().clone() };
    let command = Command::DiskSettings { volume: V, settings: Box::new(settings) };
    assert_eq!(pair.a.command(command), 101);
    pair.a.begin(Command::Disconnect { force: false });
    while pair.b.wants_link {
        let busy = pair.a.work()
            | Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now)
            | Pair::deliver(&mut pair.a, &mut pair.b, Socket::Meta, pair.now)
            | pair.b.work();
        assert!(busy, "{}", pair.logs());
    }
    assert_eq!(pair.b.word().2, Disk::Outdated, "{}", pair.logs());
    let end =
        LinkFailure { conn: Conn::BrokenPipe, log: Some((Level::Info, "sock was shut down by peer".into())) };
    for _ in 0..3 {
        // The reader reminds of it until the link is taken down.
        pair.a.core.link_lost(pair.now, end.clone());
        pair.a.work();
    }
    pair
}

/// The peer outdates itself and says so: it is not fenced, and the end of its sockets is no failure.
#[test]
fn an_answer_that_comes_after_the_end_of_the_other_socket_counts() {
    let mut pair = left_by_its_peer();
    while Pair::deliver(&mut pair.b, &mut pair.a, Socket::Meta, pair.now) {}
    pair.run();
    assert_eq!(
        pair.a.word(),
        (Role::Primary, Conn::StandAlone, Disk::UpToDate, Disk::Outdated),
        "{}",
        pair.logs()
    );
    for line in ["helper fence-peer", "sock was shut down by peer"] {
        assert!(!pair.a.log.iter().any(|text| text == line), "{}", pair.logs());
    }
}

/// The answer is lost: the link is given up for what ended it, after `ping-timeout`.
#[test]
fn an_answer_that_never_comes_is_waited_for_until_ping_timeout() {
    let mut pair = left_by_its_peer();
    assert_eq!(pair.a.word().1, Conn::Connected, "{}", pair.logs());
    pair.b.outgoing = [VecDeque::new(), VecDeque::new()];
    let wait = u64::from(settings(Protocol::C).ping_timeout) * 100;
    pair.a.core.timeout(pair.now + wait - 1);
    pair.a.work();
    assert_eq!(pair.a.word().1, Conn::Connected, "{}", pair.logs());
    assert!(pair.a.core.next_timeout().is_some_and(|due| due <= pair.now + wait));
    pair.a.core.timeout(pair.now + wait);
    while pair.a.work() {}
    assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::StandAlone, Disk::DUnknown), "{}", pair.logs());
    for line in ["helper fence-peer", "sock was shut down by peer"] {
        assert!(pair.a.log.iter().any(|text| text == line), "{}", pair.logs());
    }
}

/// A promotion ends the intention to give up one's data: what is written then is not what the administrator meant.
#[test]
fn a_node_that_was_promoted_meanwhile_does_not_discard_its_data() {
    let mut pair = synced_pair();
    pair.b.command(Command::Disconnect { force: true });
    pair.run();
    pair.a.write(0, 7, 4096);
    pair.run();
    assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
    pair.a.command(Command::Disconnect { force: true });
    pair.run();
    let net = NetSettings { discard_my_data: true, ..settings(Protocol::C) };
    assert_eq!(pair.b.command(Command::Connect(Box::new(net))), 101);
    pair.run();
    assert_eq!(pair.b.command(Command::Primary { volume: V, force: false }), 1, "{}", pair.logs());
    pair.b.write(8, 9, 4096);
    pair.run();
    assert_eq!(pair.b.command(Command::Secondary { volume: V, open: false }), 1, "{}", pair.logs());
    let kept = pair.b.data.clone();
    assert_eq!(pair.a.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    assert!(pair.b.log.iter().any(|line| line.contains("Split-Brain detected")), "{}", pair.logs());
    assert!(pair.b.data == kept, "what was written as Primary is lost\n{}", pair.logs());
}

/// A link waits until a promotion is over, and an administrator disconnects by force meanwhile: nothing is sent on it any more.
#[test]
fn a_link_that_waited_is_forgotten_with_a_forced_disconnect() {
    let mut pair = synced_pair();
    assert_eq!(pair.a.command(Command::Secondary { volume: V, open: false }), 1);
    pair.run();
    pair.lose_link();
    pair.a.meta_held = Some(Vec::new());
    let id = pair.a.begin(Command::Primary { volume: V, force: false });
    while pair.a.work() {}
    assert!(!pair.a.replies.contains_key(&id), "{}", pair.logs());
    let link = Link { version: pair.version, features: Features::ANNOUNCED, arbiter: true };
    pair.a.core.link_up(pair.now, link);
    pair.a.core.command(pair.now, 7000, Command::Disconnect { force: true });
    // The engine takes its time to close it.
    let mut closes = false;
    for _ in 0..20 {
        let mut outputs = Vec::new();
        pair.a.core.take_outputs(&mut outputs);
        for output in outputs {
            match output {
                Output::CloseLink { .. } => closes = true,
                output => pair.a.carry_out(output),
            }
        }
        pair.a.release_meta();
        pair.a.meta_held = Some(Vec::new());
    }
    assert_eq!(pair.a.replies.get(&id), Some(&1), "{}", pair.logs());
    assert!(closes && pair.a.outgoing.iter().all(|packets| packets.is_empty()), "{}", pair.logs());
    pair.a.meta_held = None;
    pair.a.core.link_closed(pair.now);
    while pair.a.work() {}
    assert_eq!(pair.a.word().1, Conn::StandAlone, "{}", pair.logs());
}

/// The source of a resync asks to be let go by a target that is in use, is refused, offers to be outdated, and loses the link before the
/// answer. A target without good data cannot have agreed: the only good ones stay what they are.
#[test]
fn the_source_of_a_resync_is_not_outdated_by_a_disconnect_that_the_target_refuses() {
    let mut pair = synced_pair();
    pair.b.held = Some(Vec::new());
    pair.b.begin(Command::InvalidateRemote { volume: V });
    pair.run();
    assert_eq!((pair.a.word().0, pair.a.word().1), (Role::Primary, Conn::SyncTarget), "{}", pair.logs());
    let id = pair.begin_disconnect_of_b();
    pair.lose_link();
    pair.b.release_held();
    pair.run();
    assert_eq!((pair.b.word().1, pair.b.word().2), (Conn::StandAlone, Disk::UpToDate), "{}", pair.logs());
    assert_eq!(pair.b.replies[&id], 101, "{}", pair.logs());
}

/// Nor can a Primary without a disk.
#[test]
fn the_disk_of_a_diskless_primary_is_not_outdated_by_a_disconnect_that_it_refuses() {
    for version in [86, 101] {
        let mut pair = synced_pair_at(version, Protocol::C);
        pair.a.begin(Command::Detach { volume: V, force: false });
        pair.run();
        let token = pair.a.write(8, 5, 4096);
        pair.run();
        assert!(pair.a.completed[&token].is_ok(), "{}", pair.logs());
        let id = pair.begin_disconnect_of_b();
        pair.lose_link();
        pair.run();
        assert_eq!((pair.b.word().1, pair.b.word().2), (Conn::StandAlone, Disk::UpToDate), "{}", pair.logs());
        assert_eq!(pair.b.replies[&id], 101, "{}", pair.logs());
    }
}

/// When this node is told to invalidate its disk, and hears that the peer agrees: before or in the handshake.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Invalidates {
    Before,
    In,
    AnsweredIn,
}

/// A peer that was made UpToDate by force begins a handshake over the link that is there, and this node, whose full sync it leads to,
/// is told to invalidate its disk. The peer has agreed before it heard of the end of that handshake: what they agreed to counts.
#[test]
fn invalidate_in_a_handshake_over_an_existing_link_counts() {
    use Invalidates::*;
    for (version, when) in
        [(86, Before), (101, Before), (86, In), (101, In), (86, AnsweredIn), (101, AnsweredIn)]
    {
        let mut pair = Pair::new(version);
        pair.connect(&settings(Protocol::C));
        pair.a.data.fill(7);
        pair.a.begin(Command::Primary { volume: V, force: true });
        while pair.a.work() {}
        pair.b.meta_held = Some(Vec::new());
        let invalidate = |node: &mut Node| {
            let id = node.begin(Command::Invalidate { volume: V });
            while node.work() {}
            id
        };
        let id = if when == Before {
            let sent = |node: &Node| {
                let mut packets = node.outgoing[Socket::Data as usize].iter();
                packets.any(|(_, packet, _)| matches!(packet, Packet::State(_)))
            };
            while !sent(&pair.a) {
                pair.run_once();
            }
            let id = invalidate(&mut pair.b);
            while Pair::deliver(&mut pair.a, &mut pair.b, Socket::Data, pair.now) {
                while pair.b.work() {}
            }
            id
        } else {
            while !pair.b.log.iter().any(|line| line.contains("full sync required")) {
                pair.run_once();
            }
            invalidate(&mut pair.b)
        };
        if when == AnsweredIn {
            for _ in 0..10 {
                pair.run_once();
            }
            assert_eq!(pair.b.word().1, Conn::StartingSyncT, "{}", pair.logs());
        }
        pair.b.release_meta();
        if when != AnsweredIn {
            while pair.b.work() {}
            assert_eq!(pair.b.word().1, Conn::WFBitMapT, "{}", pair.logs());
        }
        pair.run();
        assert_eq!(pair.b.replies.get(&id), Some(&1), "{version} {when:?} {}", pair.logs());
        pair.assert_equal();
    }
}

/// A Primary, alone, with a write at a disk that the test lets fail (`on-io-error pass_on`). Its super block calls that disk good.
fn about_to_fail_alone() -> Pair {
    let mut pair = synced_pair();
    pair.lose_link();
    while pair.a.work() {}
    pair.a.held = Some(Vec::new());
    pair.a.write(4000, 99, 4096);
    while pair.a.work() {}
    assert!(pair.a.is_marked_good(), "{}", pair.logs());
    pair
}

impl Node {
    fn is_marked_good(&self) -> bool {
        self.super_block().calls_disk_good()
    }

    fn has_told_of_inconsistent_disk(&self) -> bool {
        let told = |packet: &Packet| match packet {
            Packet::State(word) => {
                StateWord::from_bits(*word).is_ok_and(|word| word.disk == Disk::Inconsistent)
            }
            _ => false,
        };
        self.sent.iter().any(told)
            || self.outgoing[Socket::Data as usize].iter().any(|(_, packet, _)| told(packet))
    }
}

/// `pri-on-incon-degr` may take its time, or the node with it: by then the super block says what has become of the disk.
#[test]
fn a_failed_disk_is_marked_before_a_handler_hears_of_it() {
    let mut pair = about_to_fail_alone();
    pair.a.running = Some(Vec::new());
    pair.a.fail_held_write(pair.now);
    while pair.a.work() {}
    assert_eq!(pair.a.word().2, Disk::Inconsistent, "{}", pair.logs());
    assert_eq!(pair.a.running.as_ref().map(Vec::len), Some(1), "{}", pair.logs());
    assert!(!pair.a.is_marked_good(), "{}", pair.logs());
}

/// A peer that hears of an Inconsistent disk takes its own for good: this node must not be able to come back from a crash with a disk that it
/// calls good, too.
#[test]
fn a_peer_hears_of_a_failed_disk_only_when_that_is_marked() {
    let mut pair = about_to_fail_alone();
    pair.a.meta_held = Some(Vec::new());
    pair.a.fail_held_write(pair.now);
    while pair.a.work() {}
    pair.a.sent.clear();
    (pair.a.wants_link, pair.b.wants_link) = (true, true);
    for _ in 0..50 {
        pair.run_once();
    }
    assert!(pair.linked && pair.a.is_marked_good(), "{}", pair.logs());
    assert!(!pair.a.has_told_of_inconsistent_disk(), "{}", pair.logs());

    pair.a.release_meta();
    while pair.a.work() {}
    assert!(!pair.a.is_marked_good() && pair.a.has_told_of_inconsistent_disk(), "{}", pair.logs());
}

/// So with a peer that is connected, which goes on in the generation that this node has: it begins none without the good data of another.
#[test]
fn a_connected_peer_hears_of_a_failed_disk_only_when_that_is_marked() {
    let mut pair = synced_pair();
    pair.b.held = Some(Vec::new());
    pair.a.write(4000, 99, 4096);
    pair.run_for_a_while();
    pair.b.meta_held = Some(Vec::new());
    pair.b.sent.clear();
    pair.b.fail_held_write(pair.now);
    pair.run_for_a_while();
    assert_eq!(pair.b.word().2, Disk::Inconsistent, "{}", pair.logs());
    assert!(pair.b.is_marked_good() && !pair.b.has_told_of_inconsistent_disk(), "{}", pair.logs());

    pair.b.release_meta();
    pair.run();
    assert!(!pair.b.is_marked_good() && pair.b.has_told_of_inconsistent_disk(), "{}", pair.logs());
}
