//! How drbdadm calls drbdsetup and drbdmeta where no recorded run says it: built in, over the time
//! limit, killed; and the options behind the command word. spec/decisions.md 1.5, 1.6, 5.

#[path = "support/drbdadm_place.rs"]
mod drbdadm_place;

use std::fs;

use drbdadm_place::{Outcome, Place};

const RESOURCE: &str = "resource r0 {
    protocol C;
    on alice { device /dev/drbd0; disk /dev/sdb1; address 10.1.1.1:7788; meta-disk internal; }
    on bob { device /dev/drbd0; disk /dev/sdb1; address 10.1.1.2:7788; meta-disk internal; }
}
";

fn place(global: &str) -> Place {
    Place::new(&format!("global {{ disable-ip-verification; {global} }}\n{RESOURCE}"))
}

fn run(place: &Place, name: &str, line: &str) -> Outcome {
    let arguments: Vec<&str> = ["-c", "drbd.conf"].into_iter().chain(line.split_whitespace()).collect();
    place.run(name, &arguments)
}

#[test]
fn without_a_daemon_down_succeeds_and_role_fails() {
    let place = place("");
    for name in ["drbdadm", "drbdadm-84", "/nowhere/drbdadm"] {
        assert_eq!(run(&place, name, "down r0").status, 0, "{name}");
        let role = run(&place, name, "role r0");
        assert_eq!(role.status, 20, "{name}");
        assert!(role.stderr.contains("' terminated with exit code 20"), "{}", role.stderr);
    }
    let role = run(&place, "/nowhere/drbdadm", "role r0");
    assert!(role.stderr.contains("Command '/nowhere/drbdsetup 0 role' terminated"));
}

#[test]
fn a_killed_child_is_a_failure() {
    let place = place("");
    place.script("stand-in", "[ \"$2\" = role ] && exit 0; kill -9 $$");
    let outcome = run(&place, "drbdadm", "-s ./stand-in secondary r0");
    assert_eq!(outcome.status, 20);
    assert!(
        outcome.stderr.contains("Command './stand-in 0 secondary' was killed by signal 9\n"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_child_over_its_time_ends_the_program() {
    let place = place("cmd-timeout-short 1;");
    place.script("stand-in", "[ \"$2\" = role ] && exit 0; exec sleep 3 >/dev/null 2>&1");
    let outcome = run(&place, "drbdadm", "-s ./stand-in verify r0");
    assert_eq!(outcome.status, 20);
    assert!(
        outcome.stderr.contains("Command './stand-in 0 verify' did not terminate within 1 seconds\n"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn options_behind_the_command_word_are_handed_on() {
    let place = place("");
    for (arguments, printed) in [
        ("-d primary --force r0", "drbdsetup 0 primary --force \n"),
        ("-d primary r0 --overwrite-data-of-peer", "drbdsetup 0 primary --overwrite-data-of-peer \n"),
        ("-d --force primary r0", "drbdsetup 0 primary \n"),
        ("create-md --force r0 -d", "drbdmeta 0 v08 /dev/sdb1 internal create-md --force \n"),
        ("-d detach --force r0", "drbdsetup 0 detach --force \n"),
        ("-d new-resource r0", "drbdsetup new-resource r0 \n"),
        ("-d new-minor r0", "drbdsetup new-minor r0 0 0 \n"),
        ("-d disk-options --resync-rate=7M r0", "drbdsetup disk-options 0 --resync-rate=7M \n"),
        ("-d disk-options --resync-rate 7M r0", "drbdsetup disk-options 0 --resync-rate 7M \n"),
    ] {
        let outcome = run(&place, "drbdadm", arguments);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (0, printed), "{arguments}");
    }
    let refused = run(&place, "drbdadm", "-d secondary --force r0");
    assert_eq!(refused.status, 20);
    assert!(refused.stderr.ends_with("drbdadm: unrecognized option '--force'\ntry 'drbdadm help'\n"));
}

#[test]
fn help_of_8_4_is_understood_by_the_plain_name() {
    let place = place("");
    for arguments in ["--help", "-h", "help primary", "primary --help"] {
        let outcome = run(&place, "drbdadm", arguments);
        assert_eq!(outcome.status, 0, "{arguments}");
        assert!(outcome.stdout.starts_with("\nUSAGE: drbdadm "), "{arguments}");
    }
    assert_eq!(run(&place, "drbdadm", "help").status, 3);
}

#[test]
fn the_version_follows_name_and_volumes() {
    let place = place("");
    let plain = run(&place, "drbdadm", "--version").stdout;
    assert!(plain.contains("\nDRBDADM_API_VERSION=88\nDRBD_KERNEL_VERSION_CODE=0x080310\n"));
    assert!(plain.ends_with(&format!("\nDRBDBOX_VERSION={}\n", env!("CARGO_PKG_VERSION"))));
    let new = run(&place, "drbdadm-84", "--version").stdout;
    assert!(new.contains("\nDRBDADM_API_VERSION=1\nDRBD_KERNEL_VERSION_CODE=0x08040b\n"));
    let volumes = "resource r { volume 0 { device minor 0; disk /dev/a; meta-disk internal; }
        on alice { address 10.1.1.1:1; } on bob { address 10.1.1.2:1; } }";
    fs::write(place.path().join("drbd.conf"), volumes).expect("written");
    assert_eq!(run(&place, "drbdadm", "--version").stdout, new);
}

#[test]
fn options_that_8_3_cannot_show_do_not_make_adjust_detach() {
    let place = place("");
    let config = fs::read_to_string(place.path().join("drbd.conf")).expect("read");
    let config = config.replace("protocol C;", "protocol C; disk { al-updates no; use-bmbv; }");
    fs::write(place.path().join("drbd.conf"), config).expect("written");
    place.script(
        "stand-in",
        "[ \"$2\" = show ] && echo 'disk { on-io-error pass_on _is_default; } syncer { } protocol C;
         _this_host { device minor 0; disk \"/dev/sdb1\"; meta-disk internal;
         address ipv4 10.1.1.1:7788; } _remote_host { address ipv4 10.1.1.2:7788; }'",
    );
    let outcome = run(&place, "drbdadm", "-s ./stand-in -d adjust r0");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, ""), "{}", outcome.stderr);
}

/// With drbdsetup alone, without a drbd.conf, a resynchronisation is not to fail for want of a handler; but a
/// configuration with an error may hide one.
#[test]
fn what_is_not_configured_has_no_handler() {
    let place = place("");
    let handler = |config: &str, object: &str, by_daemon: bool| {
        let mut command = place.command("drbdadm", &["-c", config, "before-resync-target", object]);
        if by_daemon {
            command.env("DRBDBOX_HANDLER", "yes");
        }
        command.output().expect("runs").status.code()
    };
    assert_eq!(handler("drbd.conf", "minor-0", true), Some(0));
    assert_eq!(handler("drbd.conf", "minor-9", true), Some(0));
    assert_eq!(handler("drbd.conf", "minor-9", false), Some(3));
    fs::write(place.path().join("empty.conf"), "").expect("written");
    assert_eq!(handler("empty.conf", "minor-9", true), Some(0));
    assert_eq!(handler("empty.conf", "minor-9", false), Some(3));
    fs::write(place.path().join("broken.conf"), "resource {").expect("written");
    assert_eq!(handler("broken.conf", "minor-9", true), Some(10));
}
