#!/bin/bash
# tests/musl-chroot.sh [ARCHITECTURE]: builds the musl binary from Debian's packages alone (packaging/musl/build.sh), tells its
# size, runs the unit tests that are built in the same way, and the release with only the system calls of Linux 2.6.18.
# Environment: that of build.sh. FLOOR=the program kernel-floor. Exit status 77: not possible here.

set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
architecture=${1:-x86_64}
floor=${FLOOR:-$top/target/debug/examples/kernel-floor}
cargo=${CARGO:-$(command -v cargo || echo "$HOME/.cargo/bin/cargo")}
fail() {
	echo "FAILED: $*" >&2
	exit 1
}

log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
TESTS=1 "$top/packaging/musl/build.sh" "$architecture" 2>&1 | tee "$log" | grep -v '^ *Compiling'
status=${PIPESTATUS[0]}
[ "$status" -eq 0 ] || { [ "$status" -eq 77 ] && exit 77; fail "the build ends with status $status"; }
binary=$(tail -n 1 "$log")

# Static, without the GNU C library, small.
! grep -q -e ld-linux -e ld-musl "$binary" || fail "$binary wants a loader"
! grep -q 'The futex facility returned an unexpected error code' "$binary" || fail "$binary has parts of the GNU C library"
size=$(stat -c %s "$binary")
printf '%s: %d bytes, %d.%02d MiB\n' "$architecture" "$size" $((size >> 20)) $(((size & 0xfffff) * 100 >> 20))
[ "$size" -lt $((4 << 20)) ] || fail "more than 4 MiB"
"$binary" --version || fail "--version"

(cd "$top" && "${binary%/*}/unit-tests" --quiet) || fail "the unit tests"
# What offsets and sizes of a 32-bit program may break.
(cd "$top" && DRBDMETA_TESTED=$binary "$cargo" test --quiet --test drbdmeta_vectors) || fail "drbdmeta"
[ -n "${FLOOR:-}" ] || (cd "$top" && "$cargo" build --quiet --example kernel-floor)
if [ "$architecture" = x86_64 ] && [ -x "$floor" ]; then
	DRBDBOX=$binary UNDER=$floor "$top/tests/hosts/demo-user.sh" >"$log" 2>&1
	status=$?
	[ $status -eq 0 ] || { cat "$log"; [ $status -eq 77 ] && echo "the floor test is not possible" || fail "the floor test"; }
	[ $status -ne 0 ] || echo "with the system calls of Linux 2.6.18: $(tail -n 1 "$log")"
else
	echo "not run with the system calls of Linux 2.6.18: kernel-floor is for x86_64, and is not at $floor or not for this binary"
	DRBDBOX=$binary "$top/tests/hosts/demo-user.sh" >"$log" 2>&1
	status=$?
	[ $status -eq 0 ] || { cat "$log"; [ $status -eq 77 ] && echo "two daemons are not possible" || fail "two daemons"; }
	[ $status -ne 0 ] || echo "two daemons: $(tail -n 1 "$log")"
fi
