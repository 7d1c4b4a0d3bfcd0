//! What this program was built from.

/// Own release.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

const TIME: &str = match option_env!("DRBDBOX_COMMIT_TIME") {
    Some(time) => time,
    None => "1970-01-01 00:00:00",
};

/// The day of the commit, as `2026-01-31`.
pub fn date() -> &'static str {
    TIME.split(' ').next().unwrap_or(TIME)
}

/// `GIT-hash: ...`: the form of the original's line is parsed, the content is ours. spec/decisions.md 2.1.
pub fn tag() -> String {
    let commit = option_env!("DRBDBOX_COMMIT").unwrap_or("0000000000000000000000000000000000000000");
    format!("GIT-hash: {commit} build by drbdbox@{RELEASE}, {TIME}")
}
