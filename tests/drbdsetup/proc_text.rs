//! /proc/drbd: `proc-8.3.16.jsonl`.

use crate::fixture::{self, number, rows, string};
use drbdbox::conf::settings::Protocol;
use drbdbox::conf::Dialect;
use drbdbox::status::snapshot::MARKS;
use drbdbox::status::{proc, Congestion, Counters, Mark, Progress, Volume, WriteOrdering};
use serde_json::Value;

/// Lines that we leave out: the dumps of the kernel's caches at details 1 and 2.
fn is_cache_dump(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("resync:")
        || line.starts_with("act_log:")
        || line.starts_with("nn: lc_number")
        || line.ends_with(": FREE")
        || line.contains(" ------")
        || line.contains("_WRITES")
}

fn volume(minor: u32, row: &Value) -> Volume {
    let unsigned = |key: &str| number(row, key) as u64;
    let mut volume = fixture::volume(minor);
    volume.state = fixture::state(row).unwrap_or_else(|| panic!("{row}: state"));
    volume.counters = Counters {
        sent_sectors: unsigned("send_cnt"),
        received_sectors: unsigned("recv_cnt"),
        written_sectors: unsigned("writ_cnt"),
        read_sectors: unsigned("read_cnt"),
        al_writes: unsigned("al_writ_cnt") as u32,
        bm_writes: unsigned("bm_writ_cnt") as u32,
        local: number(row, "local_cnt") as i32,
        ap_pending: number(row, "ap_pending_cnt") as i32,
        rs_pending: number(row, "rs_pending_cnt") as i32,
        unacked: number(row, "unacked_cnt") as i32,
        ap_bio: number(row, "ap_bio_cnt") as i32,
        epochs: row["epochs"].as_i64().unwrap_or(1) as i32,
    };
    let ordering = row["write_ordering"].as_u64().unwrap_or(3);
    volume.write_ordering = WriteOrdering::ALL[ordering as usize];
    volume.out_of_sync_bits = unsigned("weight");
    volume.bitmap_bits = unsigned("bits");
    volume.al_suspended = unsigned("al_suspended") != 0;
    volume.congestion = match string(row, "congestion_reason") {
        "d" => Congestion::Frozen,
        "c" => Congestion::Helper,
        "b" => Congestion::Backing,
        "n" => Congestion::Network,
        "a" => Congestion::Both,
        _ => Congestion::None,
    };
    let mut marks = [Mark::default(); MARKS];
    for (i, mark) in marks.iter_mut().enumerate() {
        mark.time_ms = unsigned(&format!("mark_time_{i}"));
        mark.left = unsigned(&format!("mark_left_{i}"));
    }
    volume.progress = Some(Progress {
        total: unsigned("rs_total"),
        failed: unsigned("rs_failed"),
        verify_left: unsigned("ov_left"),
        verify_start_sector: 0,
        verify_stop_sector: match number(row, "ov_stop_sector") {
            -1 | 0 => None,
            sector => Some(sector as u64),
        },
        resync_position: unsigned("bm_resync_fo"),
        same_checksum: 0,
        start_ms: unsigned("rs_start"),
        paused_ms: unsigned("rs_paused"),
        marks,
        last_mark: unsigned("rs_last_mark") as usize,
        want_kib: unsigned("c_sync_rate"),
    });
    volume
}

#[test]
fn the_text_is_that_of_8_3_16() {
    let rows = rows("proc-8.3.16.jsonl");
    let mut failed = Vec::new();
    for row in &rows {
        let minors = row["minors"].as_object().into_iter().flatten();
        let resources = minors.map(|(minor, values)| {
            let minor: u32 = minor.parse().unwrap_or_else(|e| panic!("{minor}: {e}"));
            let mut resource = fixture::resource(&format!("r{minor}"), vec![volume(minor, values)]);
            let protocol = match number(values, "protocol") {
                1 => Some(Protocol::A),
                2 => Some(Protocol::B),
                3 => Some(Protocol::C),
                _ => None,
            };
            if let Some(protocol) = protocol {
                resource.connection.addresses = Some(fixture::addresses());
                resource.connection.net.protocol = protocol;
            }
            if let Some(version) = values["agreed_pro_version"].as_u64() {
                resource.connection.agreed_version = version as u32;
            }
            resource
        });
        let mut snapshot = fixture::snapshot(resources.collect());
        snapshot.now_ms = number(&row["global"], "jiffies") as u64;
        snapshot.proc_details = number(&row["global"], "proc_details") as u8;

        let tag =
            "GIT-hash: 0000000000000000000000000000000000000000 build by root@data01, 2011-06-19 11:05:32";
        let got = proc::header(Dialect::V83, 97, tag) + &proc::devices(&snapshot);
        let want: String =
            string(row, "text").split_inclusive('\n').filter(|line| !is_cache_dump(line)).collect();
        if got != want {
            failed.push(format!("{}\n--- want\n{want}--- got\n{got}", row["name"]));
        }
    }
    println!("proc-8.3.16: {} of {} rows", rows.len() - failed.len(), rows.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
