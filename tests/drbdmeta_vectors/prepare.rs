//! Brings a device into the state that a case begins with.

use super::bench::Bench;
use super::case::{self, unhex, Case, Image, Step};
use nix::fcntl::{fcntl, FcntlArg};
use std::os::unix::fs::OpenOptionsExt;

fn create(bench: &Bench, line: &str) {
    let outcome = bench.call(line);
    assert_eq!(outcome.exit, 0, "{line}: {}", outcome.stderr);
}

/// Where the super block of internal meta data is.
pub fn super_block_at(bench: &Bench) -> u64 {
    bench.size() / 4096 * 4096 - 4096
}

/// Follows a sentence of `initial:`. `Err`: why the case cannot be replayed.
pub fn initial(case: &Case, bench: &Bench) -> Result<(), String> {
    let text = case.initial.as_str();
    if text.contains("v09") {
        return Err("v09 is recognized instead of overwritten without a question".into());
    }
    if text.starts_with("file /var/lib/drbd/drbd0 of 24 bytes: gc 7 2 3 4 5, magic") {
        let bytes = unhex("000000070000000200000003000000040000000583740269");
        std::fs::write(bench.counters_file(), bytes).expect("counters");
        return Ok(());
    }
    if let Some(content) = &case.dump_file {
        std::fs::write(bench.path("dump.txt"), content).expect("dump file");
    }
    if let Some(patches) = text.strip_prefix("zero except ") {
        for patch in patches.split(", ") {
            let (bytes, offset) = patch.split_once(" at byte 0x").expect("form of a patch");
            let offset = u64::from_str_radix(offset, 16).expect("offset of a patch");
            bench.write(offset, &unhex(bytes));
        }
    } else if text == "ext3 signature, 16384 blocks of 4 KiB" {
        bench.write(0x404, &[0, 0x40]);
        bench.write(0x418, &[2]);
        bench.write(0x438, &[0x53, 0xef]);
        bench.write(0x45c, &[4]);
    } else if let Some(line) = text.strip_prefix("after: drbdmeta ") {
        if line.contains("v07") {
            v07(bench, line);
        } else {
            create(bench, line);
        }
    } else if text.starts_with("as above") {
        grown(case, bench, text)?;
    } else if text.starts_with("create-md by 9.22") {
        by_9_22(bench, text);
    } else if text.starts_with("another process") {
        create(bench, "0 v08 DEV internal create-md");
    } else if text.starts_with("create-md flex-external") {
        create(bench, "0 v08 DEV flex-external create-md");
    } else if text.starts_with("create-md internal") && case.initial_disk.is_none() {
        create(bench, "0 v08 DEV internal create-md");
        if text.contains("la-size-sect") {
            bitmap_for_dump(bench, text);
        }
    } else if text != "all zero" && case.initial_disk.is_none() {
        return Err(format!("no rule for: {text}"));
    }
    if let Some(image) = &case.initial_disk {
        bench.load(image);
    }
    if case.title.starts_with("check-resize on valid meta data") {
        create(bench, "--force 0 v08 DEV internal set-gi 6F1B3A2C4D5E6F70:0:1:2:1:1:0:0:0:0:0");
    }
    if let Some(record) = &case.initial_record {
        let device = bench.device().display().to_string();
        std::fs::write(bench.record(), record.replace("DEV", &device)).expect("record");
    }
    Ok(())
}

/// Meta data of 0.7, as its create-md writes it.
fn v07(bench: &Bench, line: &str) {
    let (offset, fields) = if line.contains("flex-internal") {
        (super_block_at(bench), "00000028ffffffc000000101ffffffb8".to_string())
    } else {
        (bench.size() - 134_217_728, "00020000000000080000010100000048".to_string())
    };
    bench.write(
        offset,
        &unhex(&format!("000000000000000000000000000000010000000100000001000000018374026a{fields}")),
    );
}

/// The first case of the file, grown or shrunk.
fn grown(case: &Case, bench: &Bench, text: &str) -> Result<(), String> {
    let first = &case::read(&case.file)[0];
    bench.resize(104_857_600).expect("resize");
    bench.load(first.initial_disk.as_ref().expect("image of the first case"));
    if text.contains("shrunk to 32 MiB") {
        bench.resize(33_554_432).expect("resize");
    }
    let record = first.initial_record.as_ref().expect("record");
    let device = bench.device().display().to_string();
    let mut record = record.replace("DEV", &device);
    if text.contains("lkbd file says") {
        record = record.replace("0123456789ABCDEF", "FFFF000011112222");
    }
    std::fs::write(bench.record(), record).expect("record");
    Ok(())
}

/// Meta data as 9.22 or 8.3.16 creates it, with the flags and magic that the text names.
pub fn by_9_22(bench: &Bench, text: &str) {
    create(bench, "0 v08 DEV internal create-md");
    let at = super_block_at(bench);
    bench.write(at, &unhex("00000000003fff386f1b3a2c4d5e6f71"));
    let flags = text.split("flags 0x").nth(1).expect("flags");
    bench.write(at + 59, &unhex(&flags[..2]));
    bench.write(at + 72, &unhex("0000007f"));
    if text.starts_with("create-md by 9.22") {
        bench.write(at + 88, &unhex("0000000100000008"));
    }
    if text.contains("magic 0x8374026c") {
        bench.write(at + 63, &[0x6c]);
    }
}

/// Bits and fields of the dump cases.
fn bitmap_for_dump(bench: &Bench, text: &str) {
    let at = super_block_at(bench);
    let number = |start: &str| -> u64 {
        let rest = text.split(start).nth(1).expect("number");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("number")
    };
    let mut la_size = number("la-size-sect ");
    let bm_offset = i32::from_be_bytes(bench.read(at + 76, 4).try_into().expect("four bytes"));
    let bitmap_at = at.wrapping_add_signed(i64::from(bm_offset) * 512);
    if text.contains("all bits set except bit 2000000") {
        // The note of the case names the size that was used.
        la_size = 20_970_808;
        let bits = la_size.div_ceil(8);
        let mut bytes = vec![0xff; (bits / 8) as usize];
        bytes.push((1 << (bits % 8)) - 1);
        bytes[250_000] = 0xfe;
        bench.write(bitmap_at, &bytes);
    } else {
        let list = text.split('[').nth(1).expect("ranges").replace(['(', ')'], "");
        let numbers: Vec<u64> = list
            .split(']')
            .next()
            .expect("ranges")
            .split(", ")
            .filter_map(|number| number.parse().ok())
            .collect();
        let mut bytes = vec![0u8; 4096];
        for range in numbers.chunks(2) {
            for bit in range[0]..range[1] {
                bytes[(bit / 8) as usize] |= 1 << (bit % 8);
            }
        }
        bench.write(bitmap_at, &bytes);
    }
    bench.write(at, &la_size.to_be_bytes());
    bench.write(at + 8, &unhex("6F1B3A2C4D5E6F7111223344556677880102030405060708F0E0D0C0B0A09080"));
    bench.write(at + 59, &[0x91]);
}

/// Does what a note says that happened between two steps.
pub fn follow_note(case: &Case, bench: &Bench, note: &str) {
    if let Some(rest) = note.strip_prefix("device now ") {
        let bytes = rest.split(' ').next().expect("size").parse().expect("size");
        bench.resize(bytes).expect("resize");
    } else if note == "lkbd file removed" {
        std::fs::remove_file(bench.record()).expect("record");
    } else if let Some(rest) = note.strip_prefix("lkbd file set to ") {
        let size = rest.split(' ').next().expect("size");
        std::fs::write(bench.record(), format!("{size}\t/dev/foo\n")).expect("record");
    } else if note == "file removed" {
        std::fs::remove_file(bench.counters_file()).expect("counters");
    } else if let Some(hex) = note.strip_prefix("file now: ") {
        assert_eq!(std::fs::read(bench.counters_file()).expect("counters"), unhex(hex), "{}", case.title);
    } else if let Some(hex) = note.strip_prefix("magic changed to ") {
        let mut bytes = std::fs::read(bench.counters_file()).expect("counters");
        bytes[20..].copy_from_slice(&unhex(hex));
        std::fs::write(bench.counters_file(), bytes).expect("counters");
    }
}

/// Takes out of both images what is known to differ on purpose.
pub fn forgive(case: &Case, step: &Step, expected: &mut Image, found: &mut Image) {
    let by_8_3_16 = case.title.ends_with("8.3.16");
    if by_8_3_16 && (case.file.starts_with("06") || case.file.starts_with("07")) {
        // 8.3.16's restore-md and move leave garbage in reserved fields.
        for block in expected.values_mut().chain(found.values_mut()) {
            if block[60..64] == [0x83, 0x74, 0x02, 0x6b] {
                block[48..56].fill(0);
            }
        }
    }
    if !by_8_3_16 && step.words.iter().any(|word| word == "create-md") {
        // 9.22 marks new meta data as clean; here it is as in 8.3.16.
        for block in expected.values_mut() {
            if block[60..64] == [0x83, 0x74, 0x02, 0x6b] {
                block[59] &= 0x7f;
            }
        }
    }
}

/// Claims a block device as a mount does; held while the file is open.
pub fn hold_device(bench: &Bench) -> std::fs::File {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).custom_flags(nix::libc::O_EXCL).open(bench.device()).expect("claim")
}

/// Takes the lock of minor 0 as another process would; held while the file is open.
pub fn hold_lock(bench: &Bench) -> std::fs::File {
    let file = std::fs::File::create(bench.lock_file()).expect("lock file");
    let lock = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_SETLK(&lock)).expect("lock");
    file
}
