//! The network format of DRBD, protocol versions 86 to 101.
