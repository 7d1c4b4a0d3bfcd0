//! `get-gi` and `show-gi`: the generation UUIDs and flags of the meta data. spec/drbdsetup.md 5.4.

use super::snapshot::Backing;

/// Flags in the order in which they are printed; numbers of spec/state.md 13.1.
const CONSISTENT: u32 = 1;
const PRIMARY: u32 = 2;
const CONNECTED: u32 = 4;
const FULL_SYNC: u32 = 8;
const WAS_UP_TO_DATE: u32 = 16;
const PEER_OUTDATED: u32 = 32;
const CRASHED_PRIMARY: u32 = 64;

const PRINTED: [u32; 7] =
    [CONSISTENT, WAS_UP_TO_DATE, PRIMARY, CONNECTED, FULL_SYNC, PEER_OUTDATED, CRASHED_PRIMARY];

const HEAD: &str = "
       +--<  Current data generation UUID  >-
       |               +--<  Bitmap's base data generation UUID  >-
       |               |                 +--<  younger history UUID  >-
       |               |                 |         +-<  older history  >-
       V               V                 V         V
";

const LEGEND: &str = "                                                                    ^ ^ ^ ^ ^ ^ ^
                                      -<  Data consistency flag  >--+ | | | | | |
                             -<  Data was/is currently up-to-date  >--+ | | | | |
                                  -<  Node was/is currently primary  >--+ | | | |
                                  -<  Node was/is currently connected  >--+ | | |
         -<  Node was in the progress of setting all bits in the bitmap  >--+ | |
                        -<  The peer's disk was out-dated or inconsistent  >--+ |
      -<  This node was a crashed primary, and has not seen its peer since   >--+
";

/// `get-gi`: one line with its newline.
pub fn get_gi(uuids: [u64; 4], flags: u32) -> String {
    let uuids: Vec<String> = uuids.iter().map(|u| format!("{u:016X}")).collect();
    let bits: Vec<&str> = PRINTED.iter().map(|&flag| if flags & flag != 0 { "1" } else { "0" }).collect();
    format!("{}:{}\n", uuids.join(":"), bits.join(":"))
}

/// `show-gi` of 8.3.
pub fn show_gi(uuids: [u64; 4], flags: u32) -> String {
    let has = |flag: u32| flags & flag != 0;
    let disk = match (has(CONSISTENT), has(WAS_UP_TO_DATE)) {
        (false, _) => "Inconsistent",
        (true, false) => "Outdated",
        (true, true) => "UpToDate",
    };
    format!(
        "{HEAD}{}{LEGEND}\nflags:{} {}, {}, {disk}{}{}\n",
        get_gi(uuids, flags),
        if has(CRASHED_PRIMARY) { " crashed" } else { "" },
        if has(PRIMARY) { "Primary" } else { "Secondary" },
        if has(CONNECTED) { "Connected" } else { "StandAlone" },
        if has(FULL_SYNC) { ", need full sync" } else { "" },
        if has(PEER_OUTDATED) { ", peer Outdated" } else { "" },
    )
}

/// `show-gi` of 8.4: says in addition that the activity log may hold something, which it always
/// may while the disk is attached.
pub fn show_gi_84(backing: &Backing) -> String {
    show_gi(backing.uuids, backing.md_flags) + "meta-data: need apply-al\n"
}
