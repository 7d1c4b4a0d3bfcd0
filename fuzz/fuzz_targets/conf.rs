#![no_main]

#[path = "../../tests/support/core_node.rs"]
mod core_node;
#[path = "../../tests/support/fuzz_targets.rs"]
mod fuzz_targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::conf(data));
