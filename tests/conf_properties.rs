//! Properties of the configuration language: no input breaks the reader, and a dump reads back as
//! what was dumped.

use drbdbox::conf::model::{Config, FileName, Resource};
use drbdbox::conf::options::{self, Kind, Scope};
use drbdbox::conf::parser::Parser;
use drbdbox::conf::{dump, dump_xml, Dialect};
use proptest::prelude::*;

#[path = "support/conf_use.rs"]
mod conf_use;

use conf_use::use_all;

fn file() -> FileName {
    FileName { display: "drbd.conf".to_string(), absolute: "/nowhere/drbd.conf".to_string() }
}

fn read(bytes: &[u8], dialect: Dialect) -> Result<Config, String> {
    let mut parser = Parser::new(dialect);
    let result = parser.read(file(), bytes.to_vec());
    let (config, messages) = parser.finish();
    match result {
        Ok(()) if config.valid => Ok(config),
        _ => Err(messages),
    }
}

fn text(config: &Config) -> (String, String) {
    let mut plain = dump::head(config);
    let mut xml = dump_xml::head(config);
    for resource in &config.resources {
        plain += &dump::resource(config, resource, "alice");
        xml += &dump_xml::resource(config, resource, 1);
    }
    (plain, xml)
}

/// A model without positions.
fn without_lines(mut resource: Resource, dialect: Dialect) -> Resource {
    resource.line = 0;
    resource.file = FileName::default();
    resource.settings.iter_mut().for_each(|setting| setting.line = 0);
    for volume in &mut resource.volumes {
        volume.options.iter_mut().for_each(|setting| setting.line = 0);
    }
    for host in &mut resource.hosts {
        host.line = 0;
        host.options.iter_mut().for_each(|setting| setting.line = 0);
        for volume in &mut host.volumes {
            volume.options.iter_mut().for_each(|setting| setting.line = 0);
        }
        if let Some(proxy) = &mut host.proxy {
            proxy.options.iter_mut().for_each(|setting| setting.line = 0);
        }
    }
    // Each section of the dialect has an order by itself; 8.3's protocol is none of a section.
    resource.settings.sort_by_key(|s| (s.row.name == "protocol", s.section_in(dialect)));
    resource
}

fn assert_same(a: &Config, b: &Config) {
    assert_eq!(a.dialect, b.dialect);
    assert_eq!(a.global, b.global);
    assert_eq!(
        a.common.clone().map(|c| without_lines(c, a.dialect)),
        b.common.clone().map(|c| without_lines(c, b.dialect))
    );
    let resources = |config: &Config| -> Vec<Resource> {
        config.resources.iter().map(|r| without_lines(r.clone(), config.dialect)).collect()
    };
    assert_eq!(resources(a), resources(b));
}

/// A word that needs no quotes and is no keyword.
fn word() -> impl Strategy<Value = String> {
    "[a-z]{3,8}[0-9]{1,3}x"
}

/// An option of one of these sections with a value that its range allows, in 8.4 words.
fn option(section: options::Section) -> impl Strategy<Value = String> {
    let rows: Vec<_> = options::all()
        .iter()
        .filter(|row| row.section == section)
        .filter(|row| !matches!(row.scope, Scope::OneShot))
        .filter(|row| row.kind != Kind::Hosts && row.name != "stacked-timeouts")
        .filter(|row| row.name != "protocol" && row.name != "resync-after")
        .collect();
    (prop::sample::select(rows), any::<u32>(), word()).prop_map(|(row, number, word)| {
        let value = match row.kind {
            Kind::Number(_) => {
                let range = row.range(Dialect::V84).expect("numbers have ranges");
                let span = (range.max - range.min + 1).min(99_999_999);
                (range.min + i64::from(number) % span).to_string()
            }
            Kind::Choice(words) => words[number as usize % words.len()].text.to_string(),
            // In 8.3's form a flag in the state that 8.3 has anyhow is not printed.
            Kind::Flag => match row.default_value(Dialect::V83) {
                drbdbox::conf::value::Value::Flag(true) => "no".to_string(),
                _ => "yes".to_string(),
            },
            _ => format!("\"{word} \\\"\\\\\""),
        };
        format!("{} {value};", row.name)
    })
}

fn section(section: options::Section) -> impl Strategy<Value = String> {
    prop::collection::vec(option(section), 0..5)
        .prop_map(move |options| format!("  {} {{ {} }}\n", section.word(), options.join(" ")))
}

/// A resource with two hosts. `volumes`: 8.4's explicit ones.
fn resource(index: usize, volumes: bool) -> impl Strategy<Value = String> {
    use options::Section::{Disk, Handlers, Net, Options, Startup};
    (
        word(),
        section(Net),
        section(Disk),
        section(Startup),
        section(Handlers),
        section(Options),
        prop::sample::select(vec!["A", "B", "C"]),
        prop::option::of(0..9u32),
    )
        .prop_map(move |(name, net, disk, startup, handlers, options, protocol, external)| {
            let meta = match external {
                Some(index) => format!("/dev/md{name} [{index}]"),
                None => "internal".to_string(),
            };
            let volume = |number: usize| {
                let minor = index * 2 + number;
                format!("device /dev/drbd{minor} minor {minor}; disk /dev/d{minor}; meta-disk {meta};")
            };
            let volumes = match volumes {
                true => format!(
                    "volume 0 {{ {} }} volume 7 {{ {} }}",
                    volume(0),
                    volume(1).replace("/dev/md", "/dev/me")
                ),
                false => volume(0),
            };
            let host = |host: &str, last: usize| {
                format!("  on {host} {{ {volumes} address 10.1.{index}.{last}:7788; }}\n")
            };
            format!(
                "resource r{index}{name} {{\n  protocol {protocol};\n{}{}{net}{disk}{options}\
                     {startup}{handlers}}}\n",
                host("alice", 1),
                host("bob", 2)
            )
        })
}

fn configuration(volumes: bool) -> impl Strategy<Value = String> {
    (resource(0, volumes), resource(1, volumes), section(options::Section::Net)).prop_map(|(a, b, net)| {
        format!("global {{ dialog-refresh 7; minor-count 40; }}\ncommon {{\n{net}}}\n{a}{b}")
    })
}

/// An endpoint with a family word, as `address` and `floating` have it.
fn endpoint(kind: usize, number: usize, port: usize) -> String {
    match kind % 5 {
        0 => format!("10.2.{number}.1:{port}"),
        1 => format!("ipv6 [fd00::{number:x}]:{port}"),
        2 => format!("sdp 10.3.{number}.1:{port}"),
        3 => format!("ssocks 10.4.{number}.1:{port}"),
        _ => format!("ipv4 127.0.0.1:{port}"),
    }
}

/// A resource in all the ways in which hosts, devices, meta data and proxies can be written. `index` makes
/// names unique.
fn unusual(index: usize) -> impl Strategy<Value = String> {
    let numbers = prop::collection::vec(0..60usize, 8);
    (numbers, section(options::Section::Net), word(), any::<[bool; 6]>()).prop_map(
        move |(n, net, word, [quoted, proxied, stacked, several, inherited, switches])| {
            let minor = 50 + index * 4;
            let device = match n[0] % 4 {
                0 => format!("device /dev/drbd{minor};"),
                1 => format!("device minor {minor};"),
                2 => format!("device drbd{minor} minor {minor};"),
                _ => format!("device /dev/drbd_{word} minor {minor};"),
            };
            let disk = if quoted { format!("\"/dev/my {word}\"") } else { format!("/dev/{word}") };
            let meta = match n[1] % 3 {
                0 => "meta-disk internal;".to_string(),
                1 => format!("meta-disk /dev/m{word} [{}];", n[2]),
                _ => format!("flexible-meta-disk /dev/m{word};"),
            };
            let backing = format!("{device} disk {disk}; {meta}");
            let (outer, inner) = if inherited { (backing, String::new()) } else { (String::new(), backing) };
            let proxy = |host: usize| match proxied {
                false => String::new(),
                true => format!(
                    "proxy on p{host} q{host} {{ inside 127.0.0.1:{}; outside 10.9.{index}.{host}:7801; }}",
                    7900 + index * 2 + host
                ),
            };
            let host = |host: usize| {
                let address = endpoint(n[3], index * 2 + host, 7000 + index * 10 + host);
                match n[4] % 3 {
                    0 => format!("  floating {address} {{ {inner} {} }}\n", proxy(host)),
                    _ => {
                        let more = if several { format!(" more{host}") } else { String::new() };
                        format!("  on host{host}{more} {{ {inner} address {address}; {} }}\n", proxy(host))
                    }
                }
            };
            let name = if quoted { format!("\"u{index} {word}\"") } else { format!("u{index}{word}") };
            let plugins = "  proxy { memlimit 5M; plugin { lzma contexts 4 level 9; zlib; } }\n";
            let startup = "  startup { wait-after-sb; stacked-timeouts; become-primary-on host0 host1; }\n";
            let top = format!(
                "resource s{index} {{ protocol A;\n  stacked-on-top-of {name} {{ device minor {}; address \
                 10.5.{index}.1:1; }}\n  on far {{ device minor {}; disk /dev/f{word}; address 10.5.{index}.2:1; \
                 meta-disk internal; }}\n}}\n",
                minor + 1,
                minor + 1
            );
            format!(
                "resource {name} {{\n  protocol C;\n  {outer}\n{}{}{net}{}{}  syncer {{ rate {}M; al-extents 257; \
                 after nobody; use-rle; cpu-mask f; }}\n}}\n{}",
                host(0),
                host(1),
                if proxied { plugins } else { "" },
                if switches { startup } else { "" },
                n[5] + 1,
                if stacked { top.as_str() } else { "" },
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The same for hosts, devices, meta data and proxies in all their forms.
    #[test]
    fn a_dump_of_unusual_forms_reads_back(
        texts in (unusual(0), unusual(1)),
        new in any::<bool>(),
    ) {
        let dialect = if new { Dialect::V84 } else { Dialect::V83 };
        let input = texts.0 + &texts.1;
        let first = read(input.as_bytes(), dialect).map_err(|messages| format!("{messages}\n{input}")).expect("valid");
        let (dumped, _) = text(&first);
        let second = read(dumped.as_bytes(), dialect).map_err(|messages| format!("{messages}\n{dumped}")).expect("valid");
        // What a host section inherited stands in it in the dump.
        let flat = |mut config: Config| {
            for resource in &mut config.resources {
                resource.volumes.clear();
                resource.hosts.iter_mut().flat_map(|h| &mut h.volumes).for_each(|v| v.implicit = true);
            }
            config
        };
        // 8.4.4 prints an inherited volume as `volume 0 { }`, and that puts 8.4 in force.
        assert_same(&flat(first), &flat(second));
    }

    #[test]
    fn a_dump_reads_back_as_the_same_model(
        (input, dialect) in (any::<bool>(), any::<bool>()).prop_flat_map(|(volumes, new)| {
            let dialect = if new { Dialect::V84 } else { Dialect::V83 };
            (configuration(volumes), Just(dialect))
        })
    ) {
        let first = read(input.as_bytes(), dialect).expect("valid");
        let (dumped, _) = text(&first);
        let second = read(dumped.as_bytes(), dialect).expect("a dump is valid");
        assert_same(&first, &second);
        let (again, _) = text(&second);
        let lines = |text: &str| -> Vec<String> {
            // The place of a resource is another one in the dump.
            text.lines().filter(|l| !l.starts_with("# defined")).map(str::to_string).collect()
        };
        prop_assert_eq!(lines(&dumped), lines(&again));
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        use_all(&bytes, Dialect::V83);
        use_all(&bytes, Dialect::V84);
    }

    /// Words of the language in any order come further than bytes.
    #[test]
    fn random_words_do_no_harm(words in prop::collection::vec(
        prop::sample::select(vec![
            "resource", "common", "global", "r0", "\"r 1\"", "{", "{", "{", "}", "}", "}", ";",
            ";", ";", "[", "]", ":", "on", "alice", "bob", "device", "minor", "0", "1", "4294967296",
            "99999999", "disk", "/dev/sdb", "meta-disk", "internal", "flexible-meta-disk", "address",
            "10.1.1.1", "ipv6", "::1", "7788", "floating", "stacked-on-top-of", "volume", "65536",
            "options", "net", "syncer", "startup", "handlers", "proxy", "plugin", "inside",
            "outside", "protocol", "C", "rate", "10M", "after", "resync-after", "r0/1",
            "become-primary-on", "both", "no-disk-barrier", "yes", "no", "_is_default", "skip",
            "include", "\"*.conf\"", "_this_host", "\"", "#", "\n", "al-extents", "size", "-5",
        ]),
        0..120,
    )) {
        let input = words.join(" ");
        use_all(input.as_bytes(), Dialect::V83);
        use_all(input.as_bytes(), Dialect::V84);
        let _ = Parser::read_running(Dialect::V83, "show", input.clone().into_bytes());
        let _ = Parser::read_running(Dialect::V84, "show", input.into_bytes());
    }

    /// A valid file with one damaged byte.
    #[test]
    fn damaged_files_do_no_harm(
        input in configuration(true),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = input.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        use_all(&bytes, Dialect::V83);
        use_all(&bytes, Dialect::V84);
    }
}

/// What could take all memory or all day ends with a message.
#[test]
fn too_much_of_anything_is_refused() {
    let many = |word: &str, times: usize| word.repeat(times);
    let numbered =
        |times: usize, each: &dyn Fn(usize) -> String| -> String { (0..times).map(each).collect() };
    for (input, what) in [
        (format!("resource r {{ {}", numbered(1_100, &|n| format!("volume {n} {{}}"))), "volumes"),
        (format!("resource r {{ on {}", many("x ", 2_000)), "host names"),
        (numbered(10_100, &|n| format!("resource r{n} {{}}")), "resources"),
        (format!("common {{ proxy {{ plugin {{ {}", many("a;", 100)), "plugins"),
        (format!("common {{ net {{ {}", many("timeout 60;", 2_000)), "options"),
        (format!("resource r {{ on a {{ {}", many("options { cpu-mask 1; } ", 2_000)), "options"),
        (
            numbered(300, &|r| {
                format!("resource r{r} {{ on a {{ {} }} }}", numbered(900, &|n| format!("volume {n} {{}}")))
            }),
            "volumes in all",
        ),
        (
            format!(
                "resource r {{ {} {}",
                numbered(900, &|n| format!("volume {n} {{}}")),
                numbered(300, &|n| format!("on h{n} {{}}"))
            ),
            "inherited volumes",
        ),
    ] {
        let messages = read(input.as_bytes(), Dialect::V84).expect_err("refused");
        assert!(messages.contains(&format!(" {what}.")), "{what}: {messages}");
    }
}

/// A pipe of which nobody writes the other end; a folder; what is not there.
#[test]
fn what_is_no_file_is_not_waited_for() {
    let directory = tempfile::tempdir().expect("a folder");
    let pipe = directory.path().join("pipe.res");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    for (name, reason) in [("pipe.res", ""), ("*.res", "\tpipe.res: not a file\n"), ("gone.res", "")] {
        let path = directory.path().join("a.conf").to_string_lossy().into_owned();
        let mut parser = Parser::new(Dialect::V83);
        let file = FileName { display: path.clone(), absolute: path.clone() };
        assert_eq!(parser.read(file, format!("include \"{name}\";").into_bytes()), Ok(()));
        assert_eq!(parser.messages, format!("{path}:1: Failed to open include file '{name}'.\n{reason}"));
    }
}

/// A file that includes itself for ever.
#[test]
fn a_file_that_includes_itself_ends() {
    let directory = tempfile::tempdir().expect("a folder");
    let path = directory.path().join("a.conf");
    let content = "include \"a.conf\"; include \"a.conf\";\n";
    std::fs::write(&path, content).expect("written");
    let name = path.to_string_lossy().into_owned();
    let mut parser = Parser::new(Dialect::V83);
    let file = FileName { display: name.clone(), absolute: name };
    let result = parser.read(file, content.as_bytes().to_vec());
    assert_eq!(result, Ok(()));
    assert!(parser.messages.contains("Failed to open include file 'a.conf'."));
    assert!(!parser.finish().0.valid);
}
