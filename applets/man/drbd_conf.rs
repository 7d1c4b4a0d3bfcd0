//! Page of the manual: drbd.conf(5), made of the table of options and that of the checks.

use super::page::{sentence, Page};
use drbdbox::conf::manual::{self, Entry};
use drbdbox::conf::options::Section;

const EXAMPLE: &str = "\
common {
    protocol C;
    syncer { rate 30M; }
}
resource r0 {
    net { cram-hmac-alg sha1; shared-secret \"secret string\"; }
    on data01 {
        device    /dev/drbd0;
        disk      /dev/sdb1;
        address   192.168.197.134:7801;
        meta-disk internal;
    }
    on data02 {
        device    /dev/drbd0;
        disk      /dev/sdb1;
        address   192.168.197.135:7801;
        meta-disk internal;
    }
}";

/// The parts of the file that are no options, and what may stand in them.
const PARTS: &[(&str, &str)] = &[
    (
        "`include` \"PATTERN\"`;`",
        "The files of this pattern stand here. A relative one counts from the file it is in.",
    ),
    (
        "`skip` [...] `{` ... `}`",
        "All of this is left out. In front of any section it leaves that section out.",
    ),
    ("`global {` ... `}`", "Options of drbdadm. At most once."),
    ("`common {` ... `}`", "Sections that every resource has that does not say otherwise."),
    (
        "`resource` NAME `{` ... `}`",
        "What two hosts have in common: sections with options, the hosts, and what both say in the same way.",
    ),
    ("`on` HOST... `{` ... `}`", "In a resource: a host by its name (`uname -n`)."),
    ("`floating` ADDRESS`:`PORT `{` ... `}`", "In a resource: a host by the address that it has just now."),
    (
        "`stacked-on-top-of` RESOURCE `{` ... `}`",
        "In a resource: a host whose disk is the device of another resource.",
    ),
    (
        "`volume` NUMBER `{` ... `}`",
        "In a resource or a host, 8.4: one of several devices that share a connection.",
    ),
    (
        "`protocol A`, `B` or `C`",
        "In a resource or in `common`: when a write is complete. 8.4 has it in `net`.",
    ),
];

/// What a host or a volume has.
const HOST: &[(&str, &str)] = &[
    ("`device` PATH [`minor` NUMBER]`;`", "The device that is used: `/dev/drbd0`. Its minor is the number at the end, or stands behind `minor`."),
    ("`disk` PATH`;`", "Where the data are."),
    ("`address` [FAMILY] ADDRESS`:`PORT`;`", "Where the host listens and connects from. FAMILY is `ipv4` (also `ssocks` and `sdp`, which are taken for TCP) or `ipv6`, whose address stands in brackets. `on` and `floating` only."),
    ("`meta-disk internal;`", "The meta data are at the end of the disk."),
    ("`meta-disk` PATH [`[`INDEX`]`]`;`", "They are on a device of their own, which several disks share by an INDEX; each takes 128 MiB."),
    ("`flexible-meta-disk` PATH`;`", "They are on a device of their own, and are as large as they must be."),
    ("`proxy on` HOST `{ inside` ADDRESS`; outside` ADDRESS`; }`", "The connection goes through DRBD Proxy on this host."),
];

/// What the daemon tells handlers.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("`DRBD_RESOURCE`", "Name of the resource."),
    ("`DRBD_MINOR`", "Minor of the device; of a resource with volumes, where the handler is for all of them: the minors with blanks in between."),
    ("`DRBD_CONF`", "The configuration file."),
    ("`DRBD_PEER`, `DRBD_PEERS`", "Name of the peer, and all names that its section has."),
    ("`DRBD_PEER_AF`, `DRBD_PEER_ADDRESS`", "Address of the peer."),
    ("`DRBD_VOLUME`, `DRBD_LL_DISK`", "8.4: number of the volume, and its disk."),
];

/// What stands in front of the options of a section.
fn about(section: Section) -> &'static str {
    match section {
        Section::Global => "In the section `global`. For drbdadm only.",
        Section::Options => "In `resource` or `common`; 8.3 has these options in `syncer`.",
        Section::Net => "In `resource` or `common`. About the connection.",
        Section::Disk => "In `resource`, `common`, a host or a volume. About the disk, and about resync.",
        Section::Startup => "In `resource` or `common`. For drbdadm and the init script only.",
        Section::Handlers => "In `resource` or `common`. Commands for the shell, which the daemon has drbdadm run when something happens.",
        Section::Proxy => "In `resource` or `common`. `sndbuf-size`, `rcvbuf-size` and `ping-timeout` of `net` may stand here, too.",
        Section::Syncer => "In `resource` or `common`, 8.3: options that 8.4 has in other sections, under the names that are told there.",
    }
}

/// The page.
pub fn page() -> Page {
    let mut page = Page::new("drbd.conf", 5, "which devices are mirrored to which host, and how");
    page.heading("DESCRIPTION");
    page.text(
        "drbdadm(8) reads this file and gives it to the daemon, drbdd(8). It is the same on both hosts. The language is that of DRBD 8.3 and \
         8.4; words that only one of them knows are read in both.",
    );
    page.paragraph("The smallest useful file:");
    page.example(EXAMPLE);
    page.heading("FILE FORMAT");
    page.text(
        "Words are separated by blanks and new lines. A statement ends with a semicolon, a section stands in braces. `#` begins a comment. \
         Text with blanks or signs stands in quotation marks.",
    );
    page.paragraph(
        "A number may have a unit: `K`, `M` or `G`, which are powers of 1024, or `s` for sectors of 512 bytes. A switch may have `yes` or `no` \
         behind it; what 8.3 calls no-X is `X no`.",
    );
    page.subheading("Sections");
    for (words, text) in PARTS {
        page.item(words, text);
    }
    page.subheading("Of a host, a volume or a resource");
    for (words, text) in HOST {
        page.item(words, text);
    }
    page.heading("OPTIONS");
    page.text(
        "The names are those of 8.4. A default that is another one in 8.4 holds for what is configured by `drbdadm-84`, or `drbdsetup` in 8.4's \
         form.",
    );
    for section in Section::ALL.into_iter().filter(|section| *section != Section::Syncer) {
        page.subheading(section.word());
        page.text(about(section));
        for entry in manual::entries(section) {
            option(&mut page, &entry);
        }
    }
    page.subheading("syncer");
    page.text(about(Section::Syncer));
    page.subheading("Read and forgotten");
    for (word, since, help) in manual::forgotten() {
        page.item(&format!("`{word}`"), &format!("{} (since {since})", sentence(help)));
    }
    page.heading("HANDLERS");
    page.text(
        "A handler runs as `/bin/sh -c` with the text of the file, for at most 600 seconds. The exit status of `fence-peer` says what has become \
         of the peer: 3 its data are Inconsistent, 4 they are marked as Outdated, 5 it cannot be reached and is taken for dead, 6 it is \
         Primary, 7 it was switched off. If `before-resync-target` or `before-resync-source` fails, there is no resync. The environment:",
    );
    for (words, text) in ENVIRONMENT {
        page.item(words, text);
    }
    page.heading("CHECKS");
    page.text(
        "`drbdadm check` tells everything that is wrong with a file at once. An error is what would be refused, a warning is dangerous or in vain. \
         These are the names behind its findings:",
    );
    for (name, kind, help) in manual::check_rows() {
        page.item(&format!("`{name}` ({kind})"), &sentence(help));
    }
    page.heading("FILES");
    page.item("`/etc/drbd.conf`", "Without `--config-file` the first that is there of drbd-83.conf, drbd-82.conf, drbd-08.conf and this one is read; by `drbdadm-84`, drbd-84.conf before these.");
    page.item("`/etc/drbd.d/`", "Files that the installed /etc/drbd.conf includes.");
    page.see_also(super::ALL);
    page
}

fn option(page: &mut Page, entry: &Entry) {
    let values = match entry.values.as_str() {
        "switch" => String::new(),
        values => format!(" {}", values.replace("` `", "` | `")),
    };
    page.item(&format!("`{}`{values}", entry.name), &sentence(entry.help));
    let mut facts = format!("Default: {}.", entry.default);
    match entry.old.as_str() {
        "" => {}
        "–" => facts += " Not in 8.3.",
        old => facts += &format!(" 8.3: {old}."),
    }
    page.text(&format!("{facts} Since {}.", entry.since));
}
