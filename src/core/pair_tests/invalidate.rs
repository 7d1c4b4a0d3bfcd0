//! Data that an administrator gives up for the peer's.

use super::*;

/// Below protocol version 96 the source ends a resync before that is durable at the target. If its data were given up then, a crash of the
/// target would leave no good ones.
#[test]
fn the_source_is_not_given_up_before_the_target_would_survive_a_crash() {
    for asked_by_source in [true, false] {
        let mut pair = synced_pair_at(95, Protocol::C);
        pair.b.begin(Command::Disconnect { force: true });
        pair.run();
        pair.a.write(4000, 99, 8192);
        pair.run();
        pair.a.held = Some(Vec::new());
        assert_eq!(pair.b.command(Command::Connect(Box::new(settings(Protocol::C)))), 101);
        pair.run();
        assert_eq!(pair.b.word().1, Conn::SyncTarget, "{}", pair.logs());
        pair.b.meta_held = Some(Vec::new());
        for output in pair.a.held.take().unwrap_or_default() {
            pair.a.carry_out(output);
        }
        for _ in 0..400 {
            pair.run_once();
        }
        assert_eq!((pair.a.word().1, pair.a.word().3), (Conn::Connected, Disk::UpToDate), "{}", pair.logs());
        assert!(!pair.b.super_block().flags.contains(MetaFlags::CONSISTENT), "{}", pair.logs());
        let id = if asked_by_source {
            pair.a.begin(Command::Invalidate { volume: V })
        } else {
            pair.b.begin(Command::InvalidateRemote { volume: V })
        };
        for _ in 0..400 {
            pair.run_once();
        }
        assert_eq!(pair.a.word().2, Disk::UpToDate, "{}", pair.logs());
        while let Some(held) = pair.b.meta_held.take().filter(|held| !held.is_empty()) {
            held.into_iter().for_each(|output| pair.b.carry_out(output));
            pair.b.meta_held = Some(Vec::new());
            pair.run();
        }
        pair.b.meta_held = None;
        pair.run();
        let replies = if asked_by_source { &pair.a.replies } else { &pair.b.replies };
        assert_eq!(replies.get(&id), Some(if asked_by_source { &-10 } else { &1 }), "{}", pair.logs());
        pair.assert_equal();
        let resyncs = pair.a.log.iter().filter(|line| line.contains("Began resync as SyncTarget")).count();
        assert_eq!(resyncs, usize::from(!asked_by_source), "{}", pair.logs());
    }
}
