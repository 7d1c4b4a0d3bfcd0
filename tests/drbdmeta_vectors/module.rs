//! Super blocks that the module of 8.4.11 was given and that it left (files 12 and 13).

use super::bench::Bench;
use super::case::{self, unhex, Case, Stdin};
use super::prepare::super_block_at;
use drbdbox::meta::image::{read_super_block, read_super_block_bytes};
use drbdbox::meta::super_block::Cleanness;
use drbdbox::meta::{MetaError, MetaIndex, SuperBlock};
use drbdbox::sys::block_device::{BlockDevice, Claim, OpenMode};

/// Where this program decides otherwise than the module: part of the title, whether it attaches, why.
const OTHERWISE: &[(&str, bool, &str)] = &[
    (
        "created by drbdmeta 8.3.16: flags 0",
        true,
        "the log is replayed at attach, with and without the mark of 8.4",
    ),
    (
        "al_stripes and al_stripe_size_4k ffffffff",
        true,
        "garbage that 8.3.16's restore-md leaves; the offsets are right",
    ),
    ("al_stripes 0, al_stripe_size_4k 8", true, "as above"),
    ("al_stripes 2, al_stripe_size_4k 8", true, "as above"),
    ("bm_offset -80 instead of -72", false, "8.3 and both drbdmeta refuse it"),
    // The size is for a later step of the attach.
    ("la-size-sect 200000, consistent", true, "refused when sizes are compared"),
    ("la-size-sect 131000, consistent", true, "refused when sizes are compared"),
];

/// Rows of a super block, from the line behind `start` on.
fn block(lines: &[String], start: &str) -> Option<Vec<u8>> {
    let at = lines.iter().position(|line| line.starts_with(start))? + 1;
    let mut block = vec![0; 4096];
    for line in lines[at..].iter().take_while(|line| line.starts_with('+')) {
        let (offset, row) = line[1..].split_once(' ').expect("row");
        let offset = usize::from_str_radix(offset, 16).expect("offset");
        block[offset..offset + 32].copy_from_slice(&unhex(row));
    }
    Some(block)
}

/// Reads the block as attach does.
fn read(bench: &Bench, block: &[u8]) -> Result<SuperBlock, MetaError> {
    bench.write(super_block_at(bench), block);
    let mode = OpenMode { read_only: true, claim: Claim::None };
    let device = BlockDevice::open(&bench.device(), mode).expect("device");
    let (super_block, layout) = read_super_block(&device, MetaIndex::Internal)?;
    assert_eq!(read_super_block_bytes(&device, &layout)?[..], *block);
    Ok(super_block)
}

#[test]
fn super_blocks_that_the_module_was_given() {
    let mut compared = 0;
    for Case { title, lines, device_bytes, .. } in case::read("12-attach-by-8.4-module.txt") {
        let bench = Bench::new(device_bytes).expect("room for the device");
        let before = block(&lines, "--- super block before").expect("block");
        let attached = lines.iter().any(|line| line == "attach exit 0");
        let otherwise = OTHERWISE.iter().find(|(part, _, _)| title.contains(part));
        let expected = otherwise.map_or(attached, |(_, attaches, _)| *attaches);
        assert_eq!(read(&bench, &before).is_ok(), expected, "{title}");
        let after = block(&lines, "--- super block after").filter(|block| block.iter().any(|b| *b != 0));
        if let Some(after) = after {
            let found = read(&bench, &after).expect(&title);
            assert_eq!(found.cleanness, Cleanness::Unclean, "{title}");
            assert_eq!(found.encode()[..], after, "{title}");
            // The module's own get-gi was asked before it wrote the block.
            let words = "0 v08 DEV internal get-gi".split(' ').map(str::to_string).collect::<Vec<_>>();
            let uuids = bench.run(&words, &Stdin::Empty).stdout;
            let shown =
                lines.iter().find_map(|line| line.strip_prefix("drbdsetup get-gi: ")).expect("get-gi");
            assert_eq!(uuids[..67], shown[..67], "{title}");
        }
        compared += 1;
    }
    assert_eq!(compared, 22);
}

#[test]
fn super_blocks_of_a_pair() {
    // spec/metadata.md 2.4: flags of A and B at every step.
    let flags = [
        (0x00, 0x00),
        (0x24, 0x24),
        (0x15, 0x15),
        (0x17, 0x15),
        (0x13, 0x11),
        (0x13, 0x11),
        (0x17, 0x15),
        (0x15, 0x15),
        (0x35, 0x04),
        (0x31, 0x00),
    ];
    let cases = case::read("13-super-blocks-of-a-pair.txt");
    assert_eq!(cases.len(), flags.len());
    for (Case { title, lines, .. }, (of_a, of_b)) in cases.iter().zip(flags) {
        let bench = Bench::new(2 << 30).expect("room for the device");
        for (node, expected) in [("A", of_a), ("B", of_b)] {
            let block = block(lines, &format!("--- super block of {node}")).expect("block");
            let found = read(&bench, &block).expect(title);
            assert_eq!(found.flags.0, expected, "{title}: {node}");
            assert_eq!(found.encode()[..], block, "{title}: {node}");
        }
    }
}
