//! `events` of both dialects and `events2`: lines for what the daemon tells, until the reader
//! goes away. spec/drbdsetup.md 5.6, 6.7, 6.8.

use super::configure::Call84;
use super::daemon::Asker;
use super::device;
use super::failure::{out, Failure, Outcome};
use super::values::Values;
use drbdbox::conf::Dialect;
use drbdbox::control::client::Next;
use drbdbox::control::{Event, EventKind};
use drbdbox::core::codes::ConfigCode;
use drbdbox::status::events::{self, BadBlock, Subject, Which};
use drbdbox::status::status84::chosen;
use drbdbox::status::{events2, Resource, Snapshot};
use drbdbox::sys::local_time;

/// Minors that 8.3's `-a` asks for.
const MINORS_83: u32 = 256;

/// Hands every event to `each` until that says "enough", or the reader of stdout goes away.
fn listen(asker: &Asker, mut each: impl FnMut(&Event) -> Result<bool, Failure>) -> Outcome {
    let mut stream = asker.events()?;
    let stdout = std::io::stdout();
    loop {
        let next = stream.next(None, Some(&stdout));
        match next.map_err(|error| asker.stream_failed(&error))? {
            Next::Event(event) => {
                if each(&event)? {
                    return Ok(0);
                }
            }
            Next::WatchedClosed | Next::Deadline => return Ok(0),
        }
    }
}

/// `DEV events`.
pub fn run_83(device: &str, minor: u32, values: &Values) -> Outcome {
    let asker = Asker { object: device, form: Dialect::V83 };
    let all = values.has("all-devices");
    // Answers are numbered by the requests of this run, broadcasts by the daemon.
    let mut answers = 0;
    listen(&asker, |event| {
        if let EventKind::Start(snapshot) = &event.kind {
            let minors = if all { 0..MINORS_83 } else { minor..minor.saturating_add(1) };
            for minor in minors {
                answers += 1;
                out(&answer_83(answers, minor, snapshot));
            }
        } else if event.kind.minor().is_some_and(|of| all || of == minor) {
            out(&broadcast(event, Dialect::V83));
        }
        Ok(false)
    })
}

fn answer_83(sequence: u32, minor: u32, snapshot: &Snapshot) -> String {
    match snapshot.minor(minor) {
        Some((_, v)) => events::state(sequence, Which::Now, Subject::Minor(minor), &v.state),
        None => events::answer(sequence, minor, ConfigCode::MinorInvalid.number()),
    }
}

/// `events [OBJ]`.
pub fn run_84(call: &Call84) -> Outcome {
    let object = call.object.as_str();
    let asker = Asker { object, form: Dialect::V84 };
    let minor = device::minor_of_object(object);
    let wanted = |resource: &str, of: Option<u32>| {
        object == "all"
            || match minor {
                Some(minor) => of == Some(minor),
                None => resource == object,
            }
    };
    let mut answers = 0;
    let mut first = true;
    listen(&asker, |event| {
        if let EventKind::Start(snapshot) = &event.kind {
            if std::mem::take(&mut first) {
                must_exist(&asker, snapshot, minor)?;
            }
            for resource in chosen(snapshot, "all") {
                out(&answers_84(&mut answers, resource, wanted));
            }
            return Ok(false);
        }
        let about = match &event.kind {
            EventKind::State { resource, .. } => resource.name.as_str(),
            EventKind::Resource(resource) if resource.volumes.is_empty() => &resource.name,
            EventKind::ResourceDeleted { name } => name,
            EventKind::Helper { resource, .. }
            | EventKind::SyncProgress { resource, .. }
            | EventKind::DigestMismatch { resource, .. } => resource,
            _ => return Ok(false),
        };
        if wanted(about, event.kind.minor()) {
            out(&broadcast(event, Dialect::V84));
        }
        Ok(false)
    })
}

fn must_exist(asker: &Asker, snapshot: &Snapshot, minor: Option<u32>) -> Result<(), Failure> {
    let exists = match minor {
        Some(minor) => snapshot.minor(minor).is_some(),
        None => asker.object == "all" || snapshot.resource(asker.object).is_some(),
    };
    if exists {
        return Ok(());
    }
    let (code, info) = match minor {
        Some(_) => (ConfigCode::MinorInvalid, "unknown minor"),
        None => (ConfigCode::ResourceUnknown, "unknown resource"),
    };
    Err(asker.code(code.number(), &[info.to_string()]))
}

fn answers_84(sequence: &mut u32, resource: &Resource, wanted: impl Fn(&str, Option<u32>) -> bool) -> String {
    let mut text = String::new();
    if resource.volumes.is_empty() && wanted(&resource.name, None) {
        *sequence += 1;
        text += &events::resource(*sequence, &resource.name);
    }
    for volume in resource.volumes_sorted() {
        if wanted(&resource.name, Some(volume.minor)) {
            *sequence += 1;
            let subject =
                Subject::Volume { minor: volume.minor, resource: &resource.name, number: volume.number };
            text += &events::state(*sequence, Which::Now, subject, &volume.state);
        }
    }
    text
}

/// The lines of one event.
fn broadcast(event: &Event, form: Dialect) -> String {
    let sequence = event.sequence;
    let subject = |minor, resource, number| match form {
        Dialect::V83 => Subject::Minor(minor),
        Dialect::V84 => Subject::Volume { minor, resource, number },
    };
    match &event.kind {
        EventKind::State { resource, minor, old, new } => {
            let volume = resource.volumes.iter().find(|v| v.minor == *minor);
            let number = volume.map_or(0, |v| v.number);
            let subject = subject(*minor, &resource.name, number);
            let mut text = String::new();
            if form == Dialect::V84 {
                text += &events::state(sequence, Which::Before, subject, old);
                text += &events::state(sequence, Which::After, subject, new);
            }
            // What the picture of the resource says may be newer than the change.
            let now = volume.filter(|_| form == Dialect::V84).map_or(*new, |v| v.state);
            text + &events::state(sequence, Which::Now, subject, &now)
        }
        EventKind::Helper { resource, volume, helper, status } => {
            let subject = match volume {
                Some((minor, number)) => subject(*minor, resource, *number),
                None => Subject::Resource(resource),
            };
            match (status, form) {
                (None, _) => events::helper(sequence, subject, helper),
                (Some(status), Dialect::V84) => events::helper_done(sequence, subject, helper, *status),
                (Some(_), Dialect::V83) => String::new(),
            }
        }
        EventKind::SyncProgress { resource, minor, volume, permille } => {
            events::progress(sequence, subject(*minor, resource, *volume), *permille)
        }
        EventKind::DigestMismatch {
            resource,
            minor,
            volume,
            reason,
            sector,
            block_id,
            received,
            computed,
            size,
            data,
        } => {
            let block = BadBlock {
                reason,
                sector: *sector,
                block_id: *block_id,
                size: *size,
                received,
                computed,
                data,
            };
            events::bad_block(sequence, subject(*minor, resource, *volume), &block)
        }
        EventKind::Resource(resource) => events::resource(sequence, &resource.name),
        EventKind::ResourceDeleted { name } => events::resource(sequence, name),
        EventKind::Start(_) | EventKind::Skipped(_) => String::new(),
    }
}

/// `events2 [OBJ]`.
pub fn events2(call: &Call84) -> Outcome {
    let object = call.object.as_str();
    let asker = Asker { object, form: Dialect::V84 };
    let statistics = call.values.has("statistics");
    let timestamps = call.values.has("timestamps");
    let now = call.values.has("now");
    let print = |event: &Event, lines: &[String]| {
        let stamp = if timestamps { local_time::iso_8601(event.time_us) + " " } else { String::new() };
        let text: String = lines.iter().map(|line| format!("{stamp}{line}\n")).collect();
        out(&text);
    };
    let wanted = |name: &str| object == "all" || name == object;
    let mut told = events2::Told::new(statistics);
    let mut first = true;
    listen(&asker, |event| {
        match &event.kind {
            EventKind::Start(snapshot) if std::mem::take(&mut first) => {
                let mut lines = Vec::new();
                for resource in chosen(snapshot, object) {
                    lines.extend(told.existing(resource));
                }
                lines.push("exists -".to_string());
                print(event, &lines);
                return Ok(now);
            }
            EventKind::Start(snapshot) => {
                let mut lines = Vec::new();
                for name in told.names().iter().filter(|name| snapshot.resource(name).is_none()) {
                    lines.extend(told.gone(name));
                }
                for resource in chosen(snapshot, object) {
                    lines.extend(told.change(resource));
                }
                print(event, &lines);
            }
            EventKind::Skipped(count) => print(event, &[format!("- skipped {count}")]),
            EventKind::State { resource, .. } | EventKind::Resource(resource)
                if wanted(&resource.name)
                    && told.resource(&resource.name).is_none_or(|old| old.revision < resource.revision) =>
            {
                print(event, &told.change(resource));
            }
            EventKind::ResourceDeleted { name } if wanted(name) => {
                print(event, &told.gone(name));
            }
            EventKind::Helper { resource, volume, helper, status } if wanted(resource) => {
                let has_peer = told.resource(resource).is_some_and(|r| r.connection.addresses.is_some());
                // A wait status; the text has the exit code.
                let exit = status.map(|status| status >> 8 & 0xff);
                let line = events2::helper(resource, *volume, has_peer, helper, exit);
                print(event, &[line]);
            }
            _ => {}
        }
        Ok(false)
    })
}
