//! Each check has a configuration in which it finds something, and a good one has no finding.

use super::super::model::FileName;
use super::super::parser::{Parser, Reading};
use super::*;

struct Fake;

impl Machine for Fake {
    fn node(&self, path: &str) -> Node {
        match path {
            "/dev/missing" => Node::Missing,
            "/dev/null" => Node::Other,
            // Two names of one device.
            "/dev/sdb1" | "/dev/disk/by-id/b1" => Node::Block(0x811),
            other => Node::File(1, other.bytes().fold(7, |sum, b| sum * 31 % 1_000_003 + u64::from(b))),
        }
    }
    fn use_of(&self, path: &str) -> Option<String> {
        (path == "/dev/mounted").then(|| "mounted on /srv".to_string())
    }
    fn is_executable(&self, path: &str) -> bool {
        path != "/usr/lib/drbd/gone.sh"
    }
    fn is_readable_by_others(&self, path: &str) -> bool {
        path == "/etc/open.conf"
    }
    fn knows_digest(&self, name: &str) -> bool {
        self.digests().contains(&name)
    }
    fn authenticates(&self, name: &str) -> bool {
        name == "sha1"
    }
    fn digests(&self) -> Vec<&'static str> {
        vec!["sha1", "crc32c"]
    }
    fn outgoing_ports(&self) -> Option<(u16, u16)> {
        Some((32768, 60999))
    }
}

fn this() -> ThisHost {
    ThisHost {
        name: "alice".to_string(),
        ipv4: vec!["10.1.1.1".into(), "203.0.113.1".into()],
        ..ThisHost::default()
    }
}

fn findings_in(file: &str, text: &str, dialect: Dialect) -> Vec<Finding> {
    let mut parser = Parser::with(dialect, Reading { explains: true, recovers: true });
    let file = FileName { display: "a.conf".to_string(), absolute: file.to_string() };
    parser.read(file, text.as_bytes().to_vec()).expect("goes on behind errors");
    run(parser.finish().0, &this(), &Fake)
}

fn findings(text: &str) -> Vec<Finding> {
    findings_in("/etc/a.conf", text, Dialect::V83)
}

/// `net`, `disk`, `more`: what stands in these sections and in the resource beside them.
fn resource(net: &str, disk: &str, more: &str) -> String {
    format!(
        "common {{ protocol C; syncer {{ rate 30M; }} }}\nresource r0 {{\n net {{ {net} }}\n disk {{ {disk} }}\n {more}\n\
         on alice {{ device /dev/drbd0; disk /dev/sda5; address 10.1.1.1:7788; meta-disk internal; }}\n\
         on bob {{ device /dev/drbd0; disk /dev/sda5; address 10.1.1.2:7788; meta-disk internal; }}\n}}\n"
    )
}

/// One resource with the given host sections.
fn hosts(alice: &str, bob: &str) -> String {
    format!("resource r0 {{ protocol C; syncer {{ rate 30M; }}\n on alice {{ {alice} }}\n on bob {{ {bob} }}\n}}\n")
}

const ALICE: &str = "device /dev/drbd0; disk /dev/sda5; address 10.1.1.1:7788; meta-disk internal;";
const BOB: &str = "device /dev/drbd0; disk /dev/sda5; address 10.1.1.2:7788; meta-disk internal;";

#[test]
fn a_good_configuration_has_no_finding() {
    let text = resource(
        "cram-hmac-alg sha1; shared-secret \"long enough\"; verify-alg crc32c;",
        "on-io-error detach; fencing resource-only;",
        "handlers { fence-peer /usr/lib/drbd/fence.sh; split-brain \"/bin/mail root\"; }",
    )
    .replace("verify-alg crc32c;", "");
    assert_eq!(findings(&text), []);
    // The same in words of 8.4, with volumes.
    let volumes = "resource r0 { net { protocol C; verify-alg crc32c; } disk { resync-rate 30M; }
        volume 0 { device minor 0; disk /dev/a; meta-disk internal; }
        volume 1 { device minor 1; disk /dev/b; meta-disk internal; disk { resync-after r0/0; } }
        on alice { address 10.1.1.1:7788; } on bob { address 10.1.1.2:7788; } }";
    assert_eq!(findings(volumes), []);
}

/// Configurations, and the check that finds something in each: nothing else does.
#[test]
fn every_check_finds_what_it_looks_for() {
    let two = |first: &str, second: &str| {
        format!(
            "common {{ protocol C; syncer {{ rate 30M; }} }}
             resource r0 {{ on alice {{ device /dev/drbd0; {first} address 10.1.1.1:7788; }}
               on bob {{ device /dev/drbd0; disk /dev/x; address 10.1.1.2:7788; meta-disk internal; }} }}
             resource r1 {{ on alice {{ device /dev/drbd1; {second} address 10.1.1.1:7789; }}
               on bob {{ device /dev/drbd1; disk /dev/y; address 10.1.1.2:7789; meta-disk internal; }} }}"
        )
    };
    let cases: Vec<(&str, String)> = vec![
        ("refused", resource("", "", "syncer { after nowhere; }")),
        ("refused", resource("", "", "startup { become-primary-on both; }")),
        ("refused", hosts(ALICE, BOB).replace("protocol C;", "")),
        ("value", resource("after-sb-0pri discard-zero-change;", "", "")),
        ("value", resource("", "on-io-error panic;", "")),
        ("value", resource(&format!("shared-secret \"{}\"; cram-hmac-alg sha1;", "x".repeat(64)), "", "")),
        ("value", resource("ping-timeout 301;", "", "")),
        ("digest", resource("data-integrity-alg sha9;", "", "")),
        ("digest", resource("cram-hmac-alg crc32c; shared-secret x;", "", "")),
        ("cpu-mask", resource("", "", "syncer { cpu-mask xyz; }")),
        ("congestion-protocol", resource("on-congestion pull-ahead;", "", "")),
        (
            "minor",
            hosts(&ALICE.replace("/dev/drbd0", "minor 1048576"), &BOB.replace("/dev/drbd0", "minor 0")),
        ),
        ("same-device", hosts(&ALICE.replace("meta-disk internal", "meta-disk /dev/sda5[0]"), BOB)),
        (
            "same-device",
            hosts(
                "device /dev/drbd0; disk /dev/sdb1; address 10.1.1.1:1; meta-disk /dev/disk/by-id/b1[3];",
                BOB,
            ),
        ),
        (
            "meta-disk-overlap",
            two("disk /dev/a; meta-disk /dev/m[0];", "disk /dev/b; flexible-meta-disk /dev/m;"),
        ),
        ("meta-disk-overlap", two("disk /dev/a; meta-disk /dev/m[1];", "disk /dev/b; meta-disk /dev/m[01];")),
        ("meta-disk-overlap", two("disk /dev/a; meta-disk internal;", "disk /dev/b; meta-disk /dev/a[0];")),
        (
            "disk-twice",
            two("disk /dev/sdb1; meta-disk internal;", "disk /dev/disk/by-id/b1; meta-disk internal;"),
        ),
        ("address", hosts(ALICE, &BOB.replace("10.1.1.2", "10.1.1.999"))),
        (
            "address-twice",
            two("disk /dev/a; meta-disk internal;", "disk /dev/b; meta-disk internal;")
                .replace("10.1.1.1:7788", "10.1.1.1:7K")
                .replace("10.1.1.1:7789", "10.1.1.1:7168"),
        ),
        ("address-here", hosts(&ALICE.replace("10.1.1.1", "10.1.1.7"), BOB)),
        ("no-authentication", hosts(ALICE, &BOB.replace("10.1.1.2", "203.0.113.2"))),
        ("half-authentication", resource("shared-secret x;", "", "")),
        ("loopback", hosts(ALICE, &BOB.replace("10.1.1.2", "127.0.0.1"))),
        ("address-family", hosts(ALICE, &BOB.replace("10.1.1.2:7788", "ipv6 [fd00::2]:7788"))),
        ("outgoing-port", hosts(&ALICE.replace("7788", "40000"), BOB)),
        ("timeouts", resource("timeout 100;", "", "").replace("timeout 100", "timeout 100; connect-int 20")),
        ("timeouts", resource("", "", "startup { wfc-timeout 10; degr-wfc-timeout 120; }")),
        ("two-primaries-fencing", resource("allow-two-primaries;", "", "")),
        ("fencing-handler", resource("", "fencing resource-only;", "")),
        ("handler-in-vain", resource("", "", "handlers { fence-peer /x; }")),
        ("policy-handler", resource("", "on-io-error call-local-io-error;", "")),
        ("policy-handler", resource("after-sb-2pri call-pri-lost-after-sb;", "", "")),
        ("automatic-loss", resource("after-sb-0pri discard-younger-primary;", "", "")),
        ("automatic-loss", resource("rr-conflict violently;", "", "")),
        ("volatile-writes", resource("", "no-md-flushes;", "")),
        ("full-resync", resource("", "al-updates no;", "")),
        ("slow-resync", hosts(ALICE, BOB).replace("rate 30M;", "")),
        ("al-extents", resource("", "", "syncer { al-extents 3834; }")),
        ("option-twice", resource("timeout 60; timeout 70;", "", "")),
        ("in-vain", resource("", "use-bmbv;", "")),
        ("in-vain", resource("", "", "syncer { c-max-rate 100M; }")),
        ("in-vain", hosts(&format!("{ALICE} options {{ cpu-mask 1; }}"), BOB)),
        ("handler-program", resource("", "", "handlers { split-brain \"/usr/lib/drbd/gone.sh root\"; }")),
        ("device-name", {
            let alice = ALICE.replace("device /dev/drbd0", "device minor 7");
            hosts(&alice, BOB).replace(" on alice", " device /dev/drbd3;\n on alice")
        }),
        ("drbd-disk", hosts(&ALICE.replace("/dev/sda5", "/dev/drbd5"), BOB)),
        ("disk-missing", hosts(&ALICE.replace("/dev/sda5", "/dev/missing"), BOB)),
        ("disk-missing", hosts(&ALICE.replace("internal", "/dev/null[0]"), BOB)),
        ("disk-in-use", hosts(&ALICE.replace("/dev/sda5", "/dev/mounted"), BOB)),
        ("one-host", hosts(ALICE, BOB).replace(" on bob", "}\nskip {")),
        (
            "many-hosts",
            hosts(ALICE, BOB)
                .replace(" on bob", &format!(" on carol {{ {} }}\n on bob", BOB.replace("1.2", "1.3"))),
        ),
        ("not-here", "# nothing".to_string()),
        ("not-here", hosts(ALICE, BOB).replace("on alice", "on carol")),
        (
            "after-cycle",
            two("disk /dev/a; meta-disk internal;", "disk /dev/b; meta-disk internal;")
                .replace("resource r0 {", "resource r0 { syncer { after r1; }")
                .replace("resource r1 {", "resource r1 { syncer { after r0; }"),
        ),
    ];
    for (check, text) in &cases {
        let found = findings(text);
        assert!(!found.is_empty(), "{check}: nothing in\n{text}");
        assert!(found.iter().all(|f| f.check == *check), "{check}:\n{text}\n{found:#?}");
    }
    // These come together with others.
    let mut together: Vec<(&str, String)> = vec![
        ("two-primaries-protocol", resource("protocol B; allow-two-primaries;", "", "")),
        ("protocol-a-fencing", resource("protocol A;", "fencing resource-only;", "")),
        (
            "stonith-protocol",
            resource("protocol A;", "fencing resource-and-stonith;", "handlers { fence-peer /x; }"),
        ),
        ("host-name", hosts(ALICE, BOB).replace("on alice", "on alice.example.com")),
        ("host-name", hosts(ALICE, BOB).replace("on alice", "on Alice")),
    ];
    let proxy = |host: &str, last: u8| {
        format!("proxy on {host} {{ inside 10.1.1.{last}:7800; outside 10.1.1.{last}:7801; }}")
    };
    let (alice, bob) = (format!("{ALICE} {}", proxy("alice", 1)), format!("{BOB} {}", proxy("bob", 2)));
    together.push(("proxy-protocol", hosts(&alice, &bob)));
    for (check, text) in &together {
        assert!(findings(text).iter().any(|f| f.check == *check), "{check}: nothing in\n{text}");
    }
    let open = findings_in(
        "/etc/open.conf",
        &resource("cram-hmac-alg sha1; shared-secret x;", "", ""),
        Dialect::V83,
    );
    assert_eq!(open.iter().map(|f| f.check).collect::<Vec<_>>(), ["readable-secret"]);
    let seen: Vec<&str> =
        cases.iter().chain(&together).map(|(check, _)| *check).chain(["readable-secret"]).collect();
    for check in CHECKS {
        assert!(seen.contains(&check.name), "no case for {}", check.name);
    }
}

/// Three that wait in a circle, one that waits for the circle, and a chain without one.
#[test]
fn circles_are_told_once() {
    let after = |name: &str, other: &str| {
        format!(
            "resource {name} {{ protocol C; syncer {{ rate 1M; after {other}; }} on alice {{ device minor {}; disk /dev/{name}; \
             address 10.1.1.1:{}; meta-disk internal; }} on bob {{ device minor {}; disk /dev/{name}; address 10.1.1.2:{}; \
             meta-disk internal; }} }}\n",
            name.len(),
            7000 + name.len(),
            name.len(),
            7000 + name.len()
        )
    };
    let text = [("a", "bb"), ("bb", "ccc"), ("ccc", "dddd"), ("dddd", "bb"), ("eeeee", "a")]
        .map(|(n, o)| after(n, o))
        .concat();
    let found = findings(&text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].text.ends_with("they wait for each other: bb after ccc after dddd after bb"),
        "{found:#?}"
    );
}

#[test]
fn findings_name_the_line_of_the_option() {
    let text = resource("allow-two-primaries;", "", "");
    assert_eq!(findings(&text)[0].place, "a.conf:3");
    // What is inherited stands in common.
    let common = text.replace("common {", "common { net { always-asbp; allow-two-primaries; }\n");
    let common = common.replace("net { allow-two-primaries; }\n", "\n");
    assert_eq!(findings(&common)[0].place, "a.conf:1");
}

#[test]
fn a_finding_is_one_line_with_the_name_of_its_check() {
    let found = findings(&hosts(ALICE, BOB).replace("protocol C;", ""));
    assert_eq!(found[0].line(), "a.conf:1: error: in resource r0: protocol definition missing. [refused]\n");
}

#[test]
fn names_of_checks_are_unique() {
    for (i, check) in CHECKS.iter().enumerate() {
        assert!(CHECKS[i + 1..].iter().all(|other| other.name != check.name), "{}", check.name);
    }
}
