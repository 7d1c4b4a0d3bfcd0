//! apply-al on logs of both formats, of which the vectors show what 9.22 makes.
//!
//! Two things differ on purpose: the classic log ends as zeroes (spec/decisions.md 6.2), and "no
//! success" is 255 as in 8.3.16.

use std::collections::BTreeMap;

use super::bench::Bench;
use super::case::{self, Case, Image, Step, BLOCK};
use super::prepare;
use drbdbox::meta::activity_log::transaction_83::Transaction83;

const SUPER_BLOCK: u64 = 2_147_479_552;
const LOG: u64 = 2_147_446_784;
const AL_CLEAN: u8 = 0x80;

fn is_of(step: &Step, command: &str) -> bool {
    step.words.iter().any(|word| word == command)
}

/// The part of what show-gi and dump-md print that 8.3.16 and 9.22 have in common; the others have texts of 9.22's own.
fn common_part<'a>(step: &Step, text: &'a str) -> Option<&'a str> {
    if is_of(step, "show-gi") {
        return text.find("meta-data:").or_else(|| text.find("last agreed")).map(|end| &text[..end]);
    }
    if is_of(step, "dump-md") {
        return text.find("# al {").map(|start| &text[start..]);
    }
    None
}

/// Marks a block of the log as torn.
fn tear(image: &mut Image, log: u64, block: u64) {
    image.entry(log + block * BLOCK as u64).or_insert_with(|| vec![0; BLOCK])[100] ^= 1;
}

/// Changes that the titles of file 09 name.
fn change_84(case: &Case, image: &mut Image) {
    let title = case.title.as_str();
    let super_block = |image: &mut Image, at: usize, bytes: &[u8]| {
        image.get_mut(&SUPER_BLOCK).expect("super block")[at..at + bytes.len()].copy_from_slice(bytes);
    };
    if title.starts_with("newest transaction (block 1)") {
        tear(image, LOG, 1);
    } else if title.starts_with("newest transaction (block 7") {
        tear(image, LOG, 7);
    } else if title.starts_with("a transaction in the middle (block 3") {
        tear(image, LOG, 3);
    } else if title.starts_with("all eight blocks torn") {
        (0..8).for_each(|block| tear(image, LOG, block));
    } else if title.starts_with("blocks 0 and 3") {
        tear(image, LOG, 0);
        tear(image, LOG, 3);
    } else if title.starts_with("only block 0") {
        tear(image, LOG, 0);
    } else if title.starts_with("activity log zeroed") {
        image.retain(|offset, _| !(LOG..SUPER_BLOCK).contains(offset));
    } else if title.starts_with("la-size-sect lowered") {
        super_block(image, 0, &100_000u64.to_be_bytes());
    } else if title.starts_with("transaction numbers renumbered") {
        for block in 0..8u32 {
            let bytes = image.get_mut(&(LOG + u64::from(block) * BLOCK as u64)).expect("block of the log");
            bytes[4..8].copy_from_slice(&0xffff_fffcu32.wrapping_add(block).to_be_bytes());
            bytes[8..12].fill(0);
            let crc = !crc32c::crc32c_append(u32::MAX, bytes);
            bytes[8..12].copy_from_slice(&crc.to_be_bytes());
        }
    }
}

/// The log of a case of file 08 that shows none: extents in the order of the text, into slots
/// from the highest down, as modules do.
fn log_83(initial: &str) -> Vec<u8> {
    let number = |start: &str| -> usize {
        let rest = initial.split(start).nth(1).expect("number");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("number")
    };
    let slots = number("activity log, ");
    let list = initial.split('[').nth(1).expect("extents");
    let list = list.split(']').next().expect("extents");
    let shown: Vec<u32> = list.split(", ").filter_map(|e| e.parse().ok()).collect();
    let extents: Vec<u32> =
        if list.contains("...") { (shown[0]..=shown[shown.len() - 1]).collect() } else { shown };
    let ring = slots.div_ceil(61) + 1;
    let mut area = vec![0; 32768];
    let mut held = vec![u32::MAX; slots];
    let mut cycle = 0;
    for (i, extent) in extents.iter().enumerate() {
        assert!(i < slots, "evictions are not needed here");
        let slot = slots - 1 - i;
        let mut transaction = Transaction83::empty(i as u32);
        transaction.entries[0] = (slot as u32, *extent);
        for k in 0..61 {
            if let Some(extent) = held.get(cycle + k) {
                transaction.entries[k + 1] = ((cycle + k) as u32, *extent);
            }
        }
        cycle = if cycle + 61 >= slots { 0 } else { cycle + 61 };
        held[slot] = *extent;
        let at = i % ring * 512;
        area[at..at + 512].copy_from_slice(&transaction.encode());
    }
    area
}

/// The device before the case.
fn initial(case: &Case, snapshots: &BTreeMap<String, Image>) -> Image {
    let last = case.steps.iter().rev().find_map(|step| step.disk.clone());
    let mut image = match &case.initial_disk {
        Some(image) => image.clone(),
        None => {
            let name = snapshot_name(case);
            let log_of = if name == "10-secondary" { "09-more" } else { &name };
            let mut image = snapshots.get(log_of).cloned().unwrap_or_default();
            if name == "10-secondary" {
                // Its own bitmap, which apply-al leaves as it is.
                let after = last.as_ref().expect("image after the case");
                image.retain(|offset, _| *offset >= LOG);
                image.extend(after.range(..LOG).map(|(at, block)| (*at, block.clone())));
            }
            image
        }
    };
    if case.initial_disk.is_some() {
        return image;
    }
    // The super block before is the one after, without what apply-al sets.
    if let Some(after) = last.as_ref().and_then(|image| image.get(&SUPER_BLOCK)) {
        let mut block = after.clone();
        block[59] &= !AL_CLEAN;
        if case.file.starts_with("09") {
            block[63] = 0x6c;
        }
        image.insert(SUPER_BLOCK, block);
    }
    if case.file.starts_with("08") {
        for (i, block) in log_83(&case.initial).chunks(BLOCK).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                image.insert(LOG + (i * BLOCK) as u64, block.to_vec());
            }
        }
        let first = image.get_mut(&LOG).expect("log");
        match case.title.as_str() {
            "newest sector torn" => first[2 * 512 + 15] ^= 1,
            "oldest sector torn" => first[504] ^= 1,
            "log all zero, Primary" => first.fill(0),
            _ => {}
        }
    }
    change_84(case, &mut image);
    image
}

fn snapshot_name(case: &Case) -> String {
    case.initial.split('"').nth(1).unwrap_or("").to_string()
}

/// What our apply-al leaves, made from what 9.22 leaves.
fn expected(after: &Image, before: &Image) -> Image {
    let mut image = after.clone();
    let block = image.get_mut(&SUPER_BLOCK).expect("super block");
    let old = &before[&SUPER_BLOCK];
    // 9.22 fills in the stripe fields; here they stay as they were.
    block[88..96].copy_from_slice(&old[88..96]);
    let stripes = u32::from_be_bytes(old[88..92].try_into().expect("four bytes"));
    let is_classic = stripes <= 1;
    if is_classic {
        image.retain(|offset, _| !(LOG..SUPER_BLOCK).contains(offset));
    }
    image
}

/// True for the cases of file 10 that this module replays.
pub fn has_own_form(case: &Case) -> bool {
    case.file.starts_with("10") && case.steps.iter().any(|step| is_of(step, "apply-al"))
}

fn replay(file: &str, at_least: usize) {
    let cases = case::read(file);
    let mut snapshots = BTreeMap::new();
    for case in &cases {
        if let Some(image) = &case.initial_disk {
            snapshots.insert(snapshot_name(case), image.clone());
        }
    }
    let mut compared = 0;
    for case in &cases {
        if case.file.starts_with("10") && !has_own_form(case) {
            continue;
        }
        let bench = Bench::new(case.device_bytes).expect("room for the device");
        let mut before = match case.initial.starts_with("create-md by") && case.initial_disk.is_none() {
            true => {
                prepare::by_9_22(&bench, &case.initial);
                bench.image(0)
            }
            false => initial(case, &snapshots),
        };
        let Some(old_super_block) = before.get(&SUPER_BLOCK).cloned() else {
            eprintln!("not replayed: {file} [{}]: no image before it", case.title);
            continue;
        };
        bench.load(&before);
        for step in &case.steps {
            let context = format!("{file} [{}]", case.title);
            if !is_of(step, "apply-al") {
                let Some(expected) = common_part(step, &step.stdout) else {
                    eprintln!("not replayed: {context} {}: texts of 9.22", step.words.join(" "));
                    continue;
                };
                let outcome = bench.run(&step.words, &step.stdin);
                assert_eq!(outcome.exit, step.exit, "{context}: {}", outcome.stderr);
                assert_eq!(common_part(step, &outcome.stdout), Some(expected), "{context}");
                compared += 1;
                continue;
            }
            if case.title.contains("are LOST") {
                lost_by_9_22(&bench, step, &context);
                compared += 1;
                continue;
            }
            let outcome = bench.run(&step.words, &step.stdin);
            assert_eq!(outcome.stdout, step.stdout, "{context}: stdout");
            assert_eq!(outcome.stderr, step.stderr, "{context}: stderr");
            let exit = if step.exit == 1 { 255 } else { step.exit };
            assert_eq!(outcome.exit, exit, "{context}: exit status");
            if let Some(after) = &step.disk {
                before.insert(SUPER_BLOCK, old_super_block.clone());
                let expected = expected(after, &before);
                let from = *expected.keys().next().expect("a block");
                let found = bench.image(from);
                assert_eq!(
                    found.keys().collect::<Vec<_>>(),
                    expected.keys().collect::<Vec<_>>(),
                    "{context}: blocks in use"
                );
                for (offset, block) in &expected {
                    assert!(found[offset] == *block, "{context}: block at {offset}");
                }
            }
            compared += 1;
        }
    }
    eprintln!("{file}: {compared} steps compared");
    assert!(compared >= at_least, "{file}: only {compared} steps compared");
}

/// spec/metadata.md 14 trap 1: what 9.22 forgets is marked here.
fn lost_by_9_22(bench: &Bench, step: &Step, context: &str) {
    let outcome = bench.run(&step.words, &step.stdin);
    assert_eq!(outcome.exit, 0, "{context}");
    assert!(
        outcome.stderr.ends_with("Marked additional 12 MB as out-of-sync based on AL.\n"),
        "{context}: {}",
        outcome.stderr
    );
}

#[test]
fn logs_of_8_3() {
    replay("08-activity-log-8.3-format.txt", 12);
}

#[test]
fn logs_of_8_4() {
    replay("09-activity-log-8.4-format.txt", 22);
}

#[test]
fn logs_of_8_3_on_disks_of_8_4() {
    replay("10-mixed-8.3-and-8.4.txt", 5);
}
