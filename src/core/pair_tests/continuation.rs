//! Whether the application of a Primary whose daemon died may go on: only with the data that it knows.

use super::*;

/// `a`, the Primary, has acknowledged a write; its daemon dies with another one under way. The generation that it knew.
fn killed(pair: &mut Pair) -> u64 {
    let token = pair.a.write(4000, 1, 4096);
    pair.run();
    assert!(pair.a.completed[&token].is_ok());
    let seen = pair.a.core.volume(V).disk().map_or(0, |disk| disk.uuids.current);
    pair.a.write(5000, 2, 4096);
    pair.a.core = Node::core(77);
    pair.a.wants_link = false;
    pair.run();
    seen
}

/// Its daemon is started again, and connects.
fn back(pair: &mut Pair, net: &NetSettings) {
    pair.a.start();
    assert_eq!(pair.a.command(Command::Connect(Box::new(net.clone()))), 101);
    pair.run();
}

fn must(pair: &mut Pair, of_b: bool, command: Command) {
    let node = if of_b { &mut pair.b } else { &mut pair.a };
    let id = node.begin(command);
    pair.run();
    let node = if of_b { &pair.b } else { &pair.a };
    assert!(matches!(node.replies[&id], 1 | 101), "{}", pair.logs());
}

fn may(pair: &Pair, seen: u64) -> (bool, bool) {
    (pair.a.core.may_continue(V, seen), pair.a.core.continues(V, seen))
}

#[test]
fn the_application_goes_on_when_the_peer_has_said_that_it_has_nothing_newer() {
    let mut pair = synced_pair();
    let seen = killed(&mut pair);
    pair.a.start();
    assert_eq!(may(&pair, seen), (true, false), "the peer has not been asked");
    assert_eq!(may(&pair, seen ^ 0x100), (false, false), "another disk");
    assert_eq!(may(&pair, 0), (false, false));
    assert_eq!(pair.a.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
    pair.run();
    assert_eq!(may(&pair, seen), (true, true), "{}", pair.logs());
    must(&mut pair, false, Command::Primary { volume: V, force: false });
    assert_eq!(may(&pair, seen), (true, true), "{}", pair.logs());
    // What was under way comes again, by the kernel.
    let token = pair.a.write(5000, 2, 4096);
    pair.run();
    assert!(pair.a.completed[&token].is_ok());
    pair.assert_equal();
}

#[test]
fn it_goes_on_while_the_peer_gets_what_it_may_lack() {
    let mut pair = synced_pair();
    let seen = killed(&mut pair);
    pair.b.held = Some(Vec::new());
    back(&mut pair, &settings(Protocol::C));
    assert_eq!(pair.a.word().1, Conn::SyncSource, "{}", pair.logs());
    assert_eq!(may(&pair, seen), (true, true));
    pair.run_disk_backwards();
    assert_eq!(may(&pair, seen), (true, true));
}

#[test]
fn it_does_not_go_on_when_the_peer_was_primary_meanwhile() {
    for demoted in [true, false] {
        let mut pair = synced_pair();
        let seen = killed(&mut pair);
        must(&mut pair, true, Command::Primary { volume: V, force: false });
        let token = pair.b.write(4000, 9, 4096);
        pair.run();
        assert!(pair.b.completed[&token].is_ok());
        if demoted {
            must(&mut pair, true, Command::Secondary { volume: V, open: false });
        }
        back(&mut pair, &settings(Protocol::C));
        pair.assert_equal();
        assert_eq!(may(&pair, seen), (false, false), "the disk has the peer's data now\n{}", pair.logs());
    }
}

#[test]
fn it_does_not_go_on_when_the_peer_becomes_primary_before_this_node_does() {
    let mut pair = synced_pair();
    let seen = killed(&mut pair);
    back(&mut pair, &settings(Protocol::C));
    must(&mut pair, true, Command::Primary { volume: V, force: false });
    assert_eq!(may(&pair, seen), (false, false));
    pair.b.write(4000, 9, 4096);
    pair.run();
    must(&mut pair, true, Command::Secondary { volume: V, open: false });
    // The generation is the same as before, and so are the disks.
    pair.assert_equal();
    assert_eq!(may(&pair, seen), (false, false));
}

#[test]
fn it_does_not_go_on_with_a_disk_that_it_had_lost() {
    let mut pair = synced_pair();
    must(&mut pair, false, Command::Detach { volume: V, force: true });
    let token = pair.a.write(4000, 9, 4096);
    pair.run();
    assert!(pair.a.completed[&token].is_ok(), "on the peer's disk");
    let seen = pair.b.core.volume(V).disk().map_or(0, |disk| disk.uuids.current);
    pair.a.core = Node::core(77);
    pair.a.wants_link = false;
    pair.run();
    back(&mut pair, &settings(Protocol::C));
    pair.assert_equal();
    assert_eq!(may(&pair, seen), (false, false), "{}", pair.logs());
}

#[test]
fn it_does_not_go_on_after_the_end_of_a_primary_in_order() {
    let mut pair = synced_pair();
    let seen = pair.a.core.volume(V).disk().map_or(0, |disk| disk.uuids.current);
    must(&mut pair, false, Command::Secondary { volume: V, open: false });
    must(&mut pair, false, Command::Detach { volume: V, force: false });
    pair.a.attach();
    pair.run();
    assert_eq!(may(&pair, seen), (false, false));
}

#[test]
fn with_two_primaries_nobody_goes_on() {
    let mut pair = synced_pair();
    let both = NetSettings { allow_two_primaries: true, ..settings(Protocol::C) };
    let seen = killed(&mut pair);
    must(&mut pair, true, Command::Disconnect { force: false });
    assert_eq!(pair.b.command(Command::Connect(Box::new(both.clone()))), 101);
    back(&mut pair, &both);
    assert_eq!(pair.a.word().1, Conn::Connected, "{}", pair.logs());
    assert_eq!(may(&pair, seen), (false, false));
}
