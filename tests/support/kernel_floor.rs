//! `kernel-floor PROGRAM ARGUMENTS`: runs a program as if the kernel were Linux 2.6.18.
//!
//! System calls and options that are newer are refused as that kernel refuses them (spec/system.md 6.1, 6.2). What an old
//! kernel ignores, such as O_CLOEXEC, cannot be shown in this way, nor that the clock is a system call there.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use seccompiler::{
    apply_filter, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// The last system call of Linux 2.6.18 on x86_64, for which this program is: move_pages.
const LAST: i64 = 279;
/// Further than any kernel has come.
const END: i64 = 640;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The call is refused if this argument is as `op` says.
fn when(call: i64, argument: u8, op: SeccompCmpOp, value: u64, rules: &mut Rules) -> Result<(), String> {
    when_all(call, vec![(argument, op, value)], rules)
}

/// The call is refused if all of these arguments are as they say.
fn when_all(call: i64, arguments: Vec<(u8, SeccompCmpOp, u64)>, rules: &mut Rules) -> Result<(), String> {
    let conditions = arguments
        .into_iter()
        .map(|(argument, op, value)| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value));
    let rule = conditions.collect::<Result<_, _>>().and_then(SeccompRule::new);
    rules.entry(call).or_default().push(rule.map_err(|error| error.to_string())?);
    Ok(())
}

/// EINVAL: options of calls that exist.
fn invalid() -> Result<Rules, String> {
    let mut rules = Rules::new();
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        // SOCK_CLOEXEC, SOCK_NONBLOCK
        for bit in [0o2_000_000, 0o4_000] {
            when(call, 1, SeccompCmpOp::MaskedEq(bit), bit, &mut rules)?;
        }
    }
    when(libc::SYS_fcntl, 1, SeccompCmpOp::Ge, 1030, &mut rules)?; // F_DUPFD_CLOEXEC, pipe sizes
    when(libc::SYS_clock_gettime, 0, SeccompCmpOp::Ge, 4, &mut rules)?;
    when(libc::SYS_madvise, 2, SeccompCmpOp::Ge, 12, &mut rules)?;
    when(libc::SYS_madvise, 2, SeccompCmpOp::Eq, 8, &mut rules)?;
    when(libc::SYS_mlockall, 0, SeccompCmpOp::MaskedEq(4), 4, &mut rules)?;
    // NBD_SET_TIMEOUT, NBD_SET_FLAGS: its nbd cannot be asked for a flush.
    for request in [0xab09, 0xab0a] {
        when(libc::SYS_ioctl, 1, SeccompCmpOp::Eq, request, &mut rules)?;
    }
    // All newer ones but those that install this filter: PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS.
    for option in (17..=70).filter(|option| ![22, 38].contains(option)) {
        when(libc::SYS_prctl, 0, SeccompCmpOp::Eq, option, &mut rules)?;
    }
    Ok(rules)
}

/// ENOPROTOOPT: options of sockets, all told by their number alone, which no old option of another level has.
fn no_option() -> Result<Rules, String> {
    let mut rules = Rules::new();
    // TCP_USER_TIMEOUT (18 is SO_RCVLOWAT on the other level, which this program does not use), SO_REUSEPORT, SO_MARK
    for option in [18, 15, 36] {
        when(libc::SYS_setsockopt, 2, SeccompCmpOp::Eq, option, &mut rules)?;
    }
    when(libc::SYS_setsockopt, 2, SeccompCmpOp::Ge, 37, &mut rules)?;
    Ok(rules)
}

/// EPROTONOSUPPORT: generic netlink. That kernel has it, but without nbd, which a filter of calls cannot tell.
fn no_protocol() -> Result<Rules, String> {
    let mut rules = Rules::new();
    let is = |value: i32| (SeccompCmpOp::Eq, value as u64);
    let ((family, netlink), (protocol, generic)) = (is(libc::AF_NETLINK), is(libc::NETLINK_GENERIC));
    when_all(libc::SYS_socket, vec![(0, family, netlink), (2, protocol, generic)], &mut rules)?;
    Ok(rules)
}

/// ENOSYS: calls and operations.
fn no_call() -> Result<Rules, String> {
    let mut rules: Rules = (LAST + 1..END).map(|call| (call, Vec::new())).collect();
    // Only the operations 0 to 8, without FUTEX_PRIVATE_FLAG.
    when(libc::SYS_futex, 1, SeccompCmpOp::Ge, 9, &mut rules)?;
    Ok(rules)
}

fn compile(rules: Rules, errno: i32) -> Result<BpfProgram, String> {
    let architecture = std::env::consts::ARCH.try_into().map_err(|_| "not for this processor".to_owned())?;
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), architecture)
        .and_then(BpfProgram::try_from)
        .map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next().map(std::path::PathBuf::from) else {
        eprintln!("Usage: kernel-floor PROGRAM ARGUMENTS");
        return ExitCode::from(2);
    };
    // The last one refuses the call that installs filters.
    let filters = [
        (invalid(), libc::EINVAL),
        (no_option(), libc::ENOPROTOOPT),
        (no_protocol(), libc::EPROTONOSUPPORT),
        (no_call(), libc::ENOSYS),
    ];
    for (rules, errno) in filters {
        let applied = rules
            .and_then(|rules| compile(rules, errno))
            .and_then(|filter| apply_filter(&filter).map_err(|error| error.to_string()));
        if let Err(text) = applied {
            eprintln!("kernel-floor: {text}");
            return ExitCode::from(77);
        }
    }
    let error = Command::new(&program).args(words).exec();
    eprintln!("kernel-floor: {}: {error}", program.display());
    ExitCode::from(127)
}
