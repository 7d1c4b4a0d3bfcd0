//! The Unix socket between drbdsetup and drbdd.
