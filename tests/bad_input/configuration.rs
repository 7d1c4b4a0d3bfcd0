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
    check(&node, &resource("net { timeout abc; }"), &["FILE:5: Parse error: '"]);
    check(
        &node,
        &resource("net { no-such-option 5; }"),
        &["FILE:5: Parse error: '", "but got 'no-such-option'"],
    );
    check(&node, &resource("disk { on-io-error maybe; }"), &["FILE:5: Parse error: '", "but got 'maybe'"]);
    check(&node, &resource("net { timeout 60 }"), &["FILE:5: Parse error: ';' expected,", "but got '}'"]);
    check(&node, &resource("frobnicate;"), &["FILE:5: Parse error:", "but got 'frobnicate'"]);
    check(&node, "resource r0 {\n", &["FILE:2: Parse error:"]);
    check(
        &node,
        "nonsense\n",
        &[
            "FILE:1: Parse error: 'global | common | resource | skip | include' expected,",
            "but got 'nonsense'",
        ],
    );
    check(&node, "resource r0 { protocol D; }\n", &["FILE:1:"]);
    let twice = [resource(""), resource("")].concat();
    check(&node, &twice, &["conflicting use of resource name 'r0'"]);
    let address = resource("").replace("127.0.0.1:7789", "192.168.1.300:7789");
    check(&node, &address, &["FILE:6:"]);
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
