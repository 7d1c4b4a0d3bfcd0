#!/bin/bash
# make test-lab: drbdbox against the DRBD module of a Linux kernel, in a virtual machine that is its peer.
# Usage: run.sh [--list | --short] [SCENARIO[:VERSION,...]...]; without names all of scenarios/, with --short those that matter
# most, in 7 to 15 minutes. The machine is emulated: no KVM is needed, but root, qemu, and a Debian mirror for the first run
# (setup.sh). Ends with a table: situation, role of the kernel, protocol versions.
# Exit status 0: all held; 77: not possible here, the last line says why.
# Environment: DRBDBOX=the binary to test (target/release/drbdbox). LAB_PROGRAMS=where the programs are that only run in the
# machine (target/release/lab). LAB_VERBOSE=1 shows what the scenarios do.
# VERSIONS="86 101": protocol versions for the scenarios that go through several, whatever stands behind their names.
# LAB_KEEP=DIRECTORY: logs and captures go there.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/sbin:/sbin
# With --short: each kind of situation once, the oldest, the newest and a version between them.
SHORT="full-sync versions:86,94,101 reconnect:101 crash:101 interrupted:95 split-brain:101 diskless:101 verify:97 dual-primary:101 trim cable:101 crossing:101"

# A daemon that was killed as Primary has left a loop device, which only another one with the same RUNDIR would take away.
doors_end() {
	local record kind number mark
	for record in "$WORK"/run/doors/minor-*; do
		[ -e "$record" ] || continue
		read -r kind number mark _ <"$record"
		[ "$kind" = loop ] || continue
		! grep -q -F "$mark" "/sys/block/loop$number/loop/backing_file" 2>/dev/null || losetup --detach "/dev/loop$number"
	done
}

# Outside: is it possible? Then once more in name spaces of its own; what is left in them ends with them.
if [ -z "${LAB_INSIDE:-}" ]; then
	skip() {
		echo "SKIPPED: the lab with the kernel's DRBD: $*"
		exit 77
	}
	if [ "${1:-}" = --list ]; then
		cd "$HERE/scenarios" && for file in *.sh; do printf '%-24s %s\n' "${file%.sh}" "$(sed -n '1s/^# *//p' "$file")"; done
		exit 0
	fi
	if [ "${1:-}" = --short ]; then
		shift
		# shellcheck disable=SC2086 # words
		set -- $SHORT "$@"
	fi
	for scenario in "${@%%:*}"; do
		[ -e "$HERE/scenarios/$scenario.sh" ] || { echo "no scenario $scenario: run.sh --list prints them" >&2; exit 2; }
	done
	[ "$(uname -m)" = x86_64 ] || skip "the machine is for x86_64, this host is $(uname -m)"
	[ "$(id -u)" -eq 0 ] || skip "not root"
	for pair in qemu-system-x86_64:qemu-system-x86 ip:iproute2 fio:fio perl:perl-base unshare:util-linux losetup:mount; do
		type -P "${pair%:*}" >/dev/null || skip "no ${pair%:*} (Debian package ${pair#*:})"
	done
	[ -c /dev/net/tun ] || skip "no /dev/net/tun"
	[ -c /dev/fuse ] || skip "no /dev/fuse"
	unshare --net --uts --mount --pid --fork true 2>/dev/null || skip "this machine does not let root make name spaces"
	DRBDBOX=$(realpath "${DRBDBOX:-$HERE/../../target/release/drbdbox}")
	[ -x "$DRBDBOX" ] || { echo "no program at $DRBDBOX: make builds it" >&2; exit 1; }
	LAB_PROGRAMS=$(realpath -m "${LAB_PROGRAMS:-$HERE/../../target/release/lab}")
	WORK=$(mktemp -d /tmp/drbdbox-lab.XXXXXX) || exit 1
	inside=
	leave() {
		if [ -n "$inside" ]; then
			{ kill -9 "$inside" && wait "$inside"; } 2>/dev/null
			echo "STOPPED in the middle; the last that was done:"
			tail -n 40 "$WORK/output"
		fi
		doors_end
		rm -rf "$WORK"
	}
	trap leave EXIT
	trap 'exit 143' TERM HUP INT
	IMAGE=$("$HERE/setup.sh" 2>"$WORK/setup") || {
		status=$?
		[ $status -ne 77 ] || skip "$(tail -n 1 "$WORK/setup")"
		cat "$WORK/setup" >&2
		exit 1
	}
	LAB_INSIDE=1 IMAGE=$IMAGE WORK=$WORK DRBDBOX=$DRBDBOX LAB_PROGRAMS=$LAB_PROGRAMS \
		unshare --net --uts --mount --pid --fork --kill-child --mount-proc "${BASH_SOURCE[0]}" "$@" &
	inside=$!
	wait $inside
	status=$?
	inside=
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
DECODER=
! type -P tshark dumpcap >/dev/null || DECODER=yes

# What neither side's log may have, but for lines that match PLANTED of the scenario.
COMPLAINTS='unexpected|bogus|assert|digest|barrierack|short read|error receiving|unknown packet|magic'

# complaints FILE PLANTED
complaints() { grep -a -i -E "drbd.*($COMPLAINTS)|panicked at|BUG:|Oops:|Call Trace:" "$1" | grep -a -v -i -E "${2:-^\$}" | sort | uniq -c | head -n 20; }

# Frames that Wireshark's own dissector calls malformed. It does not know that P_SYNC_PARAM and P_SIZES were shorter before
# protocol version 95: it says that of two kernels, too.
malformed() {
	tshark -n -r "$1" --enable-heuristic drbd_tcp -Y _ws.malformed 2>/dev/null | grep -v -E '\[P_SYNC_PARAM\]|\[P_SIZES\]' | head -n 20
}

# packets CAPTURE: a line a frame, "SENDER [PACKET] ...".
packets() {
	tshark -n -r "$1" --enable-heuristic drbd_tcp -Y drbd 2>/dev/null |
		sed -n 's/^.* 10\.99\.0\.1 → [^[]*\(\[.*\)/kernel \1/p; s/^.* 10\.99\.0\.2 → [^[]*\(\[.*\)/box \1/p'
}

# check SCENARIO CAPTURED: the logs, and the capture if there is one.
check() {
	local found planted passes
	planted=$(sed -n 's/^# planted: //p' "$HERE/scenarios/$1.sh")
	found=$(complaints "$WORK/share/kernel.log" "$planted")
	[ -z "$found" ] || { echo "FAILED: the kernel complains:"; echo "$found"; return 1; }
	found=$(complaints "$WORK/log.all" "$planted")
	[ -z "$found" ] || { echo "FAILED: drbdbox complains:"; echo "$found"; return 1; }
	[ -n "$2" ] || return 0
	[ "$(tshark -n -r "$WORK/capture" --enable-heuristic drbd_tcp -Y drbd -c 100 2>/dev/null | wc -l)" -gt 10 ] ||
		{ echo "FAILED: tshark finds no DRBD in the capture"; return 1; }
	found=$(malformed "$WORK/capture")
	[ -z "$found" ] || { echo "FAILED: malformed packets:"; echo "$found"; return 1; }
	# What has to be there: a scenario's header "# passes: SENDER:PACKET ...".
	passes=$(sed -n 's/^# passes: //p' "$HERE/scenarios/$1.sh")
	[ -z "$passes" ] || packets "$WORK/capture" >"$WORK/packets"
	for found in $passes; do
		grep -q "^${found%:*} .*\[${found#*:}\]" "$WORK/packets" || { echo "FAILED: ${found%:*} sent no ${found#*:}"; return 1; }
	done
}

[ $# -gt 0 ] || set -- $(cd "$HERE/scenarios" && ls | sed 's/\.sh$//')
results=()
failed=0
: >"$WORK/table.all"
chosen=${VERSIONS:-}
for choice in "$@"; do
	scenario=${choice%%:*}
	VERSIONS=$chosen
	[ -n "$chosen" ] || [ "$choice" = "$scenario" ] || VERSIONS=$(tr , ' ' <<<"${choice#*:}")
	file=$HERE/scenarios/$scenario.sh
	echo "=== $scenario: $(sed -n '1s/^# *//p' "$file")"
	started=$SECONDS
	rm -rf "$WORK"/{share,log,log.all,capture,table,kernel.img}
	mkdir "$WORK/share"
	truncate -s 16M "$WORK/kernel.img"
	: >"$WORK/log"
	: >"$WORK/log.all"
	: >"$WORK/table"
	: >"$WORK/share/kernel.log"
	# The scenario before may have failed while it was out.
	ip link set cable up
	capturer=
	# A scenario without a peer in the kernel says so in its header.
	if [ -n "$DECODER" ] && ! grep -q '^# traffic: none$' "$file"; then
		dumpcap -q -i cable -P -w "$WORK/capture" >"$WORK/dumpcap" 2>&1 &
		capturer=$!
	fi
	(
		# shellcheck source=lib.sh
		. "$HERE/lib.sh"
		trap 'daemon_stop; doors_end; machine_stop' EXIT
		machine
		# shellcheck disable=SC1090
		. "$file"
		situation
	) >"$WORK/output" 2>&1
	status=$?
	if [ -n "$capturer" ]; then
		kill -INT "$capturer"
		wait "$capturer"
	fi
	cat "$WORK/log" >>"$WORK/log.all"
	checked=
	if [ $status -eq 0 ]; then
		checked=$(check "$scenario" "$capturer") || status=1
	fi
	if [ $status -ne 0 ] || [ -n "${LAB_VERBOSE:-}" ]; then
		cat "$WORK/output"
		[ -z "$checked" ] || echo "$checked"
	else
		grep '^equal: ' "$WORK/output"
	fi
	if [ -n "${LAB_KEEP:-}" ]; then
		mkdir -p "$LAB_KEEP/$scenario"
		cp "$WORK"/{output,log.all,table} "$WORK/share/kernel.log" "$LAB_KEEP/$scenario/"
		[ -z "$capturer" ] || cp "$WORK/capture" "$LAB_KEEP/$scenario/capture.pcap"
	fi
	cat "$WORK/table" >>"$WORK/table.all"
	if [ $status -eq 0 ]; then
		results+=("passed  $scenario, $((SECONDS - started)) s")
	else
		results+=("FAILED  $scenario, status $status, $((SECONDS - started)) s")
		failed=$((failed + 1))
	fi
done

# situation, role, version, result: one line a situation and role, with all versions.
echo
awk -F'|' '
	BEGIN { print "| situation | the kernel is | protocol versions that passed | failed |"; print "| --- | --- | --- | --- |" }
	{ key = $1 " | " $2 }
	!(key in seen) { seen[key]; order[++n] = key }
	# A scenario may come to it more than once.
	$4 == "passed" { if (!index(passed[key] " ", " " $3 " ")) passed[key] = passed[key] " " $3; next }
	{ bad[key] = bad[key] " " $3 }
	END { for (i = 1; i <= n; i++) print "| " order[i] " |" passed[order[i]] " |" bad[order[i]] " |" }' "$WORK/table.all"
[ -n "$DECODER" ] || echo "The traffic was not decoded: no tshark (Debian package tshark)."
printf '%s\n' "" "${results[@]}" "$((${#results[@]} - failed)) passed, $failed failed"
[ $failed -eq 0 ]
