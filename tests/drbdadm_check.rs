//! `drbdadm check`, and what other commands say about a wrong file on a terminal.

#[path = "support/drbdadm_place.rs"]
mod drbdadm_place;

use drbdadm_place::{finish, Place};

const GOOD: &str = "global { disable-ip-verification; }
common { protocol C; syncer { rate 30M; } }
resource r0 {
  on alice { device /dev/drbd0; disk DISK; address 10.1.1.1:7788; meta-disk internal; }
  on bob { device /dev/drbd0; disk DISK; address 10.1.1.2:7788; meta-disk internal; }
}
";

fn good(place: &Place) -> String {
    place.write("disk", "");
    GOOD.replace("DISK", &place.path().join("disk").display().to_string())
}

#[test]
fn a_good_file_has_status_0() {
    let place = Place::new("");
    place.write("drbd.conf", &good(&place));
    for name in ["drbdadm", "drbdadm-84"] {
        for arguments in [&["check", "drbd.conf"][..], &["-c", "drbd.conf", "check"]] {
            let run = place.run(name, arguments);
            assert_eq!(
                (run.status, run.stdout.as_str()),
                (0, "drbd.conf: 0 errors, 0 warnings\n"),
                "{run:?}"
            );
            assert_eq!(run.complaint(), "");
        }
    }
}

#[test]
fn warnings_alone_have_status_0() {
    let place = Place::new("");
    place
        .write("drbd.conf", &good(&place).replace("protocol C;", "protocol C; net { allow-two-primaries; }"));
    let run = place.run("drbdadm", &["check", "drbd.conf"]);
    assert_eq!(run.status, 0, "{run:?}");
    assert!(run
        .stdout
        .starts_with("drbd.conf:2: warning: in resource r0: allow-two-primaries without fencing"));
    assert!(run.stdout.ends_with(" [two-primaries-fencing]\ndrbd.conf: 0 errors, 1 warning\n"));
}

/// Everything at once: behind an error the next statement is read.
#[test]
fn all_errors_are_told_in_one_run() {
    let place = Place::new("");
    let text = good(&place)
        .replace("rate 30M;", "rate 30M; al-extents 6; frobnicate 7; verify-alg sha1 }\n net { timeout 60\n ping-int 10;")
        .replace("resource r0 {", "resource r0 {\n meta-disc internal;\n net { on-congestion pull-ahead; }")
        + "resource r1 {\n on alice { device /dev/drbd0; disk /dev/other; address 10.1.1.1:7788; meta-disk internal; }\n";
    place.write("drbd.conf", &text);
    let run = place.run("drbdadm", &["check", "drbd.conf"]);
    assert_eq!(run.status, 10);
    for wanted in [
        "drbd.conf:2: al-extents 6 => 6 out of range [7..3833].\n",
        "drbd.conf:2: Parse error: 'an option keyword' expected,\n\tbut got 'frobnicate'\n",
        "drbd.conf:2: Parse error: '_is_default | ;' expected,\n\tbut got '}'\n",
        "drbd.conf:4: Parse error: '_is_default | ;' expected,\n\tbut got 'ping-int'\n",
        "    a ';' is missing here, at the end of line 3\n",
        "\tbut got 'meta-disc' (TK 281)\n",
        "    did you mean 'meta-disk'?\n",
        "conflicting use of device-minor 'device-minor:alice:0' ...\n",
        "conflicting use of IP '10.1.1.1:7788' ...\n",
        " [congestion-protocol]\n",
        " [one-host]\n",
    ] {
        assert!(run.stdout.contains(wanted), "not said: {wanted}\n{}", run.stdout);
    }
    // ping-int was read although the line before it is wrong; nothing is missing that was skipped.
    assert!(!run.stdout.contains("keyword missing"), "{}", run.stdout);
}

#[test]
fn a_missing_brace_does_not_hide_the_next_resource() {
    let place = Place::new("");
    let broken = "resource a {\n protocol C;\n net { timeout 60;\n}\nresource b {\n net { timeuot 5; }\n}\n} }\nresource c { nonsense; }\n";
    place.write("drbd.conf", broken);
    let run = place.run("drbdadm", &["check", "drbd.conf"]);
    for wanted in [
        "drbd.conf:5: Parse error",
        "    the '}' that ends the section before it is missing\n",
        "drbd.conf:6: Parse error",
        "drbd.conf:8: Parse error",
        "drbd.conf:9: Parse error",
        "but got 'nonsense'",
    ] {
        assert!(run.stdout.contains(wanted), "not said: {wanted}\n{}", run.stdout);
    }
    for (text, wanted) in [
        ("resource r0 {\n net {\n", "the file ends within a section: a '}' is missing\n"),
        ("resource r0 { net { cram-hmac-alg \"sha1; } }", "the closing '\"' is missing\n"),
        ("resource r0 { net { timeout=60; } }", "side by side, without '='\n"),
        ("resource r0 { protocol: C; }", "behind a word there is no ':'\n"),
        ("resource r0 { // no comment\n}", "a comment begins with '#'"),
        ("\u{feff}resource r0 { }", "begin with a byte order mark"),
        ("resource r0 { net { shared-secret \u{201c}x\u{201d}; } }", "quotes are '\"'\n"),
        ("resource r0 { on a { address alice:7788; } }", "names of hosts are not looked up\n"),
        ("resource r0 { on a { address 10.1.1.1 7788; } }", "the port is missing: IP:PORT\n"),
        ("resource r0 { on a { address ipv6 fd00::1:7788; } }", "it is written ipv6 [ADDRESS]:PORT\n"),
        ("resource r0 { on a { meta-disk internal[0]; } }", "there is no index here\n"),
        ("resource r0 { net { shared-secret a b; } }", "a value with blanks is written in quotes\n"),
        ("resource 12 { }", "it is written in quotes: \"12\"\n"),
        ("resource { }", "a name or value is missing here\n"),
        ("resource r0 { syncer { rate 10MB; } }", "K, M or G, or s for sectors\n"),
        ("resource r0 { net { rate 10M; } net { } }", "net section 'r0:net' first used here.\n    resource"),
        ("skip {", "reached eof while parsing this skip block.\n"),
        ("resource r0 { net { timeout 5x; } }", "5x is not a valid number\n"),
        ("include \"nothing.conf\";\nnonsense;", "Failed to open include file 'nothing.conf'.\n"),
        ("include \"*.nothing\";\n", "warning: no file matches '*.nothing'\n"),
    ] {
        place.write("drbd.conf", text);
        let run = place.run("drbdadm", &["check", "drbd.conf"]);
        assert!(run.stdout.contains(wanted), "not said: {wanted}\n{run:?}");
    }
}

#[test]
fn files_that_cannot_be_read_and_wrong_calls() {
    let place = Place::new("");
    let missing = place.run("drbdadm", &["check", "nothing.conf"]);
    assert_eq!((missing.status, missing.complaint()), (20, "Can not open 'nothing.conf'.\n."));
    let two = place.run("drbdadm", &["check", "drbd.conf", "drbd.conf"]);
    assert_eq!((two.status, two.complaint()), (3, "check takes one file\n"));
    place.write("stdin", "nonsense");
    let mut command = place.command("drbdadm", &["check", "-"]);
    command.stdin(std::fs::File::open(place.path().join("stdin")).expect("open"));
    let run = finish(command);
    assert_eq!(run.status, 10);
    assert!(run.stdout.starts_with("STDIN:1: Parse error: "), "{run:?}");
}

#[test]
fn help_lists_every_check() {
    let place = Place::new("");
    let run = place.run("drbdadm", &["help", "check"]);
    assert_eq!(run.status, 0);
    for check in drbdbox::conf::audit::CHECKS {
        assert!(run.stdout.contains(&format!("  {} ", check.name)), "{}", check.name);
    }
}

/// A backing disk that is mounted: the source of a mount of this machine.
#[test]
fn a_mounted_disk_is_told() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let source = mounts.lines().find_map(|line| {
        let source = line.split_once(" - ")?.1.split(' ').nth(1)?;
        (source.starts_with("/dev/") && std::fs::metadata(source).is_ok()).then(|| source.to_string())
    });
    let Some(source) = source else {
        println!("SKIPPED: drbdadm check of a mounted disk: nothing is mounted from /dev");
        return;
    };
    let place = Place::new(&GOOD.replace("DISK", &source));
    let run = place.run("drbdadm", &["check", "drbd.conf"]);
    assert_eq!(run.status, 0);
    assert!(run.stdout.contains(&format!("disk {source} is mounted on /")), "{run:?}");
    assert!(run.stdout.contains(" [disk-in-use]\n"), "{run:?}");
}

/// Two lines of DRBD, then on a terminal the line with a caret and the word that was meant.
#[test]
fn on_a_terminal_a_second_part_follows() {
    let place = Place::new("resource r0 {\n\tnet { timeuot 60; }\n}\n");
    let original = "drbd.conf:2: Parse error: 'an option keyword' expected,\n\tbut got 'timeuot'\n";
    let more = "     net { timeuot 60; }\n           ^~~~~~~\n    did you mean 'timeout'?\n";
    for name in ["drbdadm", "drbdadm-84"] {
        for command in [&["-c", "drbd.conf", "dump"][..], &["-c", "drbd.conf", "up", "r0"]] {
            let piped = place.run(name, command);
            assert_eq!((piped.status, piped.complaint()), (10, original));
            let shown = place.run_on_terminal(name, command);
            assert_eq!((shown.status, shown.complaint()), (10, format!("{original}{more}").as_str()));
        }
    }
}

#[test]
fn on_a_terminal_commands_and_resources_are_guessed() {
    let place = Place::new("");
    place.write("drbd.conf", &good(&place).replace("r0", "mail"));
    let run = place.run_on_terminal("drbdadm-84", &["-c", "drbd.conf", "atach", "mail"]);
    assert_eq!(run.complaint(), "drbdadm: Unknown command 'atach'\ndid you mean 'attach'?\n");
    let run = place.run_on_terminal("drbdadm", &["-c", "drbd.conf", "sh-dev", "mial"]);
    assert_eq!(run.complaint(), "'mial' not defined in your config.\ndid you mean 'mail'?\n");
    let piped = place.run("drbdadm", &["-c", "drbd.conf", "sh-dev", "mial"]);
    assert_eq!(piped.complaint(), "'mial' not defined in your config.\n");
}
