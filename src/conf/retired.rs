//! Words of DRBD 0.6 to 8.0 that 8.3 has no more, and of DRBD 9: what to write instead. Nothing
//! here is accepted; it is said beside the parse error.

/// One such word.
#[derive(Debug, Clone, Copy)]
pub struct Retired {
    /// As it stands in the file.
    pub word: &'static str,
    /// Whose word it is.
    pub of: &'static str,
    /// What to do.
    pub advice: &'static str,
}

const fn row(word: &'static str, of: &'static str, advice: &'static str) -> Retired {
    Retired { word, of, advice }
}

const OLD: &str = "DRBD 0.6";
const SEVEN: &str = "DRBD 0.7";
const NINE: &str = "DRBD 9";

/// What holds for every word about more than two hosts.
const TWO_HOSTS: &str =
    "a resource has two hosts here; write address IP:PORT; into each `on` section instead";
const QUORUM: &str =
    "two hosts have no majority; write disk { fencing resource-only; } and handlers { fence-peer \"...\"; } instead";

/// All of them.
#[rustfmt::skip]
pub const TABLE: &[Retired] = &[
    row("disk-size", OLD, "write disk { size ...; } instead"),
    row("do-panic", OLD, "write disk { on-io-error ...; } instead"),
    row("fsck-cmd", OLD, "leave it out; check the file system where it is mounted"),
    row("inittimeout", OLD, "write startup { wfc-timeout ...; } instead"),
    row("load-only", OLD, "leave it out"),
    row("minor_count", OLD, "write global { minor-count ...; } instead"),
    row("port", OLD, "write it behind the address: address IP:PORT;"),
    row("skip-sync", OLD, "leave it out"),
    row("skip-wait", OLD, "write startup { wfc-timeout 1; } instead"),
    row("sync-group", OLD, "write syncer { after RESOURCE; } instead"),
    row("sync-max", OLD, "write syncer { rate ...; } instead"),
    row("sync-min", OLD, "write syncer { c-min-rate ...; } instead, or leave it out"),
    row("sync-nice", OLD, "leave it out"),
    row("sync-rate", OLD, "write syncer { rate ...; } instead"),
    row("tl-size", OLD, "leave it out; net { max-epoch-size ...; } limits the writes between two barriers"),
    row("disable-io-hints", SEVEN, "leave it out"),
    row("group", SEVEN, "write syncer { after RESOURCE; } instead: it waits for that resource's resync"),
    row("incon-degr-cmd", SEVEN, "write handlers { pri-on-incon-degr \"...\"; } instead"),
    row("on-disconnect", SEVEN, "leave it out; a lost peer is always tried again, every connect-int seconds"),
    row("allow-remote-read", NINE, "leave it out"),
    row("auto-promote", NINE, "leave it out; `drbdadm primary` makes a node Primary"),
    row("auto-promote-timeout", NINE, "leave it out; `drbdadm primary` makes a node Primary"),
    row("bitmap", NINE, "leave it out; every disk has a bitmap"),
    row("block-size", NINE, "leave it out"),
    row("connection", NINE, TWO_HOSTS),
    row("connection-mesh", NINE, TWO_HOSTS),
    row("disconnected", NINE, "leave it out; there is no such handler"),
    row("discard-granularity", NINE, "leave it out"),
    row("host", NINE, TWO_HOSTS),
    row("hosts", NINE, TWO_HOSTS),
    row("load-balance-paths", NINE, "leave it out; a connection has one path"),
    row("max-io-depth", NINE, "leave it out"),
    row("node-id", NINE, "leave it out; two hosts need no numbers"),
    row("on-no-quorum", NINE, QUORUM),
    row("on-suspended-primary-outdated", NINE, "leave it out"),
    row("path", NINE, TWO_HOSTS),
    row("peer-ack-delay", NINE, "leave it out"),
    row("peer-ack-window", NINE, "leave it out"),
    row("peer-device-options", NINE, "write its options into disk { } instead"),
    row("quorum", NINE, QUORUM),
    row("quorum-lost", NINE, QUORUM),
    row("quorum-minimum-redundancy", NINE, QUORUM),
    row("template-file", NINE, "write common { } instead, or include the file"),
    row("tls", NINE, "leave it out; data are not encrypted, use a tunnel where that matters"),
    row("transport", NINE, "leave it out; connections are TCP"),
    row("twopc-retry-timeout", NINE, "leave it out"),
    row("twopc-timeout", NINE, "leave it out"),
    row("udev-always-symlink-vnr", NINE, "leave it out"),
];

/// The row of a word.
pub fn find(word: &str) -> Option<&'static Retired> {
    TABLE.iter().find(|row| row.word == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::options;

    #[test]
    fn no_retired_word_is_an_option() {
        for (i, row) in TABLE.iter().enumerate() {
            assert!(options::lookup(row.word).is_none(), "{}", row.word);
            assert!(TABLE[i + 1..].iter().all(|other| other.word != row.word), "{}", row.word);
        }
    }
}
