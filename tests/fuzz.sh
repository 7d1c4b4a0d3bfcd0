#!/bin/bash
# make fuzz: runs each target of fuzz/ for FUZZ_SECONDS (60). FUZZ_TARGETS="core packets" runs those only.
# Exit status 0: nothing was found. 77: it cannot run here, and why is printed. Else something was found: the input is in
# fuzz/artifacts/TARGET. Put it into tests/vectors/corpus/TARGET, where `cargo test --test corpus` runs it from then on.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
CARGO=${CARGO:-cargo}
type -P "$CARGO" >/dev/null || CARGO=$HOME/.cargo/bin/cargo
seconds=${FUZZ_SECONDS:-60}

cannot() {
	echo "make fuzz: $1" >&2
	exit 77
}

[[ $seconds =~ ^[0-9]+$ ]] || { echo "make fuzz: FUZZ_SECONDS=$seconds is not a number" >&2; exit 1; }
"$CARGO" fuzz --version >/dev/null 2>&1 || cannot "needs cargo-fuzz: cargo install cargo-fuzz"
"$CARGO" +nightly --version >/dev/null 2>&1 ||
	cannot "needs a nightly toolchain of Rust (libFuzzer's instrumentation): rustup toolchain install nightly"

targets=${FUZZ_TARGETS:-$(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"|\1|p' fuzz/Cargo.toml)}
found=()
for target in $targets; do
	if [ ! -e "fuzz/fuzz_targets/$target.rs" ]; then
		echo "make fuzz: there is no target $target in fuzz/fuzz_targets" >&2
		exit 1
	fi
	mkdir -p "fuzz/corpus/$target"
	echo "=== $target, $seconds s"
	"$CARGO" +nightly fuzz run "$target" "fuzz/corpus/$target" "tests/vectors/corpus/$target" -- \
		-max_total_time="$seconds" -timeout=20 -rss_limit_mb=1500 -max_len=4096 -print_final_stats=1 || found+=("$target")
done
for target in "${found[@]}"; do
	echo "FAILED: $target; see fuzz/artifacts/$target" >&2
done
[ ${#found[@]} -eq 0 ]
