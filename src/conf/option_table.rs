//! The rows of the one table of options. spec/decisions.md 3.1; facts: spec/config.md 6,
//! spec/drbdsetup.md 2.6, 3.1, 6.3.
//!
//! Order: 8.4's, section by section. A row starts with name, section and the defaults of 8.3 and
//! 8.4; what it has beyond that follows by name.

use super::number::Unit::{Kibi, One, Sector};
use super::options::{Forgotten, Kind, OldForm, OptionRow, Range, Scope, Section, Word, SECTORS_MAX};
use Section::{Disk, Global, Handlers, Net, Options, Proxy, Startup, Syncer};

const fn word(text: &'static str, number: u8) -> Word {
    Word { text, number }
}

const ON_IO_ERROR: &[Word] = &[word("pass_on", 0), word("call-local-io-error", 1), word("detach", 2)];
const FENCING: &[Word] = &[word("dont-care", 0), word("resource-only", 1), word("resource-and-stonith", 2)];
const AFTER_SB_0PRI: &[Word] = &[
    word("disconnect", 0),
    word("discard-younger-primary", 1),
    word("discard-older-primary", 2),
    word("discard-zero-changes", 3),
    word("discard-least-changes", 4),
    word("discard-local", 5),
    word("discard-remote", 6),
];
const AFTER_SB_1PRI: &[Word] = &[
    word("disconnect", 0),
    word("consensus", 7),
    word("discard-secondary", 8),
    word("call-pri-lost-after-sb", 9),
    word("violently-as0p", 10),
];
const AFTER_SB_2PRI: &[Word] =
    &[word("disconnect", 0), word("call-pri-lost-after-sb", 9), word("violently-as0p", 10)];
const RR_CONFLICT: &[Word] = &[word("disconnect", 0), word("call-pri-lost", 9), word("violently", 10)];
const ON_CONGESTION: &[Word] = &[word("block", 0), word("pull-ahead", 1), word("disconnect", 2)];
const ON_NO_DATA: &[Word] = &[word("io-error", 0), word("suspend-io", 1)];
const PROTOCOL: &[Word] = &[word("A", 1), word("B", 2), word("C", 3)];
const READ_BALANCING: &[Word] = &[
    word("prefer-local", 0),
    word("prefer-remote", 1),
    word("round-robin", 2),
    word("least-pending", 3),
    word("when-congested-remote", 4),
    word("32K-striping", 5),
    word("64K-striping", 6),
    word("128K-striping", 7),
    word("256K-striping", 8),
    word("512K-striping", 9),
    word("1M-striping", 10),
];

const USAGE_COUNT: &[Word] = &[word("yes", 0), word("no", 1), word("ask", 2)];

/// Largest rate, KiB/s.
const RATE_MAX: i64 = 4_194_304;

const fn row(
    name: &'static str,
    section: Section,
    kind: Kind,
    default_83: i64,
    default_84: i64,
    help: &'static str,
) -> OptionRow {
    OptionRow {
        name,
        section,
        old: None,
        older: &[],
        in_proxy: false,
        token: 0,
        kind,
        range_83: None,
        range_84: None,
        range_adm84: None,
        default_83,
        default_84,
        unit_text: "",
        since: "8.3.0",
        checked: false,
        scope: Scope::Any,
        help,
    }
}

/// An 8.4 flag: `no`/`yes` by default in 8.3 and 8.4.
const fn flag(
    name: &'static str,
    section: Section,
    default_83: bool,
    default_84: bool,
    help: &'static str,
) -> OptionRow {
    row(name, section, Kind::Flag, default_83 as i64, default_84 as i64, help)
}

/// A string of at most `max` bytes, empty by default.
const fn text(name: &'static str, section: Section, max: u16, help: &'static str) -> OptionRow {
    row(name, section, Kind::Text(max), 0, 0, help)
}

const fn handler(name: &'static str, since: &'static str, help: &'static str) -> OptionRow {
    let mut made = text(name, Handlers, 0, help).old(name, Handlers, '\0', 0).file_only();
    made.since = since;
    made
}

impl OptionRow {
    const fn old(mut self, name: &'static str, section: Section, short: char, rank: u8) -> OptionRow {
        self.old = Some(OldForm { name, section, short, rank, inverted: false });
        self
    }

    const fn inverted(mut self, name: &'static str, section: Section, short: char, rank: u8) -> OptionRow {
        self.old = Some(OldForm { name, section, short, rank, inverted: true });
        self
    }

    /// The same limits in both dialects.
    const fn range_both(mut self, min: i64, max: i64) -> OptionRow {
        self.range_83 = Some(Range { min, max });
        self.range_84 = Some(Range { min, max });
        self
    }

    const fn range_in_83(mut self, min: i64, max: i64) -> OptionRow {
        self.range_83 = Some(Range { min, max });
        self
    }

    const fn range_in_84(mut self, min: i64, max: i64) -> OptionRow {
        self.range_84 = Some(Range { min, max });
        self
    }

    const fn range_of_adm84(mut self, min: i64, max: i64) -> OptionRow {
        self.range_adm84 = Some(Range { min, max });
        self
    }

    const fn unit_is(mut self, text: &'static str) -> OptionRow {
        self.unit_text = text;
        self
    }

    const fn from(mut self, release: &'static str) -> OptionRow {
        self.since = release;
        self
    }

    const fn checked(mut self) -> OptionRow {
        self.checked = true;
        self
    }

    const fn file_only(mut self) -> OptionRow {
        self.scope = Scope::FileOnly;
        self
    }

    /// Names of releases before 8.3 that are still read.
    const fn older(mut self, names: &'static [&'static str]) -> OptionRow {
        self.older = names;
        self
    }

    /// May stand in `proxy` too.
    const fn in_proxy(mut self) -> OptionRow {
        self.in_proxy = true;
        self
    }

    /// A token number of its own.
    const fn token(mut self, number: u16) -> OptionRow {
        self.token = number;
        self
    }

    const fn scoped(mut self, scope: Scope) -> OptionRow {
        self.scope = scope;
        self
    }
}

const DECISECONDS: &str = "1/10 seconds";
const SECONDS: &str = "seconds";
const BYTES: &str = "bytes";
const RATE: &str = "bytes/second";

/// Every option.
#[rustfmt::skip]
pub(super) const TABLE: &[OptionRow] = &[
    // global: drbdadm's own
    flag("disable-ip-verification", Global, false, false, "do not check that this host has the address of its section")
        .old("disable-ip-verification", Global, '\0', 0).file_only().token(268),
    row("minor-count", Global, Kind::Number(One), 0, 0, "number of minors for which scripts shall load the module; 0: computed")
        .old("minor-count", Global, '\0', 0).range_in_83(1, 256).range_in_84(1, 255).checked().file_only().token(278),
    row("dialog-refresh", Global, Kind::Number(One), 1, 1, "redraw interval of the question of wait-con-int; 0: never")
        .old("dialog-refresh", Global, '\0', 0).range_both(0, 600).unit_is(SECONDS).checked().file_only().token(269),
    row("usage-count", Global, Kind::Choice(USAGE_COUNT), 2, 2, "accepted, without effect: nothing is ever sent")
        .old("usage-count", Global, '\0', 0).file_only().token(293),
    row("cmd-timeout-short", Global, Kind::Number(One), 5, 5, "time limit of called programs that answer at once; 0: none")
        .range_in_84(0, 900).unit_is(SECONDS).from("8.4.5").checked().file_only().token(323),
    row("cmd-timeout-medium", Global, Kind::Number(One), 121, 121, "time limit of called programs that wait for the peer or a disk; 0: none")
        .range_in_84(0, 900).unit_is(SECONDS).from("8.4.5").checked().file_only().token(324),
    row("cmd-timeout-long", Global, Kind::Number(One), 600, 600, "time limit of drbdmeta and of handlers; 0: none")
        .range_in_84(0, 900).unit_is(SECONDS).from("8.4.5").checked().file_only().token(325),
    flag("udev-always-use-vnr", Global, false, false, "sh-udev prints the volume also where the file has none")
        .from("8.4.5").file_only().token(328),

    // options: of a resource
    text("cpu-mask", Options, 31, "CPUs that the threads of the resource may run on, hexadecimal")
        .old("cpu-mask", Syncer, 'c', 6),
    row("on-no-data-accessible", Options, Kind::Choice(ON_NO_DATA), 0, 0,
        "what happens to I/O when neither disk nor peer has the data")
        .old("on-no-data-accessible", Syncer, 'n', 8).from("8.3.9"),

    // net: of a connection
    flag("tentative", Net, false, false, "only find out which direction a resync would take, then disconnect")
        .old("dry-run", Net, 'n', 22).scoped(Scope::OneShot),
    flag("discard-my-data", Net, false, false, "after split brain: give up this node's changes")
        .old("discard-my-data", Net, 'D', 19).scoped(Scope::OneShot).token(316),
    row("protocol", Net, Kind::Choice(PROTOCOL), 3, 3, "when a write is complete: A sent, B received, C written by the peer").token(270),
    row("timeout", Net, Kind::Number(One), 60, 60, "the peer must answer within this time")
        .old("timeout", Net, 't', 1).range_both(1, 600).unit_is(DECISECONDS).checked(),
    row("max-epoch-size", Net, Kind::Number(One), 2048, 2048, "writes between two barriers at most")
        .old("max-epoch-size", Net, 'e', 2).range_both(1, 20000).checked(),
    row("max-buffers", Net, Kind::Number(One), 2048, 2048, "receive buffers, pages of 4 KiB")
        .old("max-buffers", Net, 'b', 3).range_both(32, 131_072).checked(),
    row("unplug-watermark", Net, Kind::Number(One), 128, 128, "pending requests that unplug the peer's disk")
        .old("unplug-watermark", Net, 'u', 4).range_both(1, 131_072),
    row("connect-int", Net, Kind::Number(One), 10, 10, "time between two attempts to connect")
        .old("connect-int", Net, 'c', 5).range_both(1, 120).unit_is(SECONDS).checked(),
    row("ping-int", Net, Kind::Number(One), 10, 10, "keep-alive when idle")
        .old("ping-int", Net, 'i', 6).range_both(1, 120).unit_is(SECONDS).checked(),
    row("sndbuf-size", Net, Kind::Number(One), 0, 0, "send buffer of the data socket; 0: chosen by the kernel")
        .old("sndbuf-size", Net, 'S', 7).range_both(0, 10_485_760).unit_is(BYTES).checked().in_proxy(),
    row("rcvbuf-size", Net, Kind::Number(One), 0, 0, "receive buffer of the data socket; 0: chosen by the kernel")
        .old("rcvbuf-size", Net, 'r', 8).range_both(0, 10_485_760).unit_is(BYTES).from("8.3.2").checked().in_proxy(),
    row("ko-count", Net, Kind::Number(One), 0, 7, "timeouts of one request before the peer is given up; 0: never")
        .old("ko-count", Net, 'k', 9).range_both(0, 200).checked(),
    flag("allow-two-primaries", Net, false, false, "both nodes may be Primary at the same time")
        .old("allow-two-primaries", Net, 'm', 10),
    text("cram-hmac-alg", Net, 63, "digest for mutual authentication; empty: none")
        .old("cram-hmac-alg", Net, 'a', 11),
    text("shared-secret", Net, 63, "secret for mutual authentication")
        .old("shared-secret", Net, 'x', 12),
    row("after-sb-0pri", Net, Kind::Choice(AFTER_SB_0PRI), 0, 0, "split brain is found, no node is Primary")
        .old("after-sb-0pri", Net, 'A', 13),
    row("after-sb-1pri", Net, Kind::Choice(AFTER_SB_1PRI), 0, 0, "split brain is found, one node is Primary")
        .old("after-sb-1pri", Net, 'B', 14),
    row("after-sb-2pri", Net, Kind::Choice(AFTER_SB_2PRI), 0, 0, "split brain is found, both nodes are Primary")
        .old("after-sb-2pri", Net, 'C', 15),
    flag("always-asbp", Net, false, false, "use the after-sb policies also for more complex histories")
        .old("always-asbp", Net, 'P', 16),
    row("rr-conflict", Net, Kind::Choice(RR_CONFLICT), 0, 0, "the direction of a resync contradicts the roles")
        .old("rr-conflict", Net, 'R', 17),
    row("ping-timeout", Net, Kind::Number(One), 5, 5, "a ping must be answered within this time")
        .old("ping-timeout", Net, 'p', 18).range_both(1, 300).unit_is(DECISECONDS).in_proxy(),
    text("data-integrity-alg", Net, 63, "digest over every block on the network; empty: none")
        .old("data-integrity-alg", Net, 'd', 20),
    flag("tcp-cork", Net, true, true, "collect small packets with TCP_CORK")
        .inverted("no-tcp-cork", Net, 'o', 21),
    row("on-congestion", Net, Kind::Choice(ON_CONGESTION), 0, 0, "what to do when the network is congested (protocol A)")
        .old("on-congestion", Net, 'g', 23).from("8.3.10"),
    row("congestion-fill", Net, Kind::Number(Sector), 0, 0, "data in flight that counts as congestion; 0: off")
        .old("congestion-fill", Net, 'f', 24).range_both(0, 20_971_520).unit_is(BYTES).from("8.3.10").checked(),
    row("congestion-extents", Net, Kind::Number(One), 127, 1237, "active extents that count as congestion")
        .old("congestion-extents", Net, 'h', 25).range_in_83(7, 3833).range_in_84(67, 65534).range_of_adm84(7, 65534)
        .from("8.3.10").checked(),
    text("csums-alg", Net, 63, "resync compares digests first; empty: send every block")
        .old("csums-alg", Syncer, 'C', 4),
    flag("csums-after-crash-only", Net, false, false, "use csums-alg only after a Primary crashed")
        .from("8.4.8"),
    text("verify-alg", Net, 63, "digest for online verify; empty: no verify")
        .old("verify-alg", Syncer, 'v', 5),
    flag("use-rle", Net, false, true, "compress the bitmap when it is sent")
        .old("use-rle", Syncer, 'R', 7).from("8.3.2"),
    row("socket-check-timeout", Net, Kind::Number(One), 0, 0, "wait for the sockets to be confirmed; 0: ping-timeout")
        .range_in_84(0, 300).from("8.4.5"),

    // disk: of a volume
    row("size", Disk, Kind::Number(Sector), 0, 0, "use only this much of the device; 0: all")
        .old("size", Disk, 'd', 1).range_both(0, SECTORS_MAX).unit_is(BYTES).checked().scoped(Scope::Creation),
    row("max-bio-bvecs", Disk, Kind::Number(One), 0, 0, "largest number of segments in a request; 0: no limit")
        .old("max-bio-bvecs", Disk, 's', 9).range_both(0, 128).scoped(Scope::Creation),
    row("on-io-error", Disk, Kind::Choice(ON_IO_ERROR), 0, 2, "what a failed local request does to the disk")
        .old("on-io-error", Disk, 'e', 2),
    row("fencing", Disk, Kind::Choice(FENCING), 0, 0, "what a Primary does about a peer that it lost")
        .old("fencing", Disk, 'f', 3),
    flag("disk-barrier", Disk, true, false, "order writes by barriers")
        .inverted("no-disk-barrier", Disk, 'a', 5),
    flag("disk-flushes", Disk, true, true, "order writes by flushing the disk")
        .inverted("no-disk-flushes", Disk, 'i', 6),
    flag("disk-drain", Disk, true, true, "order writes by waiting for all that are in flight")
        .inverted("no-disk-drain", Disk, 'D', 7),
    flag("md-flushes", Disk, true, true, "flush the disk after meta data was written")
        .inverted("no-md-flushes", Disk, 'm', 8),
    row("resync-rate", Disk, Kind::Number(Kibi), 250, 250, "resync speed while c-plan-ahead is 0")
        .old("rate", Syncer, 'r', 1).range_both(1, RATE_MAX).unit_is(RATE).checked(),
    row("resync-after", Disk, Kind::Number(One), -1, -1, "resync only when that device has finished; -1: none")
        .old("after", Syncer, 'a', 2).range_in_83(-1, 255).range_in_84(-1, 1_048_575),
    row("al-extents", Disk, Kind::Number(One), 127, 1237, "extents of 4 MiB that can be written to without a meta data update")
        .old("al-extents", Syncer, 'e', 3).range_in_83(7, 3833).range_in_84(67, 65534).range_of_adm84(7, 65534).checked(),
    flag("al-updates", Disk, true, true, "keep the activity log; no: full resync after a crash of a Primary")
        .from("8.4.2"),
    flag("discard-zeroes-if-aligned", Disk, true, true, "an aligned discard reads back as zeroes")
        .from("8.4.8"),
    flag("disable-write-same", Disk, false, false, "do not pass WRITE SAME on")
        .from("8.4.9"),
    row("c-plan-ahead", Disk, Kind::Number(One), 0, 20, "how far the resync speed controller plans; 0: fixed rate")
        .old("c-plan-ahead", Syncer, 'p', 9).range_both(0, 300).unit_is(DECISECONDS).from("8.3.9").checked(),
    row("c-delay-target", Disk, Kind::Number(One), 10, 10, "delay on the path that the controller aims at")
        .old("c-delay-target", Syncer, 'd', 10).range_both(1, 100).unit_is(DECISECONDS).from("8.3.9").checked(),
    row("c-fill-target", Disk, Kind::Number(Sector), 0, 100, "data in flight that the controller aims at; 0: use c-delay-target")
        .old("c-fill-target", Syncer, 's', 11).range_both(0, 1_048_576).unit_is(BYTES).from("8.3.9").checked(),
    row("c-max-rate", Disk, Kind::Number(Kibi), 102_400, 102_400, "the controller's fastest resync")
        .old("c-max-rate", Syncer, 'M', 12).range_both(250, RATE_MAX).unit_is(RATE).from("8.3.9").checked(),
    row("c-min-rate", Disk, Kind::Number(Kibi), 4096, 250, "resync is not slowed below this for the application; 0: no limit")
        .old("c-min-rate", Syncer, 'm', 13).range_both(0, RATE_MAX).unit_is(RATE).from("8.3.9").checked(),
    row("disk-timeout", Disk, Kind::Number(One), 0, 0, "a request to the disk that takes longer fails; 0: off")
        .old("disk-timeout", Disk, 't', 10).range_both(0, 6000).unit_is(DECISECONDS).from("8.3.12"),
    row("read-balancing", Disk, Kind::Choice(READ_BALANCING), 0, 0, "which node serves reads")
        .from("8.4.1"),
    row("rs-discard-granularity", Disk, Kind::Number(One), 0, 0, "resync discards zeroed ranges of this size; 0: off")
        .range_in_84(0, 1_048_576).from("8.4.7"),
    flag("use-bmbv", Disk, false, false, "accepted, without effect")
        .old("use-bmbv", Disk, 'b', 4).scoped(Scope::Historic),

    // startup: drbdadm's own
    row("wfc-timeout", Startup, Kind::Number(One), 0, 0, "wait for the connection at boot; 0: for ever")
        .old("wfc-timeout", Startup, 't', 1).range_both(0, 300_000).unit_is(SECONDS).checked().file_only(),
    row("degr-wfc-timeout", Startup, Kind::Number(One), 0, 0, "the same, if the cluster was degraded before; 0: for ever")
        .old("degr-wfc-timeout", Startup, 'd', 2).range_both(0, 300_000).unit_is(SECONDS).checked().file_only(),
    row("outdated-wfc-timeout", Startup, Kind::Number(One), 0, 0, "the same, if the peer was outdated; 0: for ever")
        .old("outdated-wfc-timeout", Startup, 'o', 3).range_both(0, 300_000).unit_is(SECONDS).from("8.3.1").checked().file_only(),
    flag("wait-after-sb", Startup, false, false, "go on waiting after split brain")
        .old("wait-after-sb", Startup, 'w', 4).file_only(),
    row("become-primary-on", Startup, Kind::Hosts, 0, 0, "nodes that become Primary at boot, or both")
        .old("become-primary-on", Startup, '\0', 0).checked().file_only(),
    flag("stacked-timeouts", Startup, false, false, "use the wfc timeouts for stacked resources too")
        .old("stacked-timeouts", Startup, '\0', 0).file_only(),

    // proxy: words for drbd-proxy-ctl
    text("memlimit", Proxy, 0, "memory of the proxy for this connection")
        .old("memlimit", Proxy, '\0', 0).file_only(),
    text("read-loops", Proxy, 0, "read loops of the proxy")
        .old("read-loops", Proxy, '\0', 0).file_only(),
    text("compression", Proxy, 0, "compression of the proxy")
        .old("compression", Proxy, '\0', 0).file_only(),
    text("bwlimit", Proxy, 0, "bandwidth limit of the proxy")
        .from("8.4.4").file_only(),

    // handlers
    handler("pri-on-incon-degr", "8.3.0", "a degraded Primary has inconsistent data"),
    handler("pri-lost-after-sb", "8.3.0", "this Primary lost after split brain"),
    handler("pri-lost", "8.3.0", "this Primary should become the target of a resync"),
    handler("initial-split-brain", "8.3.8", "split brain is found, before the policies"),
    handler("split-brain", "8.3.0", "split brain is found and stays"),
    handler("fence-peer", "8.3.0", "make sure that the peer does not use its data").older(&["outdate-peer"]),
    handler("unfence-peer", "8.4.5", "the peer is up to date again"),
    handler("local-io-error", "8.3.0", "a local request failed"),
    handler("before-resync-target", "8.3.0", "before this node becomes the target of a resync"),
    handler("after-resync-target", "8.3.0", "after this node was the target of a resync"),
    handler("before-resync-source", "8.3.10", "before this node becomes the source of a resync"),
    handler("out-of-sync", "8.3.0", "online verify found differences"),
];

const fn forgotten(name: &'static str, help: &'static str) -> Forgotten {
    Forgotten { name, since: "8.3.8", help }
}

/// Words that are read in every section, each with a value, and forgotten.
pub(super) const FORGOTTEN: &[Forgotten] = &[
    forgotten("delay-probe-volume", "accepted, without effect"),
    forgotten("delay-probe-interval", "accepted, without effect"),
    forgotten("throttle-threshold", "accepted, without effect"),
    forgotten("hold-off-threshold", "accepted, without effect"),
];
