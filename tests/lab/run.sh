#!/bin/bash
# make test-lab: drbdbox against the DRBD module of a Linux kernel, in a virtual machine that is its peer.
# Usage: run.sh [SCENARIO...]; without names all of scenarios/. The machine is emulated: no KVM is needed, but root, qemu, and
# a Debian mirror for the first run (setup.sh). Ends with a table. Exit status 0: all held; 77: not possible here.
# Environment: DRBDBOX=the binary to test (target/release/drbdbox). LAB_VERBOSE=1 shows what the scenarios do.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/sbin:/sbin

# Outside: is it possible? Then once more in name spaces of its own; what is left in them ends with them.
if [ -z "${LAB_INSIDE:-}" ]; then
	skip() {
		echo "SKIPPED: the lab with the kernel's DRBD: $*"
		exit 77
	}
	[ "$(id -u)" -eq 0 ] || skip "not root"
	for pair in qemu-system-x86_64:qemu-system-x86 ip:iproute2 fio:fio unshare:util-linux losetup:util-linux; do
		type -P "${pair%:*}" >/dev/null || skip "no ${pair%:*} (Debian package ${pair#*:})"
	done
	[ -c /dev/net/tun ] || skip "no /dev/net/tun"
	[ -c /dev/fuse ] || skip "no /dev/fuse"
	unshare --net --uts --mount --pid --fork true 2>/dev/null || skip "this machine does not let root make name spaces"
	DRBDBOX=$(realpath "${DRBDBOX:-$HERE/../../target/release/drbdbox}")
	[ -x "$DRBDBOX" ] || { echo "no program at $DRBDBOX: make builds it" >&2; exit 1; }
	IMAGE=$("$HERE/setup.sh") || { [ $? -eq 77 ] && skip "see above"; exit 1; }
	WORK=$(mktemp -d /tmp/drbdbox-lab.XXXXXX) || exit 1
	trap 'rm -rf "$WORK"' EXIT
	trap 'exit 143' TERM HUP INT
	LAB_INSIDE=1 IMAGE=$IMAGE WORK=$WORK DRBDBOX=$DRBDBOX \
		unshare --net --uts --mount --pid --fork --kill-child --mount-proc "${BASH_SOURCE[0]}" "$@"
	status=$?
	# A daemon that was killed has left its loop device.
	losetup --list --noheadings --output NAME,BACK-FILE | awk -v work="$WORK/" 'index($2, work) == 1 { print $1 }' |
		xargs -r losetup --detach
	exit $status
fi

hostname box
ip link set lo up
ip tuntap add dev cable mode tap && ip addr add 10.99.0.2/24 dev cable && ip link set cable up || exit 1
mkdir -p "$WORK"/{bin,dev,run,lib,lock,share}
for name in drbdadm drbdsetup drbdmeta drbdd; do
	ln -s "$DRBDBOX" "$WORK/bin/$name"
done
PATH=$WORK/bin:$PATH
truncate -s 16M "$WORK/kernel.img"

[ $# -gt 0 ] || set -- $(cd "$HERE/scenarios" && ls | sed 's/\.sh$//')
results=()
failed=0
for scenario in "$@"; do
	file=$HERE/scenarios/$scenario.sh
	echo "=== $scenario: $(sed -n '1s/^# *//p' "$file")"
	started=$SECONDS
	(
		# shellcheck source=lib.sh
		. "$HERE/lib.sh"
		trap 'daemon_stop; machine_kill' EXIT
		machine
		# shellcheck disable=SC1090
		. "$file"
	) >"$WORK/output" 2>&1
	status=$?
	if [ $status -ne 0 ] || [ -n "${LAB_VERBOSE:-}" ]; then
		cat "$WORK/output"
	else
		grep '^equal: ' "$WORK/output"
	fi
	if [ $status -eq 0 ]; then
		results+=("passed  $scenario, $((SECONDS - started)) s")
	else
		results+=("FAILED  $scenario, status $status, $((SECONDS - started)) s")
		failed=$((failed + 1))
	fi
done
printf '%s\n' "" "${results[@]}" "$((${#results[@]} - failed)) passed, $failed failed"
[ $failed -eq 0 ]
