//! Errors in drbd.conf: file, line, and what was expected. spec/config.md 2.3.

use crate::node::Node;

fn check(node: &Node, text: &str, lines: &[&str]) {
    let path = node.path("drbd.conf");
    std::fs::write(&path, text).unwrap();
    let file = path.display().to_string();
    for command in [&["dump"][..], &["up", "r0"], &["adjust", "r0"]] {
        let mut all = node.command(&[&["drbdadm", "-c", &file], command].concat());
        all.env("__DRBD_NODE__", "alpha");
        let ran = crate::node::run(all);
        assert_eq!(ran.status, 10, "{command:?} {text}\n{ran:?}");
        for line in lines {
            let line = line.replace("FILE", &file);
            assert!(ran.err.contains(&line), "{command:?}: not on stderr: {line}\n{ran:?}");
        }
    }
    assert!(node.snapshot().resources.is_empty(), "a command was carried out");
}

fn resource(body: &str) -> String {
    format!(
        "resource r0 {{\n  protocol C;\n  device /dev/drbd0;\n  meta-disk internal;\n  {body}\n  \
         on alpha {{ disk /dev/null; address 127.0.0.1:7789; }}\n  \
         on beta {{ disk /dev/null; address 127.0.0.2:7789; }}\n}}\n"
    )
}

#[test]
fn errors_name_file_line_and_what_was_expected() {
    let node = Node::start();
    check(&node, &resource("net { timeout; }"), &["FILE:5: Parse error:", "expected"]);
    check(
        &node,
        &resource("net { no-such-option 5; }"),
        &["FILE:5: Parse error: '", "but got 'no-such-option'"],
    );
    check(
        &node,
        &resource("net { timeout 60 }"),
        &["FILE:5: Parse error: '_is_default | ;' expected,", "but got '}'"],
    );
    check(&node, &resource("frobnicate;"), &["FILE:5: Parse error:", "but got 'frobnicate'"]);
    check(&node, "resource r0 {\n", &["FILE:1: in resource r0:\n\tprotocol definition missing."]);
    check(
        &node,
        "nonsense\n",
        &[
            "FILE:1: Parse error: 'global | common | resource | skip | include' expected,",
            "but got 'nonsense'",
        ],
    );
    let twice = [resource(""), resource("")].concat();
    check(
        &node,
        &twice,
        &[
            "FILE:9: conflicting use of resource section 'r0' ...",
            "FILE:1: resource section 'r0' first used here.",
        ],
    );
    let address = resource("").replace("127.0.0.1:7789", "192.168.1.300:7789");
    check(
        &node,
        &address,
        &["FILE:6: in resource r0, on alpha:\n\tIP 192.168.1.300 not found on this host."],
    );
    let without_port = resource("").replace("127.0.0.1:7789", "127.0.0.1");
    check(&node, &without_port, &["FILE:6: Parse error:"]);
}

#[test]
fn files_that_cannot_be_read() {
    let node = Node::start();
    let drbdadm = |file: &str| node.run(&["drbdadm", "-c", file, "dump"]);
    drbdadm("/nonexistent/drbd.conf").refused(20, "Can not open '/nonexistent/drbd.conf'.");
    let directory = node.directory.path().display().to_string();
    assert_ne!(drbdadm(&directory).status, 0);
    // Noise, a file without end, a file that includes itself.
    let noise: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let path = node.path("noise.conf");
    std::fs::write(&path, noise).unwrap();
    let ran = drbdadm(&path.display().to_string());
    assert!(ran.status != 0 && ran.err.contains("noise.conf:1"), "{ran:?}");
    let path = node.path("circle.conf");
    std::fs::write(&path, format!("include \"{}\";\n", path.display())).unwrap();
    let ran = drbdadm(&path.display().to_string());
    assert!((0..100).contains(&ran.status), "{ran:?}");
    // Which of the files that match cannot be read, and why.
    std::fs::create_dir_all(node.path("drbd.d/bad.res")).unwrap();
    let path = node.path("including.conf");
    std::fs::write(&path, "\ninclude \"drbd.d/*.res\";\n").unwrap();
    let file = path.display().to_string();
    let ran = drbdadm(&file).refused(10, &format!("{file}:2: Failed to open include file 'drbd.d/*.res'.\n"));
    assert!(ran.err.contains("\tdrbd.d/bad.res: Is a directory"), "{ran:?}");
    let ran = drbdadm("/dev/zero");
    assert!(ran.status > 0, "{ran:?}");
}

#[test]
fn a_resource_that_does_not_exist() {
    let node = Node::start();
    let path = node.path("drbd.conf");
    std::fs::write(&path, resource("")).unwrap();
    let file = path.display().to_string();
    let mut command = node.command(&["drbdadm", "-c", &file, "up", "r7"]);
    command.env("__DRBD_NODE__", "alpha");
    let ran = crate::node::run(command);
    assert!(ran.status != 0 && ran.err.contains("'r7' not defined in your config"), "{ran:?}");
}

#[test]
fn what_the_daemon_refuses_is_told_by_drbdadm() {
    let node = Node::start();
    let blank = node.path("disk");
    std::fs::File::create(&blank).unwrap().set_len(crate::node::DISK_BYTES).unwrap();
    let path = node.path("drbd.conf");
    // drbdadm wants an address that an interface has.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (own, peer) = (free.local_addr().unwrap(), crate::node::new_address());
    drop(free);
    let configuration = |disk: &std::path::Path| {
        format!(
            "resource r0 {{\n  protocol C;\n  device /dev/drbd0;\n  meta-disk internal;\n  \
             on alpha {{ disk {}; address {own}; }}\n  on beta {{ disk /dev/null; address {peer}; }}\n}}\n",
            disk.display()
        )
    };
    let drbdadm = |words: &[&str]| {
        let file = path.display().to_string();
        let mut command = node.command(&[&["drbdadm", "-c", &file], words].concat());
        command.env("__DRBD_NODE__", "alpha");
        crate::node::run(command)
    };
    std::fs::write(&path, configuration(&blank)).unwrap();
    let ran = drbdadm(&["up", "r0"]).refused(1, "Failure: (119) No valid meta-data signature found.");
    assert!(ran.err.contains("' terminated with exit code 10"), "{ran:?}");
    let missing = node.path("missing");
    std::fs::write(&path, configuration(&missing)).unwrap();
    let ran = drbdadm(&["attach", "r0"]);
    assert!(ran.status != 0 && ran.err.contains("No such file or directory"), "{ran:?}");
    std::fs::write(&path, configuration(&blank)).unwrap();
    drbdadm(&["--", "--force", "create-md", "r0"]).ok();
    drbdadm(&["attach", "r0"]).ok();
    let thief = std::net::TcpListener::bind(own).unwrap();
    let ran = drbdadm(&["connect", "r0"]).refused(10, "Failure: (102) Local address(port) already in use.");
    assert!(ran.err.contains(&format!("({own}: Address already in use")), "{ran:?}");
    drop(thief);
    drbdadm(&["connect", "r0"]).ok();
    drbdadm(&["primary", "r0"]).refused(17, "(-2) Need access to UpToDate data");
    drbdadm(&["down", "r0"]).ok();
}
