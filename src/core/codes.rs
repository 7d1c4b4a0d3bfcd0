//! Result codes: of state changes (`SS_*`, spec/state.md 2.1) and of configuration commands
//! (`ERR_*`, spec/state.md 2.2 and spec/drbdsetup.md 4.3). One table each: number and text.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How a state change succeeded. spec/state.md 2.1, codes 1 to 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(i32)]
pub enum StateSuccess {
    /// The state was changed.
    Success = 1,
    /// The state was that already.
    NothingToDo = 2,
    /// The peer agreed to the change.
    ClusterWide = 3,
    /// Asking the peer became unnecessary meanwhile: the connection is gone.
    ClusterWideNoNeed = 4,
}

impl StateSuccess {
    /// The number that commands return and P_STATE_CHG_REPLY carries.
    pub const fn code(self) -> i32 {
        self as i32
    }
}

macro_rules! state_errors {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal;)*) => {
        /// Why a state change is refused. spec/state.md 2.1, codes 0 to -21.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[repr(i32)]
        pub enum StateError {
            $($(#[$doc])* #[doc = $text] $variant = $code,)*
        }

        impl StateError {
            /// All refusals, in the order of the table.
            pub const ALL: &'static [StateError] = &[$(StateError::$variant,)*];

            /// The text that DRBD prints.
            pub const fn text(self) -> &'static str {
                match self {
                    $(StateError::$variant => $text,)*
                }
            }

            /// The refusal with this number, if there is one.
            pub const fn from_code(code: i32) -> Option<StateError> {
                match code {
                    $($code => Some(StateError::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

state_errors! {
    UnknownError = 0, "unknown error.";
    TwoPrimaries = -1, "Multiple primaries not allowed by config";
    NoUpToDateDisk = -2, "Need access to UpToDate data";
    NoLocalDisk = -4, "Can not resync without local disk";
    NoRemoteDisk = -5, "Can not resync without remote disk";
    ConnectedOutdates = -6, "Refusing to be Outdated while Connected";
    PrimaryNop = -7, "Refusing to be Primary while peer is not outdated";
    ResyncRunning = -8, "Can not start OV/resync since it is already active";
    AlreadyStandAlone = -9, "Can not disconnect a StandAlone device";
    ClusterWideFailedByPeer = -10, "State change was refused by peer node";
    IsDiskless = -11, "Device is diskless, the requested operation requires a disk";
    DeviceInUse = -12, "Device is held open by someone";
    NoNetConfig = -13, "Have no net/connection configuration";
    NoVerifyAlg = -14, "Need a verify algorithm to start online verify";
    NeedConnection = -15, "Need a connection to start verify or resync";
    LowerThanOutdated = -16, "Disk state is lower than outdated";
    NotSupported = -17, "Peer does not support protocol";
    InTransientState = -18, "In transient state, retry after next state change";
    ConcurrentStateChange = -19, "Concurrent state changes detected and aborted";
    OtherVolumePeerPrimary = -20, "Other vol primary on peer not allowed by config";
    OutdateWithoutConnection = -21, "Need a connection for a graceful disconnect/outdate peer";
}

impl StateError {
    /// The number that commands return and P_STATE_CHG_REPLY carries.
    pub const fn code(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for StateError {}

/// Outcome of a state change.
pub type StateResult = Result<StateSuccess, StateError>;

/// The number of an outcome.
pub fn state_code(result: StateResult) -> i32 {
    match result {
        Ok(success) => success.code(),
        Err(error) => error.code(),
    }
}

/// Text of a state code as logs print it: `TOO_SMALL` below the table, `TOO_LARGE` above -1,
/// `(null)` for -3, which is not in use. spec/state.md 2.1, spec/drbdsetup.md 4.2.
pub fn state_code_text(code: i32) -> &'static str {
    match StateError::from_code(code) {
        Some(error) if code < 0 => error.text(),
        _ if code >= 0 => "TOO_LARGE",
        _ if code == -3 => "(null)",
        _ => "TOO_SMALL",
    }
}

/// Name of a positive code as `events` prints it. spec/state.md 2.1.
pub fn event_code_text(code: i32) -> &'static str {
    match code {
        0 => "Unspecified error",
        1 => "State change successful",
        2 => "State change: nothing to do",
        3 => "Cluster wide state change successful",
        4 => "Cluster wide state change: nothing to do",
        101 => "No error",
        _ => state_code_text(code),
    }
}

macro_rules! config_codes {
    (@text83 both $text:literal) => { Some($text) };
    (@text83 differ $old:literal, $new:literal) => { Some($old) };
    (@text83 new $text:literal) => { None };
    (@text84 both $text:literal) => { $text };
    (@text84 differ $old:literal, $new:literal) => { $new };
    (@text84 new $text:literal) => { $text };
    ($($variant:ident = $number:literal, $kind:ident $($text:literal),+;)*) => {
        /// What a configuration command answers. spec/state.md 2.2. `NoError` is success.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[repr(i32)]
        pub enum ConfigCode {
            $(#[doc = concat!("```text\n", $($text, "\n",)+ "```")] $variant = $number,)*
        }

        impl ConfigCode {
            /// All codes, ascending.
            pub const ALL: &'static [ConfigCode] = &[$(ConfigCode::$variant,)*];

            /// Text of 8.3.16; `None`: 8.3 does not know the code.
            pub const fn text_83(self) -> Option<&'static str> {
                match self {
                    $(ConfigCode::$variant => config_codes!(@text83 $kind $($text),+),)*
                }
            }

            /// Text of 8.4.
            pub const fn text_84(self) -> &'static str {
                match self {
                    $(ConfigCode::$variant => config_codes!(@text84 $kind $($text),+),)*
                }
            }

            /// The code with this number, if there is one.
            pub const fn from_number(number: i32) -> Option<ConfigCode> {
                match number {
                    $($number => Some(ConfigCode::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

// `both`: the same text in 8.3 and 8.4; `differ`: 8.3's, 8.4's; `new`: 8.4 only. Line breaks at the
// end belong to the text.
config_codes! {
    NoError = 101, both "No further Information available.";
    LocalAddr = 102, both "Local address(port) already in use.";
    PeerAddr = 103, both "Remote address(port) already in use.";
    OpenDisk = 104, both "Can not open backing device.";
    OpenMetaDisk = 105, both "Can not open meta device.";
    LowerDevInUse = 106, both "Lower device already in use.";
    DiskNotBlockDevice = 107, both "Lower device is not a block device.";
    MetaDiskNotBlockDevice = 108, both "Meta device is not a block device.";
    OpenLowerDev = 109, both "Open of lower device failed.";
    OpenLowerMetaDev = 110, both "Open of meta device failed.";
    DiskTooSmall = 111, both "Low.dev. smaller than requested DRBD-dev. size.";
    MetaDiskTooSmall = 112, both "Meta device too small.";
    NeedDiskFirst = 113, both "You have to use the disk command first.";
    DiskClaimed = 114, both "Lower device is already claimed. This usually means it is mounted.";
    MetaDiskClaimed = 115, both "Meta device is already claimed. This usually means it is mounted.";
    MetaDiskIndexInvalid = 116, both "Lower device / meta device / index combination invalid.";
    DeviceTooLarge = 117, both "Currently we only support devices up to 3.998TB.\n(up to 2TB in case you do not have CONFIG_LBD set)\nContact office@linbit.com, if you need more.";
    MetaDataIo = 118, both "IO error(s) occurred during initial access to meta-data.\n";
    MetaDataInvalid = 119, both "No valid meta-data signature found.\n\n\t==> Use 'drbdadm create-md res' to initialize meta-data area. <==\n";
    AuthAlgUnknown = 120, both "The 'cram-hmac-alg' you specified is not known in the kernel. (Maybe you need to modprobe it, or modprobe hmac?)";
    AuthAlgNotDigest = 121, both "The 'cram-hmac-alg' you specified is not a digest.";
    NoMemory = 122, both "kmalloc() failed. Out of memory?";
    DiscardImpossible = 123, both "--discard-my-data not allowed when primary.";
    DiskConfigured = 124, both "Device is attached to a disk (use detach first)";
    NetConfigured = 125, both "Device has a net-config (use disconnect first)";
    MandatoryTag = 126, both "UnknownMandatoryTag";
    MinorInvalid = 127, both "Device minor not allocated";
    InvalidState = 128, both "Resulting device state would be invalid";
    Interrupted = 129, both "Interrupted by Signal";
    ResizeDuringResync = 130, both "Resize not allowed during resync.";
    NoPrimary = 131, both "Need one Primary node to resize.";
    SyncAfterInvalid = 132, differ "The sync-after minor number is invalid", "The resync-after minor number is invalid";
    SyncAfterCycle = 133, differ "This would cause a sync-after dependency cycle", "This would cause a resync-after dependency cycle";
    PauseIsSet = 134, both "Sync-pause flag is already set";
    PauseIsClear = 135, both "Sync-pause flag is already cleared";
    LowerThanOutdated = 136, both "Disk state is lower than outdated";
    UnknownRequest = 137, both "Kernel does not know how to handle your request.\nMaybe API_VERSION mismatch?";
    NoDisk = 138, both "Device does not have a disk-config";
    NotProtoC = 139, both "Protocol C required";
    NoMemoryBitmap = 140, both "vmalloc() failed. Out of memory?";
    IntegrityAlgUnknown = 141, both "The 'data-integrity-alg' you specified is not known in the kernel. (Maybe you need to modprobe it, or modprobe hmac?)";
    IntegrityAlgNotDigest = 142, both "The 'data-integrity-alg' you specified is not a digest.";
    CpuMaskParse = 143, both "Invalid cpu-mask.";
    CsumsAlgUnknown = 144, both "CSUMSAlgNotAvail";
    CsumsAlgNotDigest = 145, both "CSUMSAlgNotDigest";
    VerifyAlgUnknown = 146, both "VERIFYAlgNotAvail";
    VerifyAlgNotDigest = 147, both "VERIFYAlgNotDigest";
    CsumsResyncRunning = 148, both "Can not change csums-alg while resync is in progress";
    VerifyRunning = 149, both "Can not change verify-alg while online verify runs";
    DataNotCurrent = 150, both "Can only attach to the data we lost last (see kernel log).";
    Connected = 151, both "Need to be StandAlone";
    Permission = 152, both "Permission denied. CAP_SYS_ADMIN necessary";
    NeedApv93 = 153, both "Protocol version 93 required to use --assume-clean";
    StonithAndProtoA = 154, both "Fencing policy resource-and-stonith only with prot B or C allowed";
    CongestionNotProtoA = 155, both "on-congestion policy pull-ahead only with prot A allowed";
    PauseIsClearAfter = 156, differ "Sync-pause flag is already cleared.\nNote: Resync pause caused by a local sync-after dependency.", "Sync-pause flag is already cleared.\nNote: Resync pause caused by a local resync-after dependency.";
    PauseIsClearPeer = 157, both "Sync-pause flag is already cleared.\nNote: Resync pause caused by the peer node.";
    ResourceUnknown = 158, new "Unknown resource";
    ResourceInUse = 159, new "Resource still in use (delete all minors first)";
    MinorConfigured = 160, new "Minor still configured (down it first)";
    MinorExists = 161, new "Minor or volume exists already (delete it first)";
    InvalidRequest = 162, new "Invalid configuration request";
    NeedApv100 = 163, new "Prot version 100 required in order to change\nthese network options while connected";
    NeedAllowTwoPrimaries = 164, new "Can not clear allow_two_primaries as long as\nthere a primaries on both sides";
    MetaDataUnclean = 165, new "Unclean meta-data found.\nYou need to 'drbdadm apply-al res'\n";
    LayoutConnected = 166, new "DRBD need to be connected for online MD layout change\n";
    LayoutTooBig = 167, new "Resulting AL area too big\n";
    LayoutTooSmall = 168, new "Resulting AL are too small\n";
    LayoutNoFit = 169, new "Resulting AL does not fit into available meta data space\n";
    ImplicitShrink = 170, new "Implicit device shrinking not allowed. See kernel log.\n";
}

impl ConfigCode {
    /// The number in replies and messages.
    pub const fn number(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for ConfigCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text_84().trim_end())
    }
}

impl std::error::Error for ConfigCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_error_is_found_by_its_number() {
        for &error in StateError::ALL {
            assert_eq!(StateError::from_code(error.code()), Some(error));
        }
        assert_eq!(StateError::ALL.len(), 21);
        assert_eq!(StateError::from_code(-3), None);
        assert_eq!(state_code_text(-3), "(null)");
        assert_eq!(state_code_text(-22), "TOO_SMALL");
        assert_eq!(state_code_text(0), "TOO_LARGE");
        assert_eq!(state_code_text(-20), "Other vol primary on peer not allowed by config");
    }

    #[test]
    fn config_codes_run_from_101_to_170_without_gap() {
        let numbers: Vec<i32> = ConfigCode::ALL.iter().map(|c| c.number()).collect();
        assert_eq!(numbers, (101..=170).collect::<Vec<i32>>());
        for &code in ConfigCode::ALL {
            assert_eq!(ConfigCode::from_number(code.number()), Some(code));
        }
    }

    #[test]
    fn texts_of_8_3_end_at_157_and_differ_only_in_resync_after() {
        for &code in ConfigCode::ALL {
            match code.text_83() {
                None => assert!(code.number() >= 158),
                Some(old) => assert_eq!(
                    code.text_84(),
                    old.replace("sync-after", "resync-after"),
                    "code {}",
                    code.number()
                ),
            }
        }
    }
}
