//! Everything that is done with the bytes of a drbd.conf before anybody is called, and what must hold then.

use drbdbox::conf::audit::{self, Machine, Node};
use drbdbox::conf::check::{self, Choice, ThisHost};
use drbdbox::conf::model::{Config, FileName};
use drbdbox::conf::parser::{Parser, Reading};
use drbdbox::conf::{dump, dump_xml, inherit, validate, Dialect};

/// What `drbdadm check` asks of a machine; of this one nothing is looked at.
struct NoMachine;

impl Machine for NoMachine {
    fn node(&self, path: &str) -> Node {
        Node::Block(path.len() as u64)
    }
    fn use_of(&self, path: &str) -> Option<String> {
        (path.len() % 7 == 0).then(|| "mounted".to_string())
    }
    fn is_executable(&self, _: &str) -> bool {
        false
    }
    fn is_readable_by_others(&self, _: &str) -> bool {
        true
    }
    fn knows_digest(&self, name: &str) -> bool {
        name == "sha1"
    }
    fn authenticates(&self, name: &str) -> bool {
        name == "sha1"
    }
    fn digests(&self) -> Vec<&'static str> {
        vec!["sha1"]
    }
    fn outgoing_ports(&self) -> Option<(u16, u16)> {
        Some((32768, 60999))
    }
}

fn file() -> FileName {
    FileName { display: "drbd.conf".into(), absolute: "/nowhere/drbd.conf".into() }
}

/// Reads, checks, expands and prints.
pub fn use_all(data: &[u8], dialect: Dialect) {
    let this = ThisHost { name: "alice".into(), ..ThisHost::default() };
    let mut parser = Parser::new(dialect);
    let result = parser.read(file(), data.to_vec());
    let (mut config, mut messages) = parser.finish();

    // What is said on a terminal begins with the same words.
    let mut telling = Parser::with(dialect, Reading { explains: true, recovers: false });
    assert_eq!(telling.read(file(), data.to_vec()), result);
    let first = messages.lines().next().unwrap_or("");
    assert!(result.is_ok() || telling.messages.contains(first), "{first} / {}", telling.messages);

    // `check` finds errors exactly where other commands find one.
    let mut checking = Parser::with(dialect, Reading { explains: true, recovers: true });
    let stopped = checking.read(file(), data.to_vec()).is_err();
    let errors = checking.errors;
    let (checked, found) = checking.finish();
    let refused = result.is_err() || !config.valid;
    assert_eq!(refused, stopped || errors > 0, "{messages} / {found}");
    let _ = audit::run(checked, &this, &NoMachine);

    if refused {
        assert!(!messages.is_empty(), "refused without a word");
        return;
    }
    let choice = Choice { no_terminal: true, ..Choice::default() };
    if check::find_this_host(&mut config, &this, &choice, &mut messages).is_err() {
        return;
    }
    print(&config);
    inherit::expand(&mut config);
    let _ = validate::validate(&mut config, &this, &choice, &mut messages);
    let _ = validate::convert_names(&mut config, &this, &mut messages);
    for resource in &config.resources {
        let _ = validate::missing_address(&config, resource, &this);
    }
    print(&config);
}

fn print(config: &Config) {
    let _ = (dump::head(config), dump_xml::head(config));
    for resource in &config.resources {
        let _ = (dump::resource(config, resource, "alice"), dump_xml::resource(config, resource, 1));
    }
}
