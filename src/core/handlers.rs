//! The helper programs that the replication calls, by name. spec/state.md 15.2.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! handlers {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A handler. spec/state.md 15.2.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Handler {
            $($(#[$doc])* $variant,)*
        }

        impl Handler {
            /// All handlers.
            pub const ALL: &'static [Handler] = &[$(Handler::$variant,)*];

            /// The name in the configuration and on the command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Handler::$variant => $name,)*
                }
            }
        }
    };
}

handlers! {
    /// Primary without any UpToDate disk.
    PriOnIncon = "pri-on-incon-degr",
    /// Split brain recovery chose the peer's data, and this node is Primary.
    PriLostAfterSb = "pri-lost-after-sb",
    /// The resync goes against a Primary.
    PriLost = "pri-lost",
    /// Outdate or kill the peer. Its exit code decides (14.2).
    FencePeer = "fence-peer",
    /// The peer is in sync again.
    UnfencePeer = "unfence-peer",
    /// An I/O error of the own disk.
    LocalIoError = "local-io-error",
    /// A split brain, before the policies are tried.
    InitialSplitBrain = "initial-split-brain",
    /// A split brain that the policies did not solve.
    SplitBrain = "split-brain",
    /// Before this node becomes SyncTarget; exit code > 0 refuses.
    BeforeResyncTarget = "before-resync-target",
    /// A resync with this node as the target is done.
    AfterResyncTarget = "after-resync-target",
    /// Before this node becomes SyncSource; exit code > 0, but not 3, refuses.
    BeforeResyncSource = "before-resync-source",
    /// An online verify found differences.
    OutOfSync = "out-of-sync",
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
