//! The end of a connection.

use super::*;

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
