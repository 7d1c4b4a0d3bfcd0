//! What `net-options` tells the peer of a running connection.

use super::*;
use crate::core::codes::StateError;

#[test]
fn changed_net_options_are_in_force_on_both_sides() {
    for version in [100, 101] {
        let mut pair = Pair::new(version);
        pair.connect(&settings(Protocol::C));
        pair.a.begin(Command::Primary { volume: V, force: true });
        pair.run();
        pair.assert_equal();

        let both = NetSettings { allow_two_primaries: true, ..settings(Protocol::C) };
        pair.a.begin(Command::NetSettings(Box::new(both)));
        pair.run();
        let id = pair.b.begin(Command::Primary { volume: V, force: false });
        pair.run();
        assert_eq!(pair.b.replies[&id], 1, "version {version}\n{}", pair.logs());
        pair.b.begin(Command::Secondary { volume: V, open: false });
        pair.run();

        pair.a.begin(Command::NetSettings(Box::new(settings(Protocol::A))));
        pair.run();
        let id = pair.b.begin(Command::Primary { volume: V, force: false });
        pair.run();
        // The own rules refuse it; the peer is not asked.
        assert_eq!(
            pair.b.replies[&id],
            StateError::TwoPrimaries.code(),
            "version {version}\n{}",
            pair.logs()
        );
        assert_eq!(pair.b.core.net_settings().map(|net| net.protocol), Some(Protocol::A));
        let token = pair.a.write(0, 7, 4096);
        pair.run();
        assert_eq!(pair.a.completed[&token], Ok(None));
        pair.assert_equal();
    }
}
