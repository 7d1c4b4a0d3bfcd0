//! Typed settings by row of the option table: defaults, set, get. spec/decisions.md 3.4.

use super::model::{Global, UsageCount};
use super::options::{self, OptionRow, Scope, Section};
use super::settings::{
    AfterSplitBrain, DiskSettings, Fencing, NetSettings, OnCongestion, OnIoError, OnNoData, Protocol,
    ReadBalancing, ResourceSettings, RrConflict,
};
use super::value::Value;
use super::Dialect;
use thiserror::Error;

/// A value that does not belong into a setting. Values that [`OptionRow::parse`] made always do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingError {
    /// The option belongs to another object.
    #[error("{0} is no such setting")]
    Unknown(String),
    /// The value is of another type, or outside what the setting can hold.
    #[error("{name}: {value:?} does not fit")]
    Unfit {
        /// Name of the option.
        name: String,
        /// What was offered.
        value: Value,
    },
}

/// A field of a settings struct that can be set from a [`Value`] and read back.
trait Field: Sized {
    fn from_value(value: &Value) -> Option<Self>;
    fn to_value(&self) -> Value;
}

macro_rules! number_field {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    Value::Number(number) => Self::try_from(*number).ok(),
                    _ => None,
                }
            }
            fn to_value(&self) -> Value {
                Value::Number(i64::try_from(*self).unwrap_or(i64::MAX))
            }
        }
    )*};
}
number_field!(u32, u64, i32);

impl Field for bool {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        }
    }
    fn to_value(&self) -> Value {
        Value::Flag(*self)
    }
}

impl Field for String {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
    fn to_value(&self) -> Value {
        Value::Text(self.clone())
    }
}

/// Variants and the numbers of their words in the option table.
macro_rules! choice_field {
    ($type:ident { $($variant:ident = $number:literal),* $(,)? }) => {
        impl Field for $type {
            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    $(Value::Choice($number) => Some($type::$variant),)*
                    _ => None,
                }
            }
            fn to_value(&self) -> Value {
                match self {
                    $($type::$variant => Value::Choice($number),)*
                }
            }
        }
    };
}
choice_field!(OnIoError { PassOn = 0, CallLocalIoError = 1, Detach = 2 });
choice_field!(Fencing { DontCare = 0, ResourceOnly = 1, ResourceAndStonith = 2 });
choice_field!(OnNoData { IoError = 0, SuspendIo = 1 });
choice_field!(Protocol { A = 1, B = 2, C = 3 });
choice_field!(RrConflict { Disconnect = 0, CallPriLost = 9, Violently = 10 });
choice_field!(OnCongestion { Block = 0, PullAhead = 1, Disconnect = 2 });
choice_field!(UsageCount { Yes = 0, No = 1, Ask = 2 });
choice_field!(AfterSplitBrain {
    Disconnect = 0,
    DiscardYoungerPrimary = 1,
    DiscardOlderPrimary = 2,
    DiscardZeroChanges = 3,
    DiscardLeastChanges = 4,
    DiscardLocal = 5,
    DiscardRemote = 6,
    Consensus = 7,
    DiscardSecondary = 8,
    CallPriLostAfterSb = 9,
    Violently = 10,
});

/// Number of the word `32K-striping`; each following one doubles the stripe up to 1 MiB.
const STRIPING_FIRST: u8 = 5;

impl Field for ReadBalancing {
    fn from_value(value: &Value) -> Option<Self> {
        let Value::Choice(number) = value else {
            return None;
        };
        Some(match number {
            0 => ReadBalancing::PreferLocal,
            1 => ReadBalancing::PreferRemote,
            2 => ReadBalancing::RoundRobin,
            3 => ReadBalancing::LeastPending,
            4 => ReadBalancing::WhenCongestedRemote,
            5..=10 => ReadBalancing::Striping { kib: 32 << (number - STRIPING_FIRST) },
            _ => return None,
        })
    }
    fn to_value(&self) -> Value {
        Value::Choice(match self {
            ReadBalancing::PreferLocal => 0,
            ReadBalancing::PreferRemote => 1,
            ReadBalancing::RoundRobin => 2,
            ReadBalancing::LeastPending => 3,
            ReadBalancing::WhenCongestedRemote => 4,
            ReadBalancing::Striping { kib } => {
                let doubled = (kib / 32).max(1).ilog2().min(5);
                STRIPING_FIRST + doubled as u8
            }
        })
    }
}

/// Ties option names to fields, once for set and get.
macro_rules! access {
    ($settings:ident, $section:expr, { $($name:literal => $field:ident),* $(,)? }) => {
        impl $settings {
            /// Sets the field of a table row. Rows without effect (`use-bmbv`) are accepted.
            ///
            /// # Errors
            /// The row belongs elsewhere, or the value is not of its type.
            pub fn set(&mut self, row: &OptionRow, value: &Value) -> Result<(), SettingError> {
                match row.name {
                    $($name => match Field::from_value(value) {
                        Some(new) => self.$field = new,
                        None => return Err(SettingError::Unfit {
                            name: row.name.to_string(),
                            value: value.clone(),
                        }),
                    },)*
                    _ if row.section == $section && row.scope == Scope::Historic => {}
                    _ => return Err(SettingError::Unknown(row.name.to_string())),
                }
                Ok(())
            }

            /// The value of the option with this (8.4) name; none: not one of these settings.
            pub fn get(&self, name: &str) -> Option<Value> {
                match name {
                    $($name => Some(Field::to_value(&self.$field)),)*
                    _ => None,
                }
            }

            /// Sets every option for which `which` holds to the default of `dialect`.
            pub fn reset(&mut self, dialect: Dialect, which: impl Fn(&OptionRow) -> bool) {
                for row in options::all() {
                    if row.section == $section && which(row) {
                        // A default always fits: the table's own test checks it.
                        let _ = self.set(row, &row.default_value(dialect));
                    }
                }
            }
        }
    };
}

access!(DiskSettings, Section::Disk, {
    "size" => size,
    "max-bio-bvecs" => max_bio_bvecs,
    "on-io-error" => on_io_error,
    "fencing" => fencing,
    "disk-barrier" => disk_barrier,
    "disk-flushes" => disk_flushes,
    "disk-drain" => disk_drain,
    "md-flushes" => md_flushes,
    "resync-rate" => resync_rate,
    "resync-after" => resync_after,
    "al-extents" => al_extents,
    "al-updates" => al_updates,
    "discard-zeroes-if-aligned" => discard_zeroes_if_aligned,
    "disable-write-same" => disable_write_same,
    "c-plan-ahead" => c_plan_ahead,
    "c-delay-target" => c_delay_target,
    "c-fill-target" => c_fill_target,
    "c-max-rate" => c_max_rate,
    "c-min-rate" => c_min_rate,
    "disk-timeout" => disk_timeout,
    "read-balancing" => read_balancing,
    "rs-discard-granularity" => rs_discard_granularity,
});

access!(NetSettings, Section::Net, {
    "tentative" => tentative,
    "discard-my-data" => discard_my_data,
    "protocol" => protocol,
    "timeout" => timeout,
    "max-epoch-size" => max_epoch_size,
    "max-buffers" => max_buffers,
    "unplug-watermark" => unplug_watermark,
    "connect-int" => connect_int,
    "ping-int" => ping_int,
    "sndbuf-size" => sndbuf_size,
    "rcvbuf-size" => rcvbuf_size,
    "ko-count" => ko_count,
    "allow-two-primaries" => allow_two_primaries,
    "cram-hmac-alg" => cram_hmac_alg,
    "shared-secret" => shared_secret,
    "after-sb-0pri" => after_sb_0pri,
    "after-sb-1pri" => after_sb_1pri,
    "after-sb-2pri" => after_sb_2pri,
    "always-asbp" => always_asbp,
    "rr-conflict" => rr_conflict,
    "ping-timeout" => ping_timeout,
    "data-integrity-alg" => data_integrity_alg,
    "tcp-cork" => tcp_cork,
    "on-congestion" => on_congestion,
    "congestion-fill" => congestion_fill,
    "congestion-extents" => congestion_extents,
    "csums-alg" => csums_alg,
    "csums-after-crash-only" => csums_after_crash_only,
    "verify-alg" => verify_alg,
    "use-rle" => use_rle,
    "socket-check-timeout" => socket_check_timeout,
});

access!(ResourceSettings, Section::Options, {
    "cpu-mask" => cpu_mask,
    "on-no-data-accessible" => on_no_data_accessible,
});

access!(Global, Section::Global, {
    "disable-ip-verification" => disable_ip_verification,
    "minor-count" => minor_count,
    "dialog-refresh" => dialog_refresh,
    "usage-count" => usage_count,
    "cmd-timeout-short" => cmd_timeout_short,
    "cmd-timeout-medium" => cmd_timeout_medium,
    "cmd-timeout-long" => cmd_timeout_long,
    "udev-always-use-vnr" => udev_always_use_vnr,
});

impl Default for Global {
    fn default() -> Self {
        let mut made = Global {
            disable_ip_verification: false,
            minor_count: 0,
            dialog_refresh: 0,
            usage_count: UsageCount::Ask,
            cmd_timeout_short: 0,
            cmd_timeout_medium: 0,
            cmd_timeout_long: 0,
            udev_always_use_vnr: false,
        };
        // Both dialects have the same defaults here.
        made.reset(Dialect::V83, |_| true);
        made
    }
}

impl DiskSettings {
    /// What holds when a command of `dialect` configures a disk and says nothing.
    pub fn defaults(dialect: Dialect) -> Self {
        let mut made = DiskSettings {
            size: 0,
            max_bio_bvecs: 0,
            on_io_error: OnIoError::Detach,
            fencing: Fencing::DontCare,
            disk_barrier: false,
            disk_flushes: false,
            disk_drain: false,
            md_flushes: false,
            resync_rate: 0,
            resync_after: 0,
            al_extents: 0,
            al_updates: false,
            discard_zeroes_if_aligned: false,
            disable_write_same: false,
            c_plan_ahead: 0,
            c_delay_target: 0,
            c_fill_target: 0,
            c_max_rate: 0,
            c_min_rate: 0,
            disk_timeout: 0,
            read_balancing: ReadBalancing::PreferLocal,
            rs_discard_granularity: 0,
        };
        made.reset(dialect, |_| true);
        made
    }
}

impl NetSettings {
    /// What holds when a command of `dialect` configures a connection and says nothing.
    pub fn defaults(dialect: Dialect) -> Self {
        let mut made = NetSettings {
            protocol: Protocol::C,
            timeout: 0,
            max_epoch_size: 0,
            max_buffers: 0,
            unplug_watermark: 0,
            connect_int: 0,
            ping_int: 0,
            sndbuf_size: 0,
            rcvbuf_size: 0,
            ko_count: 0,
            ping_timeout: 0,
            allow_two_primaries: false,
            always_asbp: false,
            tcp_cork: false,
            use_rle: false,
            csums_after_crash_only: false,
            cram_hmac_alg: String::new(),
            shared_secret: String::new(),
            data_integrity_alg: String::new(),
            csums_alg: String::new(),
            verify_alg: String::new(),
            after_sb_0pri: AfterSplitBrain::Disconnect,
            after_sb_1pri: AfterSplitBrain::Disconnect,
            after_sb_2pri: AfterSplitBrain::Disconnect,
            rr_conflict: RrConflict::Disconnect,
            on_congestion: OnCongestion::Block,
            congestion_fill: 0,
            congestion_extents: 0,
            socket_check_timeout: 0,
            discard_my_data: false,
            tentative: false,
        };
        made.reset(dialect, |_| true);
        made
    }
}

impl ResourceSettings {
    /// What holds when a command of `dialect` makes a resource and says nothing.
    pub fn defaults(dialect: Dialect) -> Self {
        let mut made = ResourceSettings { cpu_mask: String::new(), on_no_data_accessible: OnNoData::IoError };
        made.reset(dialect, |_| true);
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row that configures something running reaches a field, with its default in both
    /// dialects and with every word of an enumeration.
    #[test]
    fn every_row_reaches_its_field() {
        for dialect in [Dialect::V83, Dialect::V84] {
            let mut disk = DiskSettings::defaults(dialect);
            let mut net = NetSettings::defaults(dialect);
            let mut resource = ResourceSettings::defaults(dialect);
            let mut global = Global::default();
            for row in options::all() {
                let of_file = row.scope == Scope::FileOnly && row.section != Section::Global;
                if of_file || row.scope == Scope::Historic {
                    continue;
                }
                let mut values = vec![row.default_value(dialect)];
                let got = match row.section {
                    Section::Disk => disk.get(row.name),
                    Section::Net => net.get(row.name),
                    Section::Global => global.get(row.name),
                    _ => resource.get(row.name),
                };
                assert_eq!(got.as_ref(), Some(&values[0]), "{}", row.name);
                if let options::Kind::Choice(words) = row.kind {
                    values.extend(words.iter().map(|w| Value::Choice(w.number)));
                }
                for value in values {
                    let back = match row.section {
                        Section::Disk => disk.set(row, &value).map(|()| disk.get(row.name)),
                        Section::Net => net.set(row, &value).map(|()| net.get(row.name)),
                        Section::Global => global.set(row, &value).map(|()| global.get(row.name)),
                        _ => resource.set(row, &value).map(|()| resource.get(row.name)),
                    };
                    assert_eq!(back, Ok(Some(value)), "{}", row.name);
                }
            }
        }
    }

    #[test]
    fn defaults_differ_where_the_dialects_do() {
        let old = DiskSettings::defaults(Dialect::V83);
        let new = DiskSettings::defaults(Dialect::V84);
        assert_eq!((old.on_io_error, new.on_io_error), (OnIoError::PassOn, OnIoError::Detach));
        assert_eq!((old.al_extents, new.al_extents), (127, 1237));
        assert_eq!((old.disk_barrier, new.disk_barrier), (true, false));
        assert_eq!((old.c_plan_ahead, new.c_plan_ahead), (0, 20));
        let old = NetSettings::defaults(Dialect::V83);
        let new = NetSettings::defaults(Dialect::V84);
        assert_eq!((old.ko_count, new.ko_count), (0, 7));
        assert_eq!((old.use_rle, new.use_rle), (false, true));
    }

    #[test]
    fn foreign_rows_are_refused() {
        let mut net = NetSettings::defaults(Dialect::V84);
        let size = options::find("size").expect("a known option");
        assert!(net.set(size, &Value::Number(1)).is_err());
    }
}
