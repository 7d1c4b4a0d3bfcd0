#!/bin/bash
# build.sh [ARCHITECTURE]: the static musl binary where rustup's musl target cannot be fetched, from Debian's packages: rustc
# with the source of its library (rust-src), and musl (musl-tools), in a root directory made by debootstrap. Nothing of the host
# is used but root, debootstrap, a Debian mirror, and cargo for the sources of the crates. ARCHITECTURE: x86_64 (default), i686.
# Prints the path of the binary at the end; beside it is, with TESTS=1, the unit tests' binary "unit-tests".
#
# Environment: MUSL_ROOT=where it is made (target/musl-chroot). SUITE=trixie, or a later one: its rustc must be 1.85 or newer.
# MIRROR=http://deb.debian.org/debian. Exit status 77: it cannot be made here; stderr says why.

set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
architecture=${1:-x86_64}
base=${MUSL_ROOT:-$top/target/musl-chroot}
suite=${SUITE:-trixie}
mirror=${MIRROR:-http://deb.debian.org/debian}
cargo=${CARGO:-$(command -v cargo || echo "$HOME/.cargo/bin/cargo")}
PATH=$PATH:/usr/sbin:/sbin

impossible() {
	echo "no musl binary can be built here: $*" >&2
	exit 77
}
[ "$(id -u)" -eq 0 ] || impossible "not root"
[ "$(uname -m)" = x86_64 ] || impossible "the host is $(uname -m), not x86_64"
command -v debootstrap >/dev/null || impossible "no debootstrap (Debian package debootstrap)"
[ -x "$cargo" ] || impossible "no cargo, which fetches the sources of the crates"
packages=cargo,rustc,rust-src,musl-tools,gcc,libc6-dev
case $architecture in
x86_64) debian=amd64 ;;
i686) debian=i386 ;;
*) impossible "unknown architecture $architecture" ;;
esac
target=$architecture-unknown-linux-musl

# --- the root directory ----------------------------------------------------------------------------------------------

mkdir -p "$base"
base=$(cd "$base" && pwd)
root=$base/$suite-$debian
if [ ! -e "$root/complete" ]; then
	# What debootstrap leaves mounted when it is interrupted must not be removed from outside.
	for mounted in proc sys dev/pts dev; do
		! mountpoint -q "$root/$mounted" || umount "$root/$mounted"
	done
	rm -rf --one-file-system "$root"
	debootstrap --variant=minbase --arch="$debian" --include="$packages" "$suite" "$root" "$mirror" >"$base/debootstrap.log" 2>&1 ||
		impossible "debootstrap failed: $(tail -n 1 "$base/debootstrap.log") ($base/debootstrap.log)"
	touch "$root/complete"
fi

# --- what is missing for musl ----------------------------------------------------------------------------------------

# Rust's standard library for musl wants a libunwind.a. That of gcc does, which in turn asks the C library where an object in
# memory has its tables for unwinding. musl cannot say, but lists the objects.
mkdir -p "$root/build/lib"
cat >"$root/build/dl_find_object.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>

struct wanted { ElfW(Addr) address; struct dl_find_object *result; };

static int look(struct dl_phdr_info *object, size_t size, void *data)
{
	struct wanted *wanted = data;
	ElfW(Addr) tables = 0;
	int found = 0;
	(void)size;
	for (int i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &object->dlpi_phdr[i];
		ElfW(Addr) start = object->dlpi_addr + part->p_vaddr;
		if (part->p_type == PT_GNU_EH_FRAME)
			tables = start;
		if (part->p_type == PT_LOAD && wanted->address >= start && wanted->address - start < part->p_memsz) {
			found = 1;
			wanted->result->dlfo_map_start = (void *)start;
			wanted->result->dlfo_map_end = (void *)(start + part->p_memsz);
		}
	}
	wanted->result->dlfo_eh_frame = (void *)tables;
	return found && tables;
}

int _dl_find_object(void *address, struct dl_find_object *result)
{
	struct wanted wanted = { (ElfW(Addr))address, result };
	__builtin_memset(result, 0, sizeof(*result));
	return dl_iterate_phdr(look, &wanted) ? 0 : -1;
}
C
in_root() {
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/build LC_ALL=C.UTF-8 CARGO_HOME=/build/cargo RUSTC_BOOTSTRAP=1 \
		"${exported[@]}" chroot "$root" /bin/sh -c "$1"
}
exported=()
in_root 'cd /build && gcc -c -O2 -o dl_find_object.o dl_find_object.c && ar rcs lib/libdlfindobject.a dl_find_object.o'
echo 'INPUT(-lgcc_eh -ldlfindobject)' >"$root/build/lib/libunwind.a"

# --- the sources -----------------------------------------------------------------------------------------------------

rm -rf "$root/build/source" "$root/build/vendor"
mkdir -p "$root/build/source" "$root/build/cargo"
(cd "$top" && tar -cf - --exclude=./target --exclude=./.git --exclude=./fuzz/target .) | tar -xf - -C "$root/build/source"
library=$root/usr/lib/rustlib/src/rust/library
[ -e "$library/Cargo.lock" ] || library=$(echo "$root"/usr/src/rustc-*/library)
RUSTC_BOOTSTRAP=1 "$cargo" vendor --quiet --locked --manifest-path "$top/Cargo.toml" --sync "$library/sysroot/Cargo.toml" "$root/build/vendor" \
	>"$base/vendor.log" 2>&1 || impossible "the crates cannot be fetched: $(tail -n 1 "$base/vendor.log")"
cat >"$root/build/cargo/config.toml" <<'TOML'
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "/build/vendor"
TOML

# --- the binary ------------------------------------------------------------------------------------------------------

flags="-C target-feature=+crt-static -C linker=musl-gcc -C link-self-contained=no -L native=/build/lib"
for name in DRBDBOX_SYSCONFDIR DRBDBOX_LOCALSTATEDIR DRBDBOX_COMMIT DRBDBOX_COMMIT_TIME; do
	[ -z "${!name:-}" ] || exported+=("$name=${!name}")
done
exported+=("RUSTFLAGS=$flags" CARGO_TARGET_DIR=/build/target)
# Crates that only tests use may say that they want a newer rustc.
options="--offline --ignore-rust-version --release --target $target"
in_root "cd /build/source && cargo build $options -Z build-std=std,panic_abort --bin drbdbox"
output=$root/build/target/$target/release
result=$base/$target
mkdir -p "$result"
cp "$output/drbdbox" "$result/"
if [ -n "${TESTS:-}" ]; then
	# The release aborts at a panic; tests unwind, and so must the library that they are built with.
	exported+=(CARGO_PROFILE_RELEASE_PANIC=unwind CARGO_PROFILE_RELEASE_LTO=thin CARGO_PROFILE_RELEASE_CODEGEN_UNITS=4)
	in_root "cd /build/source && cargo test $options -Z build-std=std,panic_unwind --lib --no-run --message-format=json-render-diagnostics" |
		sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1 >"$base/unit-tests.path"
	cp "$root$(cat "$base/unit-tests.path")" "$result/unit-tests"
fi
echo "$result/drbdbox"
