//! The functions that `make fuzz` calls, with every input of `tests/vectors/corpus`: what the fuzzer once found
//! stays found, without the fuzzer.

#[allow(dead_code)]
#[path = "support/core_node.rs"]
mod core_node;
#[path = "support/fuzz_targets.rs"]
mod fuzz_targets;

use std::path::Path;

#[test]
fn every_input_of_the_corpus_is_survived() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/corpus");
    for (name, run) in fuzz_targets::TARGETS {
        let mut inputs = 0;
        for entry in std::fs::read_dir(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}")) {
            let path = entry.expect("entry").path();
            // Printed only if the test fails.
            println!("{}", path.display());
            run(&std::fs::read(&path).expect("input"));
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no input");
    }
}
