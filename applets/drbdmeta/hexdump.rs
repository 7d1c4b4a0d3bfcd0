//! `hexdump-superblock`: the bytes where the super block must be, whatever they are. A command of later releases.

use std::fmt::Write;

use super::call::{Call, Failure};
use super::disk::Disk;
use super::ui::say;
use super::EXIT_ERROR;
use drbdbox::meta::survey::read_block;

/// Bytes in a line.
const ROW: usize = 16;

/// Runs the command.
pub fn run(call: &Call) -> Result<u8, Failure> {
    let disk = Disk::open(call)?;
    show(call, &disk, disk.expected.md_offset)
}

/// Shows the block at `offset`.
pub fn show(call: &Call, disk: &Disk, offset: u64) -> Result<u8, Failure> {
    let block = read_block(disk, offset).map_err(|_| Failure::silent(EXIT_ERROR))?;
    say!("# {} bytes at byte {offset} of {}\n{}", block.len(), call.device, text(&block));
    Ok(0)
}

/// The form of `hexdump -C`: a line that is as the one before is not repeated, `*` stands for it.
fn text(block: &[u8]) -> String {
    let mut text = String::new();
    let mut before: Option<&[u8]> = None;
    let mut is_repeated = false;
    for (i, row) in block.chunks(ROW).enumerate() {
        if before == Some(row) {
            if !is_repeated {
                text += "*\n";
            }
            is_repeated = true;
            continue;
        }
        is_repeated = false;
        before = Some(row);
        let _ = write!(text, "{:08x} ", i * ROW);
        for (at, byte) in row.iter().enumerate() {
            let gap = if at == ROW / 2 { "  " } else { " " };
            let _ = write!(text, "{gap}{byte:02x}");
        }
        let shown: String = row
            .iter()
            .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
            .collect();
        let _ = writeln!(text, "  |{shown}|");
    }
    let _ = write!(text, "{:08x}", block.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_that_of_hexdump() {
        let mut block = vec![0; 64];
        block[..3].copy_from_slice(b"ab\n");
        assert_eq!(
            text(&block),
            "00000000  61 62 0a 00 00 00 00 00  00 00 00 00 00 00 00 00  |ab..............|\n\
             00000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n\
             *\n\
             00000040"
        );
    }
}
