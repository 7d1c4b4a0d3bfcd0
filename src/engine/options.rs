//! Changes to settings as commands bring them: defaults, values, checks.
//! spec/decisions.md 3.4, spec/drbdsetup.md 3.2 and 6.2.

use crate::conf::options::{self, Section};
use crate::conf::settings::{DiskSettings, Fencing, NetSettings, OnCongestion, Protocol, ResourceSettings};
use crate::conf::Dialect;
use crate::control::message::{Reply, SettingChange};
use crate::core::codes::ConfigCode;
use crate::wire::Digest;

/// All settings that a command may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Of the volume.
    pub disk: DiskSettings,
    /// Of the connection.
    pub net: NetSettings,
    /// Of the resource.
    pub resource: ResourceSettings,
}

/// Which settings a command starts from the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// None.
    Nothing,
    /// Those of a section of 8.4, in this dialect's defaults; in 8.3's commands only those
    /// that 8.3 has in the command of that name.
    Section(Section, Dialect),
}

impl Settings {
    /// What holds before any command of `dialect`.
    pub fn defaults(dialect: Dialect) -> Settings {
        Settings {
            disk: DiskSettings::defaults(dialect),
            net: NetSettings::defaults(dialect),
            resource: ResourceSettings::defaults(dialect),
        }
    }

    /// Sets what a command starts from.
    pub fn reset(&mut self, reset: Reset) {
        let Reset::Section(section, dialect) = reset else { return };
        let belongs = |row: &options::OptionRow| match dialect {
            Dialect::V84 => row.section == section,
            Dialect::V83 => row.old.is_some_and(|old| old.section == section),
        };
        self.disk.reset(dialect, belongs);
        self.net.reset(dialect, belongs);
        self.resource.reset(dialect, belongs);
    }

    /// Applies what the command says.
    ///
    /// # Errors
    /// The reply: an option that is not known, or of the wrong type.
    pub fn apply(&mut self, changes: &[SettingChange]) -> Result<(), Reply> {
        for change in changes {
            let row = options::find(&change.option)
                .ok_or_else(|| Reply::with_info(ConfigCode::MandatoryTag, change.option.clone()))?;
            let result = match row.section {
                Section::Disk => self.disk.set(row, &change.value),
                Section::Net => self.net.set(row, &change.value),
                _ => self.resource.set(row, &change.value),
            };
            result.map_err(|error| Reply::with_info(ConfigCode::MandatoryTag, error.to_string()))?;
        }
        if self.disk.resync_rate < 1 {
            self.disk.resync_rate = 1;
        }
        if self.disk.al_extents < 7 {
            self.disk.al_extents = 127;
        }
        Ok(())
    }
}

/// The combinations that `net`, `connect` and `net-options` refuse.
///
/// # Errors
/// 139, 154, 155, 123 in the order of the dialect.
pub fn check_net(
    net: &NetSettings,
    fencing: Fencing,
    primary: bool,
    form: Dialect,
) -> Result<(), ConfigCode> {
    let stonith = net.protocol == Protocol::A && fencing == Fencing::ResourceAndStonith;
    let congestion = net.on_congestion != OnCongestion::Block && net.protocol != Protocol::A;
    let discard = primary && net.discard_my_data;
    if net.allow_two_primaries && net.protocol != Protocol::C {
        return Err(ConfigCode::NotProtoC);
    }
    if stonith {
        return Err(ConfigCode::StonithAndProtoA);
    }
    let (first, second) =
        ((congestion, ConfigCode::CongestionNotProtoA), (discard, ConfigCode::DiscardImpossible));
    let order = match form {
        Dialect::V83 => [first, second],
        Dialect::V84 => [second, first],
    };
    match order.into_iter().find(|(refused, _)| *refused) {
        Some((_, code)) => Err(code),
        None => Ok(()),
    }
}

/// The digests that `net`, `connect` and `net-options` name must exist.
///
/// # Errors
/// 120, 121, 141, 142, 144, 146.
pub fn check_algorithms(net: &NetSettings, form: Dialect) -> Result<(), ConfigCode> {
    let unknown = |name: &str| !name.is_empty() && Digest::by_name(name).is_none();
    let hmac = if unknown(&net.cram_hmac_alg) {
        Err(ConfigCode::AuthAlgUnknown)
    } else if Digest::by_name(&net.cram_hmac_alg) == Some(Digest::Crc32c) {
        Err(ConfigCode::AuthAlgNotDigest)
    } else {
        Ok(())
    };
    let known = |name: &str, code| if unknown(name) { Err(code) } else { Ok(()) };
    let integrity = known(&net.data_integrity_alg, ConfigCode::IntegrityAlgUnknown);
    let csums = known(&net.csums_alg, ConfigCode::CsumsAlgUnknown);
    let verify = known(&net.verify_alg, ConfigCode::VerifyAlgUnknown);
    match form {
        Dialect::V83 => hmac.and(integrity).and(csums).and(verify),
        Dialect::V84 => csums.and(verify).and(integrity).and(hmac),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::value::Value;

    fn change(option: &str, value: Value) -> SettingChange {
        SettingChange { option: option.into(), value }
    }

    #[test]
    fn a_command_of_8_3_resets_only_its_own_options() {
        let mut settings = Settings::defaults(Dialect::V83);
        let changes = [
            change("resync-rate", Value::Number(10240)),
            change("verify-alg", Value::Text("md5".into())),
            change("on-io-error", Value::Choice(2)),
            change("ping-int", Value::Number(3)),
        ];
        settings.apply(&changes).unwrap();
        settings.reset(Reset::Section(Section::Disk, Dialect::V83));
        settings.reset(Reset::Section(Section::Net, Dialect::V83));
        assert_eq!(settings.disk.resync_rate, 10240, "belongs to syncer");
        assert_eq!(settings.net.verify_alg, "md5", "belongs to syncer");
        let defaults = Settings::defaults(Dialect::V83);
        assert_eq!(settings.disk.on_io_error, defaults.disk.on_io_error);
        assert_eq!(settings.net.ping_int, defaults.net.ping_int);
        settings.reset(Reset::Section(Section::Syncer, Dialect::V83));
        assert_eq!(settings, defaults);
    }

    #[test]
    fn combinations_are_refused_in_the_order_of_the_dialect() {
        let mut net = NetSettings::defaults(Dialect::V84);
        net.on_congestion = OnCongestion::PullAhead;
        net.discard_my_data = true;
        let check = |net: &NetSettings, form| check_net(net, Fencing::DontCare, true, form);
        assert_eq!(check(&net, Dialect::V83), Err(ConfigCode::CongestionNotProtoA));
        assert_eq!(check(&net, Dialect::V84), Err(ConfigCode::DiscardImpossible));
        net.protocol = Protocol::B;
        net.allow_two_primaries = true;
        assert_eq!(check(&net, Dialect::V84), Err(ConfigCode::NotProtoC));
    }

    #[test]
    fn algorithms_must_exist() {
        let mut net = NetSettings::defaults(Dialect::V84);
        assert_eq!(check_algorithms(&net, Dialect::V84), Ok(()));
        net.cram_hmac_alg = "crc32c".into();
        assert_eq!(check_algorithms(&net, Dialect::V83), Err(ConfigCode::AuthAlgNotDigest));
        net.csums_alg = "rot13".into();
        assert_eq!(check_algorithms(&net, Dialect::V84), Err(ConfigCode::CsumsAlgUnknown));
    }

    #[test]
    fn unknown_options_are_refused() {
        let mut settings = Settings::defaults(Dialect::V84);
        for bad in [change("no-such-option", Value::Flag(true)), change("ping-int", Value::Flag(true))] {
            let reply = settings.apply(&[bad]).unwrap_err();
            assert!(matches!(reply, Reply::Code { code: 126, .. }));
        }
    }
}
