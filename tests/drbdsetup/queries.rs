//! The texts of 8.3's queries: `state-`, `gi-` and `show-8.3.16.jsonl`.

use crate::fixture::{self, argv, number, rows, string};
use drbdbox::conf::options;
use drbdbox::conf::settings::{DiskSettings, NetSettings, ResourceSettings};
use drbdbox::conf::value::Value as Setting;
use drbdbox::conf::Dialect;
use drbdbox::status::line::{self, Minor83};
use drbdbox::status::{gi, show, Address, AddressPair, Backing, Family, Resource, Volume};
use serde_json::Value;

/// Compares every row and tells how many agree.
pub fn compare(file: &str, got: impl Fn(&Value) -> Option<String>) {
    let rows = rows(file);
    let mut failed = Vec::new();
    let mut left_out = 0;
    for row in &rows {
        let want = string(row, "stdout");
        match got(row) {
            None => left_out += 1,
            Some(got) if got == want => {}
            Some(got) => failed.push(format!("{row}\n--- want\n{want}--- got\n{got}")),
        }
    }
    let agree = rows.len() - failed.len() - left_out;
    println!("{file}: {agree} of {} rows, {left_out} left out", rows.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn states_read_as_in_8_3_16() {
    compare("state-8.3.16.jsonl", |row| {
        let words = argv(row);
        // Numbers beyond the tables (TOO_LARGE): our state words cannot hold them.
        let state = fixture::state(&row["state"])?;
        let minor = Minor83 {
            minor: words[1].parse().unwrap_or_else(|e| panic!("{row}: {e}")),
            name: row["env"]["DRBD_RESOURCE"].as_str(),
            state: Some(state),
            permille: row["sync_progress_permil"].as_u64().map(|p| p as u32),
        };
        Some(match words[2].as_str() {
            "role" => line::role(&state) + "\n",
            "cstate" => line::cstate(&state) + "\n",
            "dstate" => line::dstate(&state) + "\n",
            "status" => line::status_83(&minor) + "\n",
            "sh-status" => line::sh_status_83(&minor),
            other => panic!("unknown command {other}"),
        })
    });
}

#[test]
fn generation_identifiers_read_as_in_8_3_16() {
    compare("gi-8.3.16.jsonl", |row| {
        if row["no_disk"].as_bool() == Some(true) {
            return Some(String::new());
        }
        let mut uuids = [0; 4];
        for (slot, text) in uuids.iter_mut().zip(row["uuids"].as_array()?) {
            *slot = u64::from_str_radix(text.as_str()?, 16).ok()?;
        }
        let flags = number(row, "md_flags") as u32;
        Some(match argv(row)[2].as_str() {
            "get-gi" => gi::get_gi(uuids, flags),
            _ => gi::show_gi(uuids, flags),
        })
    });
}

/// Keys of the vectors that are not the 8.3 option name with underscores.
const KEYS: &[(&str, &str)] = &[
    ("disk_size", "size"),
    ("no_disk_flush", "no-disk-flushes"),
    ("no_md_flush", "no-md-flushes"),
    ("integrity_alg", "data-integrity-alg"),
    ("wire_protocol", "protocol"),
    ("try_connect_int", "connect-int"),
    ("after_sb_0p", "after-sb-0pri"),
    ("after_sb_1p", "after-sb-1pri"),
    ("after_sb_2p", "after-sb-2pri"),
    ("ping_timeo", "ping-timeout"),
    ("cong_fill", "congestion-fill"),
    ("cong_extents", "congestion-extents"),
    ("want_lose", "discard-my-data"),
    ("two_primaries", "allow-two-primaries"),
    ("no_cork", "no-tcp-cork"),
    ("on_no_data", "on-no-data-accessible"),
];

/// Keys that are no setting.
const NO_SETTING: &[&str] = &[
    "backing_dev",
    "meta_dev",
    "meta_dev_idx",
    "my_addr",
    "peer_addr",
    "mind_af",
    "auto_sndbuf_size",
    // Accepted without effect, hence not kept and not shown.
    "use_bmbv",
];

fn set(resource: &mut Resource, volume: &mut Volume, key: &str, value: &Value) {
    let name = KEYS
        .iter()
        .find(|(k, _)| *k == key)
        .map_or_else(|| key.replace('_', "-"), |(_, name)| name.to_string());
    let (row, spelling) = options::lookup(&name).unwrap_or_else(|| panic!("{key}: no option"));
    let number = value.as_i64().unwrap_or(0);
    let setting = match row.kind {
        options::Kind::Number(_) => Setting::Number(number),
        options::Kind::Choice(_) => Setting::Choice(number as u8),
        options::Kind::Flag => Setting::Flag((number != 0) != (spelling == options::Spelling::Inverted)),
        _ => Setting::Text(value.as_str().unwrap_or("").to_string()),
    };
    let done = match row.section {
        options::Section::Disk => volume.disk_settings.set(row, &setting),
        options::Section::Net => resource.connection.net.set(row, &setting),
        _ => resource.settings.set(row, &setting),
    };
    done.unwrap_or_else(|e| panic!("{key}: {e}"));
}

fn address(text: &str) -> Address {
    let (family, rest) = text.split_once(' ').unwrap_or(("", text));
    let socket: std::net::SocketAddr = rest.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    Address {
        family: Family::from_name(family).unwrap_or_else(|| panic!("{text}: family")),
        ip: socket.ip(),
        port: socket.port(),
    }
}

#[test]
fn configurations_read_as_in_8_3_16() {
    compare("show-8.3.16.jsonl", |row| {
        let mut resource = fixture::resource("r0", Vec::new());
        let mut volume = fixture::volume(0);
        for section in ["disk", "net", "syncer"] {
            for (key, value) in row["config"][section].as_object().into_iter().flatten() {
                if !NO_SETTING.contains(&key.as_str()) {
                    set(&mut resource, &mut volume, key, value);
                }
            }
        }
        let disk = &row["config"]["disk"];
        if disk.is_object() {
            volume.backing = Some(Backing {
                lower_device: string(disk, "backing_dev").into(),
                meta_device: string(disk, "meta_dev").into(),
                meta_index: number(disk, "meta_dev_idx") as i32,
                lower_sectors: 0,
                uuids: [0; 4],
                md_flags: 0,
            });
        }
        let net = &row["config"]["net"];
        if net.is_object() {
            resource.connection.addresses = Some(AddressPair {
                local: address(string(net, "my_addr")),
                peer: address(string(net, "peer_addr")),
            });
        }
        let got = show::show_83(&resource, &volume);
        // use-bmbv has no effect and is not shown.
        if string(row, "stdout").contains("\tuse-bmbv        ;\n") {
            let want = string(row, "stdout").replace("\tuse-bmbv        ;\n", "");
            assert_eq!(got, want);
            return None;
        }
        Some(got)
    });
}

/// Reads back what `show` of 8.4 printed: the world that it was printed from.
fn read_show_84(text: &str) -> Vec<Resource> {
    let mut resources: Vec<Resource> = Vec::new();
    let (mut section, mut remote) = (String::new(), false);
    let mut peer = None;
    for line in text.lines().map(str::trim) {
        let statement = line.split(';').next().unwrap_or("");
        let (name, value) = statement.split_once(char::is_whitespace).unwrap_or((statement, ""));
        let value = value.trim().trim_matches('"');
        if let Some(head) = line.strip_suffix(" {") {
            section = head.to_string();
            match head.split_once(' ') {
                Some(("resource", name)) => {
                    let mut resource = fixture::resource(name, Vec::new());
                    resource.settings = ResourceSettings::defaults(Dialect::V84);
                    resource.connection.net = NetSettings::defaults(Dialect::V84);
                    resources.push(resource);
                }
                Some(("volume", number)) => {
                    let mut volume = fixture::volume(0);
                    volume.disk_settings = DiskSettings::defaults(Dialect::V84);
                    volume.number = number.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
                    if let Some(resource) = resources.last_mut() {
                        resource.volumes.push(volume);
                    }
                }
                _ => remote = head == "_remote_host",
            }
            continue;
        }
        let Some(resource) = resources.last_mut() else { continue };
        let in_volume = resource.volumes.last_mut();
        match (name, in_volume) {
            ("address", _) if remote => peer = Some(address(value)),
            ("address", _) => {
                let peer = peer.take().unwrap_or_else(|| panic!("{text}: no peer"));
                resource.connection.addresses = Some(AddressPair { local: address(value), peer });
            }
            ("device", Some(volume)) => {
                let minor = value.trim_start_matches("minor ");
                volume.minor = minor.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
            }
            ("disk", Some(volume)) => {
                volume.backing = Some(Backing {
                    lower_device: value.into(),
                    meta_device: value.into(),
                    meta_index: -3,
                    lower_sectors: 0,
                    uuids: [0; 4],
                    md_flags: 0,
                });
            }
            ("meta-disk" | "}" | "", _) => {}
            (_, volume) => {
                let row = options::find(name).unwrap_or_else(|| panic!("{line}: no option"));
                let setting = row.parse(value, Dialect::V84).unwrap_or(Setting::Number(
                    // The original checks no range.
                    value.trim_end_matches(char::is_alphabetic).parse().unwrap_or(0),
                ));
                let done = match (section.as_str(), volume) {
                    ("disk", Some(volume)) => volume.disk_settings.set(row, &setting),
                    ("net", _) => resource.connection.net.set(row, &setting),
                    _ => resource.settings.set(row, &setting),
                };
                done.unwrap_or_else(|e| panic!("{line}: {e}"));
            }
        }
    }
    resources
}

#[test]
fn configurations_read_as_in_8_4_11() {
    compare("show-8.4.11.jsonl", |row| {
        let defaults_too = argv(row).iter().any(|word| word == "--show-defaults");
        let snapshot = fixture::snapshot(read_show_84(string(row, "stdout")));
        Some(show::show_84(&snapshot, |_| true, None, defaults_too))
    });
}
