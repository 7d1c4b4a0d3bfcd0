//! `scan`: what DRBD meta data is on devices, and what to do with it. Not a command of DRBD's.
//!
//! Only reads. A device that fails is a line of the answer; the others are looked at all the same.

mod advice;
mod content;
mod devices;
mod report;
mod table;

use serde::Serialize;

use super::call::Failure;
use super::options::Options;
use super::ui::{say, say_err};
use super::{json, EXIT_ERROR, EXIT_NO_META_DATA, EXIT_USAGE};
use drbdbox::control::Client;
use report::DeviceReport;

/// The word on the command line.
pub const NAME: &str = "scan";

/// What it is for, in the help text.
pub const USAGE: &str = "scan [--json] [DEVICE...]";

#[derive(Serialize)]
struct Answer<'a> {
    devices: &'a [DeviceReport],
}

/// Runs the command. Exit status: 0 if meta data were found, 255 if not, 10 if not and a device failed.
pub fn run(options: &Options, devices: &[String]) -> Result<u8, Failure> {
    let names_given = !devices.is_empty();
    let devices = match devices {
        [] => devices::all().map_err(|error| {
            Failure::new(
                EXIT_USAGE,
                format!("cannot read {}: {error}; name the devices", devices::PARTITIONS),
            )
        })?,
        devices => devices.to_vec(),
    };
    let snapshot = Client::look();
    let reports: Vec<DeviceReport> =
        devices.iter().map(|device| report::look_at(device, snapshot.as_ref())).collect();
    let found = reports.iter().any(|report| !report.meta_data.is_empty());
    let failed = reports.iter().any(|report| report.error.is_some());
    if options.json {
        json::print(&Answer { devices: &reports });
    } else {
        print(&reports, names_given);
    }
    Ok(match (found, failed) {
        (true, _) => 0,
        (false, true) => EXIT_ERROR,
        (false, false) => EXIT_NO_META_DATA,
    })
}

/// Table and advice on stdout, failures on stderr. Devices without meta data are named only if they were asked for.
fn print(reports: &[DeviceReport], names_given: bool) {
    let table = table::of(reports);
    if !table.is_empty() {
        say!("{table}");
    }
    for report in reports {
        for meta_data in &report.meta_data {
            say!("{}", advice::text(report, meta_data));
        }
        if let Some(error) = &report.error {
            say_err!("{}: {error}", report.device);
        }
        for place in &report.unreadable {
            say_err!("{}: {place}", report.device);
        }
    }
    let without: Vec<&DeviceReport> = reports
        .iter()
        .filter(|report| names_given && report.meta_data.is_empty() && report.error.is_none())
        .collect();
    let with_remarks = reports.iter().filter(|report| !report.remarks.is_empty()).count();
    if !table.is_empty() && without.len() + with_remarks > 0 {
        say!();
    }
    for report in without {
        say!("{}: no DRBD meta data found", report.device);
    }
    for report in reports {
        for remark in &report.remarks {
            say!("{}: {remark}", report.device);
        }
    }
    if table.is_empty() && !names_given {
        say!("No DRBD meta data found on {} devices.", reports.len());
    }
}
