//! What spec/drbdadm.md says and no recorded run shows: phases, results of called programs, peers, handlers,
//! minors, waiting, dry runs that a shell executes.

#[path = "support/drbdadm_place.rs"]
mod drbdadm_place;

use std::fs;
use std::process::Command;

use drbdadm_place::{finish, Outcome, Place};

fn host(name: &str, minor: u32, last: u32, port: u32) -> String {
    format!(
        "  on {name} {{ device /dev/drbd{minor}; disk /dev/sd{minor}; address 10.1.1.{last}:{port}; meta-disk internal; }}\n"
    )
}

/// Resources r0, r1, ... on alice and bob.
fn resources(count: u32, more: &str) -> String {
    let mut text = format!("global {{ disable-ip-verification; }}\ncommon {{ protocol C; {more} }}\n");
    for minor in 0..count {
        let (alice, bob) = (host("alice", minor, 1, 7000 + minor), host("bob", minor, 2, 7000 + minor));
        text += &format!("resource r{minor} {{\n{alice}{bob}}}\n");
    }
    text
}

/// A place with programs that write their calls into `calls` and then do as `script` says.
fn place(config: &str, script: &str) -> Place {
    let place = Place::new(config);
    for program in ["setup", "meta"] {
        place.script(program, &format!("echo \"{program} $*\" >>calls\n{script}"));
    }
    place
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Runs `drbdadm ARGUMENTS` with the stand-ins; the calls but `role`.
fn run(place: &Place, name: &str, line: &str) -> (Outcome, Vec<String>) {
    let mut arguments = words("-c drbd.conf -s ./setup -m ./meta");
    arguments.extend(words(line));
    let _ = fs::remove_file(place.path().join("calls"));
    let outcome = place.run(name, &arguments);
    let calls = fs::read_to_string(place.path().join("calls")).unwrap_or_default();
    (outcome, calls.lines().filter(|call| !call.ends_with(" role")).map(str::to_string).collect())
}

/// 8.3: a failure in a phase lets the phase end, and is the last phase. spec/drbdadm.md 6.
#[test]
fn a_failed_attach_keeps_everything_from_being_connected() {
    let place = place(&resources(3, ""), "[ \"$1 $2\" = '1 disk' ] && exit 20; exit 0");
    let (outcome, calls) = run(&place, "drbdadm", "up all");
    assert_eq!(outcome.status, 1);
    let commands: Vec<String> = calls.iter().map(|c| words(c)[..3].join(" ")).collect();
    assert_eq!(commands, ["setup 0 disk", "setup 1 disk", "setup 2 disk"]);
    assert!(outcome
        .complaint()
        .ends_with("' terminated with exit code 20\ndrbdadm attach r1: exited with code 20\n"));
}

/// 8.4: a resource that could not be made is skipped for the rest of the phase. spec/drbdadm.md 14.3.
#[test]
fn what_cannot_be_created_is_skipped() {
    let config = resources(2, "");
    let failing = place(&config, "[ \"$1 $2\" = 'new-resource r0' ] && exit 10; exit 0");
    let (outcome, calls) = run(&failing, "drbdadm-84", "up all");
    assert_eq!(outcome.status, 1);
    assert_eq!(calls, ["setup new-resource r0", "setup new-resource r1", "setup new-minor r1 1 0"]);
    assert!(
        outcome.complaint().ends_with("drbdadm: new-minor r0: skipped due to earlier error\n"),
        "{outcome:?}"
    );

    // With progress all phases run, quietly.
    let (outcome, calls) = run(&failing, "drbdadm-84", "adjust-with-progress all");
    assert_eq!(outcome.status, 1);
    assert_eq!(
        outcome.stdout,
        "[\n     create res: r0:failed(new-resource:10) [skipped:r0] r1 r1\n    adjust disk: [skipped:r0] r1\n     \
         adjust net: [skipped:r0] r1\n]\n"
    );
    assert!(calls.iter().any(|c| c.starts_with("setup connect r1")), "{calls:?}");
    assert_eq!(outcome.complaint(), "");
}

/// The maximum of the results; 20 and more end the program at once. spec/drbdadm.md 3, spec/decisions.md 1.4.
#[test]
fn results_of_several_resources() {
    for (code, status, reached) in [(5, 5, 3), (11, 11, 3), (17, 17, 3), (20, 20, 1), (255, 255, 1)] {
        let place = place(
            &resources(3, ""),
            &format!("[ \"$1\" = 0 ] && [ \"$2\" = secondary ] && exit {code}; exit 0"),
        );
        for line in ["secondary all", "secondary r0 r1 r2"] {
            let (outcome, calls) = run(&place, "drbdadm", line);
            assert_eq!((outcome.status, calls.len()), (status, reached), "{line} {code}: {outcome:?}");
            let told = outcome
                .complaint()
                .contains(&format!("Command './setup 0 secondary' terminated with exit code {code}\n"));
            assert_eq!(told, code >= 10, "{outcome:?}");
            let ended = format!("drbdadm secondary r0: exited with code {code}\n");
            assert_eq!(outcome.complaint().ends_with(&ended), code >= 20, "{outcome:?}");
        }
    }
}

/// drbdsetup first, drbdmeta if that fails, but for final answers. spec/drbdadm.md 5.3, 5.4.
#[test]
fn commands_that_fall_back_to_drbdmeta() {
    let script = |setup: u8, meta: u8| {
        format!("echo said by $0 >&2; case $0 in *setup) [ \"$2\" = role ] && exit 0; exit {setup};; esac; exit {meta}")
    };
    for (command, setup, meta, status, falls_back, heard) in [
        ("dstate", 0, 7, 0, false, false),
        ("dstate", 10, 7, 7, true, false),
        ("show-gi", 11, 7, 11, false, true),
        ("invalidate", 17, 7, 17, false, true),
        ("get-gi", 20, 0, 0, true, false),
        ("outdate", 17, 0, 17, false, false),
        ("outdate", 5, 0, 0, true, false),
        ("outdate", 5, 9, 5, true, false),
        ("outdate", 20, 9, 9, true, false),
        ("outdate", 0, 9, 0, false, false),
    ] {
        let place = place(&resources(1, ""), &script(setup, meta));
        let (outcome, calls) = run(&place, "drbdadm", &format!("{command} r0"));
        assert_eq!(outcome.status, status, "{command} {setup} {meta}: {outcome:?}");
        let called = format!("meta 0 v08 /dev/sd0 internal {command}");
        assert_eq!(calls.contains(&called), falls_back, "{command} {setup}: {calls:?}");
        assert_eq!(outcome.complaint().contains("said by ./setup"), heard, "{command} {setup}: {outcome:?}");
    }
}

#[test]
fn sh_b_pri_tries_five_times() {
    let config = resources(2, "startup { become-primary-on alice; }");
    let failing = place(&config, "[ \"$2\" = primary ] && exit 11; exit 0");
    let (outcome, calls) = run(&failing, "drbdadm", "sh-b-pri r0");
    assert_eq!((outcome.status, calls.len()), (11, 5));
    let third =
        place(&config, "[ \"$2\" = primary ] && [ $(grep -c primary calls) -lt 3 ] && exit 11; exit 0");
    let (outcome, calls) = run(&third, "drbdadm", "sh-b-pri r0");
    assert_eq!((outcome.status, calls.len()), (0, 3));
    let other = place(&config.replace("become-primary-on alice", "become-primary-on bob"), "exit 11");
    let (outcome, calls) = run(&other, "drbdadm", "sh-b-pri all");
    assert_eq!((outcome.status, calls.len()), (0, 0));
}

/// resize asks for the configured size, and its check-resize does not count; check-resize is quiet.
#[test]
fn resize_and_check_resize() {
    let config = resources(1, "disk { size 3G; }");
    let place = place(&config, "[ \"$2\" = check-resize ] && exit 9; exit 0");
    let (outcome, calls) = run(&place, "drbdadm", "resize r0");
    assert_eq!(
        (outcome.status, calls),
        (0, vec!["setup 0 resize --size=3G".to_string(), "setup 0 check-resize".into()])
    );
    place
        .script("setup", "echo \"setup $*\" >>calls; echo noise >&2; [ \"$2\" = resize ] && exit 10; exit 0");
    place.script("meta", "echo \"meta $*\" >>calls; exit 6");
    let (outcome, calls) = run(&place, "drbdadm", "check-resize r0");
    assert_eq!(outcome.status, 6);
    assert_eq!(calls[1], "meta 0 v08 /dev/sd0 internal check-resize");
    assert_eq!(outcome.complaint(), "");
}

/// A device uuid that is there is written again; without one, one is made up. spec/drbdadm.md 13.1.
#[test]
fn create_md_keeps_the_device_uuid() {
    let known = place(&resources(1, ""), "[ \"$5\" = read-dev-uuid ] && echo 00C0FFEE00C0FFEE; exit 0");
    let (outcome, calls) = run(&known, "drbdadm", "create-md r0");
    assert_eq!(outcome.status, 0);
    let of = |command: &str| format!("meta 0 v08 /dev/sd0 internal {command}");
    assert_eq!(calls, [of("read-dev-uuid"), of("create-md"), of("write-dev-uuid 00C0FFEE00C0FFEE")]);
    let (_, calls) = run(&known, "drbdadm", "-- --force create-md r0");
    // The question for the role has the words, too.
    assert_eq!(
        calls[..3],
        ["setup 0 role --force".to_string(), of("read-dev-uuid --force"), of("create-md --force")]
    );

    let none = place(&resources(1, ""), "[ \"$5\" = read-dev-uuid ] && exit 20; exit 0");
    let (outcome, calls) = run(&none, "drbdadm", "create-md r0");
    let made = calls[2].strip_prefix(of("write-dev-uuid ").as_str()).expect("a uuid");
    assert!(outcome.status == 0 && made.len() == 16 && made.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_eq!(outcome.complaint(), "");

    let failing = place(&resources(1, ""), "[ \"$5\" = create-md ] && exit 40; exit 0");
    let (outcome, calls) = run(&failing, "drbdadm", "create-md r0");
    assert_eq!((outcome.status, calls.len()), (40, 2));
}

fn stacked() -> String {
    resources(1, "")
        + "resource up {
  startup { wfc-timeout 7; }
  stacked-on-top-of r0 { device /dev/drbd10; address 10.1.1.9:7788; }
  on far { device /dev/drbd10; disk /dev/sdf; address 10.1.1.8:7788; meta-disk internal; }
}
"
}

#[test]
fn resources_by_minor() {
    let place = place(&stacked(), "exit 0");
    for (line, calls) in [
        ("secondary minor-0", "setup 0 secondary"),
        // A stacked resource puts stacked mode in force by itself.
        ("secondary minor-10", "setup 10 secondary"),
        ("-S secondary up", "setup 10 secondary"),
    ] {
        let (outcome, called) = run(&place, "drbdadm", line);
        assert_eq!((outcome.status, called), (0, vec![calls.to_string()]), "{line}");
    }
    for (name, line, status, complaint) in [
        ("drbdadm", "secondary minor-7", 3, "'minor-7' not defined in your config.\n"),
        ("drbdadm", "secondary minor-x", 20, "x is not a valid number\n"),
        ("drbdadm", "secondary minor-", 100, "missing number argument\n"),
        ("drbdadm", "secondary up", 3, "'up' is a stacked resource, and not available in normal mode.\n"),
        ("drbdadm", "-S secondary r0", 3, "'r0' is a normal resource, and not available in stacked mode.\n"),
        ("drbdadm", "secondary /dev/drbd0", 3, "'/dev/drbd0' not defined in your config.\n"),
        ("drbdadm-84", "secondary /dev/drbd0", 20, "dev/drbd0 is not a valid number\n"),
        ("drbdadm-84", "secondary r0/1", 3, "'r0/1' not defined in your config (for this host).\n"),
        ("drbdadm", "sh-lr-of r0", 3, "sh-lower-resource only available in stacked mode\n"),
    ] {
        let (outcome, called) = run(&place, name, line);
        assert_eq!((outcome.status, outcome.complaint()), (status, complaint), "{line}");
        assert!(called.is_empty(), "{line}: {called:?}");
    }
    // A suffix counts: minor 1K is 1024.
    let (outcome, _) = run(&place, "drbdadm", "secondary minor-1K");
    assert_eq!(outcome.complaint(), "'minor-1K' not defined in your config.\n");
    assert_eq!(run(&place, "drbdadm", "-S sh-lr-of up").0.stdout, "r0\n");
}

/// spec/drbdadm.md 8.
#[test]
fn waiting_for_the_peer() {
    let place = place(&stacked(), "exit 0");
    for (line, call) in [
        ("-d wait-connect r0", "./setup 0 wait-connect \n"),
        ("-d -S wait-connect up", "./setup 10 wait-connect -t 20 \n"),
        ("-d -S wait-con-int", "./setup 10 wait-connect --wfc-timeout=7 \n"),
    ] {
        assert_eq!(run(&place, "drbdadm", line).0.stdout, call, "{line}");
    }
    let text = stacked();
    place.write(
        "drbd.conf",
        &text.replace("startup { wfc-timeout 7; }", "net { connect-int 15; } startup { wfc-timeout 7; }"),
    );
    assert_eq!(run(&place, "drbdadm", "-d -S wait-connect up").0.stdout, "./setup 10 wait-connect -t 30 \n");
    place.write(
        "drbd.conf",
        &text.replace("wfc-timeout 7;", "wfc-timeout 7; wait-after-sb; stacked-timeouts;"),
    );
    assert_eq!(
        run(&place, "drbdadm", "-d -S wait-connect up").0.stdout,
        "./setup 10 wait-connect --wfc-timeout=7 --wait-after-sb \n"
    );
}

/// spec/config.md 11, 13.4.
#[test]
fn one_peer_of_several() {
    let third = "resource r0 {\n".to_string() + &host("carol", 0, 3, 7000);
    let place = place(&resources(1, "").replacen("resource r0 {\n", &third, 1), "exit 0");
    let net = |last: u32| {
        format!(
            "./setup 0 net ipv4:10.1.1.1:7000 ipv4:10.1.1.{last}:7000 C --set-defaults --create-device \n"
        )
    };
    for (line, status, printed, complaint) in [
        ("-d --peer bob connect r0", 0, net(2), ""),
        ("-d -P carol connect r0", 0, net(3), ""),
        (
            "-d connect r0",
            0,
            String::new(),
            "There are multiple host sections for the peer node.\n\tUse the --peer option",
        ),
        (
            "--peer dave connect r0",
            20,
            String::new(),
            "No host ('on' or 'floating') section matches --peer 'dave'\n",
        ),
        (
            "--peer alice connect r0",
            20,
            String::new(),
            "in resource r0\n\tInvoked with --peer 'alice', but that matches myself!\n",
        ),
    ] {
        let (outcome, _) = run(&place, "drbdadm", line);
        assert_eq!((outcome.status, &outcome.stdout), (status, &printed), "{line}: {outcome:?}");
        assert!(outcome.complaint().contains(complaint), "{line}: {outcome:?}");
    }
    let (outcome, _) = run(&place, "drbdadm", "connect r0");
    assert!(outcome.complaint().ends_with(
        "resource r0: cannot change network config without knowing my peer.\ndrbdadm connect r0: exited with code 20\n"
    ));
    let two = Place::new(&resources(1, ""));
    let outcome = two.run("drbdadm", &words("-c drbd.conf -d -d --peer x connect r0"));
    assert!(
        outcome.complaint().contains("Ignoring --peer 'x': there are only two host sections.\n"),
        "{outcome:?}"
    );
}

fn volumes() -> String {
    "global { disable-ip-verification; }
resource r0 {
  handlers { fence-peer \"env | grep ^DRBD_ | grep -v PRETEND | sort >seen\"; split-brain \"env | grep ^DRBD_ | sort >seen; exit 21\"; }
  volume 0 { device /dev/drbd4; disk /dev/sda; meta-disk internal; }
  volume 7 { device minor 5; disk /dev/sdb; meta-disk internal; }
  on alice { address 10.1.1.1:7000; }
  on bob bert { address 10.1.1.2:7000; }
}
".to_string()
}

/// spec/drbdadm.md 9.
#[test]
fn environment_of_handlers_of_volumes() {
    let place = Place::new(&volumes());
    let seen = |line: &str| {
        let mut command = place.command("drbdadm", &words(line));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let outcome = finish(command);
        let text = fs::read_to_string(place.path().join("seen")).unwrap_or_default();
        (
            outcome,
            text.lines().filter(|l| !l.starts_with("DRBD_CONF=")).map(str::to_string).collect::<Vec<_>>(),
        )
    };
    let (outcome, variables) = seen("-c drbd.conf fence-peer r0");
    assert_eq!(outcome.status, 0);
    let peer = ["DRBD_PEER=bob", "DRBD_PEERS=bob bert", "DRBD_PEER_ADDRESS=10.1.1.2", "DRBD_PEER_AF=ipv4"];
    let mut wanted: Vec<String> = peer.iter().map(|v| v.to_string()).collect();
    wanted.extend(["DRBD_MINOR=4 5", "DRBD_RESOURCE=r0"].map(String::from));
    wanted.sort();
    assert_eq!(variables, wanted);
    let (outcome, variables) = seen("-c drbd.conf split-brain minor-5");
    assert_eq!(outcome.status, 21);
    let mut wanted: Vec<String> = peer.iter().map(|v| v.to_string()).collect();
    wanted.extend(
        ["DRBD_MINOR=5", "DRBD_RESOURCE=r0", "DRBD_VOLUME=7", "DRBD_LL_DISK=/dev/sdb"].map(String::from),
    );
    wanted.sort();
    assert_eq!(variables, wanted);
    // No such handler: nothing to do.
    assert_eq!(seen("-c drbd.conf out-of-sync minor-5").0.status, 0);
}

/// The file with which a minor was configured; otherwise the default ones, and a word about it.
#[test]
fn handlers_find_the_registered_file() {
    let place = Place::new(&volumes());
    fs::create_dir(place.path().join("lib")).expect("made");
    let link = place.path().join("lib/drbd-minor-5.conf");
    std::os::unix::fs::symlink(place.path().join("drbd.conf"), link).expect("link");
    let found = place.run("drbdadm", &words("-d split-brain minor-5"));
    assert_eq!(found.status, 0, "{found:?}");
    assert!(found.stdout.starts_with("/bin/sh -c env"), "{found:?}");
    let udev = place.run("drbdadm", &words("sh-udev minor-5"));
    assert_eq!(udev.stdout, "RESOURCE=r0/7\nDEVICE=drbd5\nDISK=sdb\n");
    for (name, line, text) in [
        (
            "drbdadm",
            "split-brain minor-6",
            "Don't know which config file belongs to minor 6, trying default ones...\n",
        ),
        (
            "drbdadm",
            "split-brain r9",
            "Couldn't find minor from id r9, expecting minor-<minor> as id. Trying default config files.\n",
        ),
        (
            "drbdadm-84",
            "split-brain r9",
            "Don't know which config file belongs to resource r9, trying default ones...\n",
        ),
    ] {
        let lost = place.run(name, &words(line));
        assert!(lost.complaint().starts_with(text), "{line}: {lost:?}");
    }
}

/// What drbdsetup says of a running resource, and what adjust makes of it. spec/drbdadm.md 14.4.
#[test]
fn adjust_of_volumes() {
    let place = Place::new(&volumes().replace("handlers {", "disk { resync-rate 10M; } handlers {"));
    let running = |volumes: &str, addresses: &str| {
        let show = format!("resource r0 {{ options {{ }} net {{ }} {addresses} {volumes} }} }}");
        place.script("setup", &format!("[ $1 = show ] && cat <<'END'\n{show}\nEND\nexit 0"));
        place.script("meta", "exit 0");
        let outcome = place.run("drbdadm", &words("-c drbd.conf -s ./setup -m ./meta -d adjust r0"));
        assert_eq!(outcome.status, 0, "{outcome:?}");
        outcome.stdout
    };
    let connected = "_remote_host { address ipv4 10.1.1.2:7000; } _this_host { address ipv4 10.1.1.1:7000;";
    let volume = |number: u32, minor: u32, disk: &str, options: &str| {
        format!("volume {number} {{ device minor {minor}; disk \"{disk}\"; meta-disk internal; disk {{ {options} }} }} ")
    };
    let rate = "resync-rate 10240k;";
    let (first, second) = (volume(0, 4, "/dev/sda", rate), volume(7, 5, "/dev/sdb", rate));
    assert_eq!(running(&format!("{first}{second}"), connected), "");
    let attach = |minor: u32, disk: &str| {
        format!(
            "./meta {minor} v08 {disk} internal apply-al \n./setup attach {minor} {disk} {disk} internal --resync-rate=10M \n"
        )
    };
    for (volumes, printed) in [
        // Only in the file.
        (first.clone(), format!("./setup new-minor r0 5 7 \n{}", attach(5, "/dev/sdb"))),
        // Only running.
        (
            format!("{first}{second}{}", volume(3, 9, "/dev/sdc", "")),
            "./setup detach 9 \n./setup del-minor 9 \n".to_string(),
        ),
        // Another minor.
        (
            format!("{first}{}", volume(7, 6, "/dev/sdb", rate)),
            format!(
                "./setup detach 6 \n./setup del-minor 6 \n./setup new-minor r0 5 7 \n{}",
                attach(5, "/dev/sdb")
            ),
        ),
        // Another disk.
        (
            format!("{}{second}", volume(0, 4, "/dev/old", rate)),
            format!("./setup detach 4 \n{}", attach(4, "/dev/sda")),
        ),
        // Other options, and a default that is written out.
        (
            format!("{}{second}", volume(0, 4, "/dev/sda", "resync-rate 20480k; al-extents 1237;")),
            "./setup disk-options 4 --set-defaults --resync-rate=10M \n".to_string(),
        ),
    ] {
        assert_eq!(running(&volumes, connected), printed, "{volumes}");
    }
    let elsewhere = connected.replace("10.1.1.2", "10.1.1.7");
    assert_eq!(
        running(&format!("{first}{second}"), &elsewhere),
        "./setup disconnect ipv4:10.1.1.1:7000 ipv4:10.1.1.7:7000 \n./setup connect r0 ipv4:10.1.1.1:7000 ipv4:10.1.1.2:7000 \n"
    );
}

/// A shell that executes the lines of `-d` calls programs with exactly the words of the file.
#[test]
fn a_dry_run_can_be_executed() {
    let secret = "a b'c\"d$e;f|g&h(i)j<k>l*m?n[o]p{q}r~s!t`u\\v#w\u{e9}%";
    let quoted = secret.replace('\\', "\\\\").replace('"', "\\\"");
    let config = resources(1, &format!("net {{ cram-hmac-alg sha1; shared-secret \"{quoted}\"; }}"))
        .replace("disk /dev/sd0", "disk \"/dev/my disk\"")
        .replace("resource r0", "resource \"r 0\"");
    let place = Place::new(&config);
    for program in ["drbdsetup", "drbdmeta"] {
        place.script(program, "printf '%s\\0' \"${0##*/}\" \"$@\" >>words; printf '\\n' >>words");
    }
    for (name, wanted) in [
        (
            "drbdadm",
            vec![
                "drbdsetup",
                "0",
                "net",
                "ipv4:10.1.1.1:7000",
                "ipv4:10.1.1.2:7000",
                "C",
                "--set-defaults",
                "--create-device",
            ],
        ),
        ("drbdadm-84", vec!["drbdsetup", "connect", "r 0", "ipv4:10.1.1.1:7000", "ipv4:10.1.1.2:7000"]),
    ] {
        let _ = fs::remove_file(place.path().join("words"));
        // Bytes: a backslash stands before each, also within a character.
        let mut dry = place.command(name, &["-c", "drbd.conf", "-d", "-n", "resource", "up", "all"]);
        let printed = dry.output().expect("runs");
        assert!(printed.status.success() && printed.stdout.starts_with(b"resource=r\\ 0\n"), "{printed:?}");
        fs::write(place.path().join("run.sh"), &printed.stdout).expect("written");
        let mut shell = Command::new("/bin/sh");
        let path = format!("{}:/usr/bin:/bin", place.path().display());
        shell.arg("run.sh").current_dir(place.path()).env("PATH", path);
        assert_eq!(finish(shell).status, 0);
        let calls = fs::read_to_string(place.path().join("words")).expect("calls");
        let calls: Vec<Vec<&str>> =
            calls.lines().map(|l| l.trim_end_matches('\0').split('\0').collect()).collect();
        let attach = calls.iter().find(|c| c.contains(&"/dev/my disk")).expect("the disk is one word");
        assert_eq!(
            attach.iter().filter(|word| **word == "/dev/my disk").count(),
            if name == "drbdadm" { 2 } else { 1 }
        );
        let net = calls.last().expect("the connection is last");
        assert_eq!(net[..wanted.len()], wanted[..]);
        assert!(net.contains(&format!("--shared-secret={secret}").as_str()), "{net:?}");
    }
}

/// Steps 6 to 17 of spec/drbdadm.md 3.
#[test]
fn wrong_calls_and_their_statuses() {
    let place = place(&resources(2, ""), "exit 0");
    for (name, line, status, text) in [
        (
            "drbdadm",
            "-t drbd.conf up r0",
            3,
            "The --config-to-test (-t) option is only allowed with the dump and sh-nop commands\n",
        ),
        (
            "drbdadm",
            "-n a-b -d secondary r0",
            0,
            "ignored --sh-varname=a-b: contains suspect characters, allowed set is [a-zA-Z0-9_]\n",
        ),
        ("drbdadm", "sh-nop a b", 0, "this command will ignore resource names!\n"),
        ("drbdadm", "-d split-brain r0 r1", 0, "You should not use this command with multiple resources!\n"),
        (
            "drbdadm",
            "--con x dump",
            20,
            "possibilities: '--config-file' '--config-to-test'\ntry 'drbdadm help'\n",
        ),
        ("drbdadm-84", "frobnicate r0", 3, "drbdadm: Unknown command 'frobnicate'\n"),
        (
            "drbdadm-84",
            "-d secondary --force r0",
            3,
            "drbdadm: unrecognized option '--force'\ntry 'drbdadm help secondary'\n",
        ),
        ("drbdadm-84", "-d create-md -- --x r0", 3, "'--x' not defined in your config (for this host).\n"),
        (
            "drbdadm",
            "-S up all",
            3,
            "WARN: nothing stacked for this host (alice), nothing to do in stacked mode!\n",
        ),
    ] {
        let (outcome, _) = run(&place, name, line);
        assert_eq!(outcome.status, status, "{line}: {outcome:?}");
        assert!(outcome.complaint().ends_with(text), "{line}: {outcome:?}");
    }
    let gone = place.run("drbdadm", &words("-s ./nothing -c drbd.conf up r0"));
    assert_eq!((gone.status, gone.complaint()), (20, "Can not find command (drbdsetup/drbdmeta)\n"));
    place.write("drbd.conf", &resources(2, "").replace("on alice", "on anna"));
    let (outcome, _) = run(&place, "drbdadm", "up r0");
    assert_eq!(
        (outcome.status, outcome.complaint()),
        (3, "'r0' ignored, since this host (alice) is not mentioned with an 'on' keyword.\n")
    );
    let (outcome, _) = run(&place, "drbdadm-84", "up all");
    assert_eq!(
        outcome.complaint(),
        "WARN: no normal resources defined for this host (alice)!?\nMisspelled name of the local machine with the \
         'on' keyword ?\n"
    );
    place.write(
        "drbd.conf",
        &resources(1, "").replace("global {", "global { minor-count 1;").replace("drbd0", "drbd1"),
    );
    let (outcome, _) = run(&place, "drbdadm", "up r0");
    assert_eq!(
        (outcome.status, outcome.complaint()),
        (3, "The highest minor you have in your config is 1but a minor_count of 1 in your config!\n")
    );
}

/// spec/drbdadm.md 11.3.
#[test]
fn sh_commands() {
    let place = place(
        &stacked(),
        "[ \"$2\" = sh-status ] && echo \"_minor=$1\"; [ \"$2\" = status ] && echo \"<r minor=$1/>\"; exit 0",
    );
    let conf = place.path().canonicalize().expect("path").join("drbd.conf").display().to_string();
    for (line, printed) in [
        ("sh-resources", "r0\n".to_string()),
        ("-S sh-resources", "up\n".to_string()),
        ("sh-mod-parms", "minor_count=32\n".to_string()),
        ("sh-dev all", "/dev/drbd0\n".to_string()),
        ("-S sh-dev all", "/dev/drbd10\n".to_string()),
        ("-S sh-ll-dev up", "/dev/drbd0\n".to_string()),
        ("-S sh-md-dev up", "/dev/drbd0\n".to_string()),
        ("-S sh-md-idx up", "internal\n".to_string()),
        ("-S sh-ip up", "10.1.1.9\n".to_string()),
        ("sh-resource r0", "r0\n".to_string()),
        ("sh-udev r0", "RESOURCE=r0\nDEVICE=drbd0\nDISK=sd0\n".to_string()),
        (
            "sh-status",
            format!(
                "_drbd_version=8.3.16\n_drbd_api=88\n_config_file={conf}\n\n_stacked_on=\n_stacked_on_device=\n\
                 _stacked_on_minor=\n_minor=0\n_stacked_on=r0\n_stacked_on_device=/dev/drbd0\n_stacked_on_minor=0\n_minor=10\n"
            ),
        ),
        (
            "status",
            format!(
                "<drbd-status version=\"8.3.16\" api=\"88\">\n<resources config_file=\"{conf}\">\n<r minor=0/>\n\
                 <r minor=10/>\n</resources>\n</drbd-status>\n"
            ),
        ),
    ] {
        let (outcome, _) = run(&place, "drbdadm", line);
        assert_eq!((outcome.status, outcome.stdout), (0, printed), "{line}");
    }
    for (minor, count) in [(20, 32), (21, 32), (22, 33), (245, 256), (900, 256)] {
        place.write("drbd.conf", &resources(1, "").replace("/dev/drbd0", &format!("/dev/drbd{minor}")));
        assert_eq!(run(&place, "drbdadm", "sh-mod-parms").0.stdout, format!("minor_count={count}\n"));
    }
}
