//! The short answers about one minor: `role`, `cstate`, `dstate`, `status` (8.3) and `sh-status`.
//! spec/drbdsetup.md 5.1 to 5.3, 6.5.

use super::snapshot::{Resource, Volume};
use crate::core::state::{Conn, Disk, StateWord};
use std::fmt::Write;

/// What [`role`], [`cstate`], [`dstate`] print about a minor without disk and connection.
const UNCONFIGURED: &str = "Unconfigured";

/// 8.3's "Unconfigured": StandAlone and Diskless, whatever the role. spec/drbdsetup.md 5.
fn is_unconfigured(state: &StateWord) -> bool {
    state.conn == Conn::StandAlone && state.disk == Disk::Diskless
}

fn or_unconfigured(state: &StateWord, text: String) -> String {
    if is_unconfigured(state) {
        UNCONFIGURED.to_string()
    } else {
        text
    }
}

/// `Primary/Secondary`.
pub fn role(state: &StateWord) -> String {
    or_unconfigured(state, state.roles())
}

/// `Connected`.
pub fn cstate(state: &StateWord) -> String {
    or_unconfigured(state, state.conn.name().to_string())
}

/// `UpToDate/UpToDate`.
pub fn dstate(state: &StateWord) -> String {
    or_unconfigured(state, state.disks())
}

/// `47.5` of 475 permille.
pub fn percent(permille: u32) -> String {
    format!("{}.{}", permille / 10, permille % 10)
}

impl Volume {
    /// What 8.3's `status` and `sh-status` call resynced: the permille while a resync or verify
    /// runs or is paused and a disk is attached. spec/drbdsetup.md 5.2.
    pub fn resynced_permille_83(&self) -> Option<u32> {
        let running = (Conn::SyncSource..=Conn::PausedSyncT).contains(&self.state.conn);
        if running && self.backing.is_some() {
            self.permille()
        } else {
            None
        }
    }
}

/// One minor as 8.3's queries see it; `None` as state: the minor does not exist.
#[derive(Debug, Clone, Copy)]
pub struct Minor83<'a> {
    /// N of /dev/drbdN.
    pub minor: u32,
    /// `DRBD_RESOURCE`.
    pub name: Option<&'a str>,
    /// The state word.
    pub state: Option<StateWord>,
    /// [`Volume::resynced_permille_83`].
    pub permille: Option<u32>,
}

/// 8.3's `status`: one line like XML. spec/drbdsetup.md 5.2.
pub fn status_83(of: &Minor83) -> String {
    let minor = of.minor;
    let name = of.name.map(|n| format!(" name=\"{n}\"")).unwrap_or_default();
    let Some(state) = of.state else {
        return format!("<!-- resource minor=\"{minor}\"{name} not available or not yet created -->");
    };
    if is_unconfigured(&state) {
        return format!("<resource minor=\"{minor}\"{name} cs=\"Unconfigured\" />");
    }
    let mut out = format!(
        "<resource minor=\"{minor}\"{name} cs=\"{}\" ro1=\"{}\" ro2=\"{}\" ds1=\"{}\" ds2=\"{}\"",
        state.conn, state.role, state.peer, state.disk, state.pdsk
    );
    for (set, word) in [
        (state.susp, " suspended"),
        (state.aftr_isp, " aftr_isp"),
        (state.peer_isp, " peer_isp"),
        (state.user_isp, " user_isp"),
    ] {
        if set {
            out.push_str(word);
        }
    }
    if let Some(permille) = of.permille {
        let _ = write!(out, " resynced_percent=\"{}\"", percent(permille));
    }
    out.push_str(" />");
    out
}

/// Shell-escapes a name: a backslash before everything that is not known to be harmless.
pub fn shell_escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if !(c.is_ascii_alphanumeric() || "%+./:=@_-".contains(c)) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The lines from `_cstate` to `_pdsk` and the flags, then the end of a block.
fn sh_state(state: &StateWord, permille: Option<u32>) -> String {
    let flag = |set: bool| if set { "1" } else { "" };
    format!(
        "\n_cstate={}\n_role={}\n_peer={}\n_disk={}\n_pdsk={}\n\n\
         _flags_susp={}\n_flags_aftr_isp={}\n_flags_peer_isp={}\n_flags_user_isp={}\n\n\
         _resynced_percent={}\n\n_sh_status_process\n\n\n",
        state.conn,
        state.role,
        state.peer,
        state.disk,
        state.pdsk,
        flag(state.susp),
        flag(state.aftr_isp),
        flag(state.peer_isp),
        flag(state.user_isp),
        permille.map(percent).unwrap_or_default(),
    )
}

/// The rest of a block without a state.
const SH_UNCONFIGURED: &str = "\n_cstate=Unconfigured\n_role=\n_peer=\n_disk=\n_pdsk=\n\
    _flags_susp=\n_flags_aftr_isp=\n_flags_peer_isp=\n_flags_user_isp=\n\
    _resynced_percent=\n\n_sh_status_process\n\n\n";

/// `_known=` of a minor that does not exist.
const NOT_AVAILABLE: &str = "NA # not available or not yet created";

/// 8.3's `sh-status`. spec/drbdsetup.md 5.3.
pub fn sh_status_83(of: &Minor83) -> String {
    let name = of.name.map_or_else(|| "UNKNOWN".to_string(), shell_escape);
    let (known, rest) = match of.state {
        None => (NOT_AVAILABLE, SH_UNCONFIGURED.to_string()),
        Some(state) if is_unconfigured(&state) => (UNCONFIGURED, SH_UNCONFIGURED.to_string()),
        Some(state) => ("Configured", sh_state(&state, of.permille)),
    };
    format!("_minor={}\n_res_name={name}\n_known={known}\n{rest}", of.minor)
}

/// 8.4's `sh-status` of one volume. spec/drbdsetup.md 6.5.
pub fn sh_status_84(resource: &Resource, volume: &Volume) -> String {
    let (known, rest) = if volume.state.is_unconfigured() {
        (UNCONFIGURED, SH_UNCONFIGURED.to_string())
    } else {
        ("Configured", sh_state(&volume.state, volume.permille_84()))
    };
    format!(
        "_minor={}\n_res_name={}\n_volume={}\n_known={known}\n{rest}",
        volume.minor,
        shell_escape(&resource.name),
        volume.number
    )
}

/// 8.4's `sh-status` where there is no volume: of a resource without one (`minor` is then
/// 4294967295, a quirk that is kept), or of a minor that does not exist.
pub fn sh_status_84_none(minor: u32, resource: &str) -> String {
    format!(
        "_minor={minor}\n_res_name={}\n_volume=-1\n_known={NOT_AVAILABLE}\n{SH_UNCONFIGURED}",
        shell_escape(resource)
    )
}
