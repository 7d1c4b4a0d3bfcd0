//! Reading vectors, and the snapshots that they are printed from.

use drbdbox::conf::settings::{DiskSettings, NetSettings, ResourceSettings};
use drbdbox::conf::Dialect;
use drbdbox::core::state::{Conn, StateWord};
use drbdbox::status::{
    Address, AddressPair, Congestion, Connection, Counters, Family, Resource, Snapshot, Suspended,
    TimeoutClass, Volume, WriteOrdering,
};
use serde_json::Value;

/// The rows of a file of vectors.
pub fn rows(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/vectors/drbdsetup/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    // events-8.3-input.json is one document.
    if file.ends_with(".json") {
        return vec![serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))];
    }
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{path}: {e}"))).collect()
}

/// A number of a row; 0 if the key is absent.
pub fn number(row: &Value, key: &str) -> i64 {
    row[key].as_i64().unwrap_or(0)
}

/// A string of a row; empty if the key is absent.
pub fn string<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or("")
}

/// `argv` of a row.
pub fn argv(row: &Value) -> Vec<String> {
    let words = row["argv"].as_array().into_iter().flatten();
    words.filter_map(|w| w.as_str().map(String::from)).collect()
}

/// The state word of the keys that vectors use; `None`: a number that names no state.
pub fn state(row: &Value) -> Option<StateWord> {
    let bit = |key| (number(row, key) & 1) as u32;
    let bits = number(row, "role") as u32
        | (number(row, "peer") as u32) << 2
        | (number(row, "conn") as u32) << 4
        | (number(row, "disk") as u32) << 9
        | (number(row, "pdsk") as u32) << 13
        | bit("susp") << 17
        | bit("aftr_isp") << 18
        | bit("peer_isp") << 19
        | bit("user_isp") << 20
        | bit("susp_nod") << 21
        | bit("susp_fen") << 22;
    StateWord::from_bits(bits).ok()
}

/// A volume without disk and data.
pub fn volume(minor: u32) -> Volume {
    Volume {
        minor,
        number: 0,
        state: StateWord::UNCONFIGURED,
        disk_settings: DiskSettings::defaults(Dialect::V83),
        backing: None,
        size_sectors: 0,
        counters: Counters::default(),
        out_of_sync_bits: 0,
        bitmap_bits: 0,
        progress: None,
        write_ordering: WriteOrdering::Barrier,
        al_suspended: false,
        congestion: Congestion::None,
        blocked_upper: false,
        blocked_lower: false,
        timeout_class: TimeoutClass::Normal,
        open_count: 0,
    }
}

/// Endpoints as in the examples of the specification.
pub fn addresses() -> AddressPair {
    let end = |last, port| Address { family: Family::Ipv4, ip: [192, 168, 197, last].into(), port };
    AddressPair { local: end(134, 7801), peer: end(135, 7801) }
}

/// A resource with these volumes and no connection.
pub fn resource(name: &str, volumes: Vec<Volume>) -> Resource {
    Resource {
        revision: 1,
        name: name.into(),
        explicit: false,
        settings: ResourceSettings::defaults(Dialect::V83),
        connection: Connection {
            cstate: Conn::StandAlone,
            addresses: None,
            net: NetSettings::defaults(Dialect::V83),
            agreed_version: 97,
            congested: false,
            peer_name: None,
            ap_in_flight: 0,
            rs_in_flight: 0,
        },
        volumes,
        suspended: Suspended::default(),
    }
}

/// A daemon with these resources.
pub fn snapshot(resources: Vec<Resource>) -> Snapshot {
    Snapshot { now_ms: 0, dialect: Dialect::V83, build_tag: String::new(), proc_details: 0, resources }
}
