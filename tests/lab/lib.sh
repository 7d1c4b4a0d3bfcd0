# shellcheck shell=bash
# A machine with the kernel's DRBD as one node of resource r0 (10.99.0.1, host name kernel), and drbdbox on this host as the
# other (10.99.0.2, host name box). run.sh calls this file in name spaces of its own; scenarios use:
#
#   fresh [NET [DISK]]     both nodes with empty disks, attached and connected; NET and DISK go into the sections of drbd.conf
#   prepared               the same, but neither is up
#   in_sync                as fresh, and UpToDate on both sides; from version 90 on without a resync
#   kernel 'COMMAND'       shows and runs a command in the machine, with guest/functions.sh; it must succeed
#   quiet 'COMMAND'        runs it without a word; the caller looks at the status
#   box WORD...            runs drbdadm of drbdbox; it must succeed
#   box_fails WORD...      the same; it must fail
#   await 10 'COMMAND'     runs a command on this host until it succeeds, so many seconds at most
#   synced [SECONDS]       waits until both sides are Connected and UpToDate/UpToDate
#   fill FIRST COUNT SEED  writes blocks of 4 KiB on /dev/drbd0 of drbdbox; `fill` in the machine does so there
#   load SECONDS           random writes on /dev/drbd0 of drbdbox; `load` in the machine does so there
#   sum FIRST COUNT        checksum of blocks as drbdbox reads them; `sum` in the machine does so there
#   daemon / daemon_kill / daemon_stop         drbdbox's daemon
#   machine / machine_kill                     the power of the machine
#   cable out / cable in                       the network between them
#   between / between_ends                     something that forwards their connection, and changes bytes: change_passing TEXT
#   on SIDE WORD...        drbdadm of a side; until_on SIDE 'CONDITION', holds_on, fill_on, logged SIDE TEXT: the same
#   begin_write SIDE FIRST COUNT SEED   `fill` of a side goes on beside the scenario
#   still_writing          it has not ended, and its blocks are on neither disk
#   end_write              waits until it has ended well
#   answer SIDE NAME CODE  what the helper of a side (kernel, box) ends with when it is called with this name; else 0
#   not_yet SIDE NAME      it does not end before `answer`
#   called SIDE 'WORDS'    whether the helper of a side was called with these words since `fresh`
#   equal                  takes both nodes down and compares their disks, byte by byte
#   situation TEXT ROLE    a line of the table begins: it passes if nothing fails until the next; ROLE is that of the kernel
#   versions DEFAULT...    protocol versions to go through; `at VERSION` before `fresh` chooses one for both sides
# Settings of a scenario: PROTOCOL (C), FENCING (none), RATE of a resync (100M), SIZE of the disks (16M), LOWER (device under
# DRBD in the machine: /dev/data), BOX_LOWER (device under drbdbox: the file BOX_DISK), BOX_META (internal; or BOX_META_DISK),
# OPTIONS for the resource in drbd.conf, SECOND (another resource there). Its first line says what it does. What the logs may
# complain about is in its line "# planted: REGULAR EXPRESSION"; else a complaint in either side's log fails it.

set -u
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PROTOCOL=C
SIZE=16M
OPTIONS=
VERSION=101
SITUATION=
BOX_DISK=$WORK/box.img
BOX_META_DISK=$WORK/box.meta
KERNEL_DISK=$WORK/kernel.img
SHARE=$WORK/share
CONF=$WORK/drbd.conf
DEVICE=$WORK/dev/drbd0
LOG=$WORK/log
DAEMON=
MACHINE=
CALLS=0
export DRBDBOX_RUNDIR=$WORK/run DRBDBOX_LIBDIR=$WORK/lib DRBDBOX_LOCKDIR=$WORK/lock
PROC=$DRBDBOX_RUNDIR/proc
# The functions that both sides have.
# shellcheck source=guest/functions.sh
. "$HERE/guest/functions.sh"

say() { printf '%s\n' "$*"; }

die() {
	say "FAILED: $*"
	[ -z "$SITUATION" ] || echo "$SITUATION|FAILED" >>"$WORK/table"
	say "--- drbdbox: state, end of the log"
	cat "$PROC"
	tail -n 60 "$LOG"
	say "--- helpers: of drbdbox, of the kernel"
	cat "$WORK/called" "$SHARE/called"
	say "--- kernel: state, end of the log"
	[ -z "$MACHINE" ] || quiet 'cat /proc/drbd; dmesg | tail -n 60'
	exit 1
}

situation() {
	[ -z "$SITUATION" ] || echo "$SITUATION|passed" >>"$WORK/table"
	SITUATION=
	# The version that it begins with: `at` of the next one comes before that one's `situation`.
	[ $# -eq 0 ] || SITUATION="$1|$2|$VERSION"
}
versions() { echo "${VERSIONS:-$*}"; }
at() { VERSION=$1; }

await() {
	local tries=$(($1 * 10))
	until eval "$2" >/dev/null 2>&1; do
		[ $tries -gt 0 ] || die "gave up waiting for: $2"
		tries=$((tries - 1))
		sleep 0.1
	done
}

# ---- the machine
machine() {
	rm -rf "$SHARE/calls"
	mkdir -p "$SHARE/guest"
	cp "$HERE"/guest/* "$SHARE/guest/"
	qemu-system-x86_64 -accel "${DRBDBOX_LAB_ACCEL:-tcg,thread=multi,tb-size=256}" -machine q35 -cpu max -m 384M \
		-nodefaults -no-user-config -display none -no-reboot -serial "file:$WORK/console" \
		-kernel "$IMAGE/vmlinux" -initrd "$IMAGE/first.cpio" -append "console=ttyS0 loglevel=4 panic=-1 oops=panic nokaslr \
mitigations=off tsc=reliable random.trust_cpu=on cryptomgr.notests no_timer_check rcupdate.rcu_expedited=1 nowatchdog net.ifnames=0" \
		-object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng \
		-fsdev "local,id=share,security_model=none,multidevs=remap,path=$SHARE" \
		-device virtio-9p-pci,fsdev=share,mount_tag=share \
		-drive "if=none,id=root,format=raw,readonly=on,file.locking=off,file=$IMAGE/root.ext4" \
		-device virtio-blk-pci,drive=root,serial=root \
		-drive "if=none,id=data,format=raw,cache=writeback,discard=unmap,file.locking=off,file=$KERNEL_DISK" \
		-device virtio-blk-pci,drive=data,serial=data \
		-netdev tap,id=net,ifname=cable,script=no,downscript=no -device virtio-net-pci,netdev=net,romfile= \
		</dev/null >"$WORK/qemu" 2>&1 &
	MACHINE=$!
	local tries=1200
	until [ -e "$SHARE/calls/ready" ]; do
		if ! kill -0 $MACHINE 2>/dev/null || [ $tries -eq 0 ]; then
			MACHINE=
			tail -n 20 "$WORK/qemu" "$WORK/console"
			die "the machine does not start"
		fi
		tries=$((tries - 1))
		sleep 0.1
	done
}

# The power fails. What the machine has seen written stays on its disk.
machine_kill() {
	[ -n "$MACHINE" ] || return 0
	kill -9 $MACHINE
	wait $MACHINE 2>/dev/null
	MACHINE=
}

# Its log is complete, then the power fails.
machine_stop() {
	[ -z "$MACHINE" ] || quiet 'sync' >/dev/null 2>&1
	machine_kill
}

quiet() {
	CALLS=$((CALLS + 1))
	local call=$SHARE/calls/$BASHPID-$CALLS tries=7200 status
	printf '. /share/guest/functions.sh\nDEVICE=/dev/drbd0 PROC=/proc/drbd\n%s\n' "$1" >"$call.new"
	mv "$call.new" "$call.cmd"
	until [ -e "$call.status" ]; do
		if ! kill -0 "$MACHINE" 2>/dev/null || [ $tries -eq 0 ]; then
			tail -n 30 "$WORK/console"
			say "the machine does not answer"
			return 125
		fi
		tries=$((tries - 1))
		sleep 0.05
	done
	cat "$call.out"
	status=$(cat "$call.status")
	rm -f "$call".*
	return "$status"
}

kernel() {
	say "kernel# $1"
	quiet "$1" || die "status $? of the machine from: $1"
}

# Puts between.pl into the connection of the configurations that are made from now on.
between() {
	BETWEEN=10.99.0.3
	ip addr add $BETWEEN/24 dev cable || die "no address for what is between"
	"$HERE/between.pl" $BETWEEN 7789 10.99.0.1 10.99.0.2 "$WORK/change" &
	BETWEEN_PROGRAM=$!
}
between_ends() {
	kill $BETWEEN_PROGRAM
	wait $BETWEEN_PROGRAM
	ip addr del $BETWEEN/24 dev cable
	BETWEEN=
}
# change_passing TEXT: its first byte is changed the next time that it passes.
change_passing() {
	echo "$1" >"$WORK/change.new"
	mv "$WORK/change.new" "$WORK/change"
}

cable() { ip link set cable "$([ "$1" = in ] && echo up || echo down)"; }

# ---- drbdbox
box() {
	say "box# drbdadm $*"
	drbdadm -c "$CONF" "$@" || die "status $? from drbdadm $*"
}

box_fails() {
	say "box# drbdadm $* (must fail)"
	! drbdadm -c "$CONF" "$@" || die "succeeded: drbdadm $*"
}

daemon() {
	drbdd --foreground --door fuse-loop --device-directory "$WORK/dev" --usermode-helper "$WORK/helper" \
		--protocol-max "$VERSION" >>"$LOG" 2>&1 &
	DAEMON=$!
	await 10 '[ -S "$DRBDBOX_RUNDIR/drbdd.sock" ]'
}

daemon_kill() {
	kill -9 "$DAEMON"
	wait "$DAEMON" 2>/dev/null
	rm -f "$DRBDBOX_RUNDIR/drbdd.sock"
	DAEMON=
}

daemon_stop() {
	[ -n "$DAEMON" ] || return 0
	kill "$DAEMON"
	wait "$DAEMON"
	DAEMON=
}

# ---- both
# The helper of both sides notes how it was called, and ends as the scenario wants.
helpers() {
	local side directory
	for side in box kernel; do
		if [ $side = box ]; then directory=$WORK; else directory=$SHARE; fi
		rm -rf "$directory"/{called,answers}
		mkdir "$directory/answers"
		: >"$directory/called"
		cat >"$directory/helper" <<-'HELPER'
			#!/bin/sh
			directory=${0%/*}
			echo "$* $DRBD_PEER_AF $DRBD_PEER_ADDRESS" >>"$directory/called"
			code=0
			while [ -e "$directory/answers/$1.not-yet" ]; do sleep 0.1; done
			[ ! -e "$directory/answers/$1" ] || read -r code <"$directory/answers/$1"
			exit "$code"
		HELPER
		chmod +x "$directory/helper"
	done
}

helper_of() { if [ "$1" = box ]; then echo "$WORK"; else echo "$SHARE"; fi; }
not_yet() { : >"$(helper_of "$1")/answers/$2.not-yet"; }
answer() {
	echo "$3" >"$(helper_of "$1")/answers/$2"
	rm -f "$(helper_of "$1")/answers/$2.not-yet"
}
called() {
	local peer=10.99.0.1
	[ "$1" = box ] || peer=10.99.0.2
	grep -q -x -F "$2 ipv4 $peer" "$(helper_of "$1")/called"
}

synced() {
	await "${1:-60}" '[ "$(cs)" = Connected ] && [ "$(ds)" = UpToDate/UpToDate ]'
	quiet "until_true ${1:-60} '[ \$(cs) = Connected ] && [ \$(ds) = UpToDate/UpToDate ]'" || die "the kernel is not in sync"
}

connected() {
	await "${1:-30}" '[ "$(cs)" = Connected ]'
	quiet "until_true ${1:-30} '[ \$(cs) = Connected ]'" || die "the kernel is not connected"
}

configuration() {
	local side file kernel box
	for side in kernel box; do
		if [ $side = kernel ]; then
			file=$SHARE/drbd.conf kernel=10.99.0.1 box=${BETWEEN:-10.99.0.2}
		else
			file=$CONF kernel=${BETWEEN:-10.99.0.1} box=10.99.0.2
		fi
		cat >"$file" <<-CONFIGURATION
			global { usage-count no; }
			resource r0 {
			  net { protocol $PROTOCOL; ${1:-} }
			  disk { resync-rate ${RATE:-100M}; c-plan-ahead 0; ${FENCING:+fencing $FENCING;} ${2:-} }
			  $OPTIONS
			  on kernel { device /dev/drbd0; disk ${LOWER:-/dev/data}; meta-disk internal; address $kernel:7789; }
			  on box { device /dev/drbd0; disk ${BOX_LOWER:-$BOX_DISK}; meta-disk ${BOX_META:-internal}; address $box:7789; }
			}
			${SECOND:-}
		CONFIGURATION
	done
	quiet 'cp /share/drbd.conf /etc/drbd.conf' || die "no configuration in the machine"
}

# Meta data, and nothing is up.
prepared() {
	helpers
	quiet 'until_true 20 "! grep -q cs: /proc/drbd || drbdadm down r0"; rmmod drbd; modprobe drbd usermode_helper=/share/helper; dmesg -C' >/dev/null 2>&1
	daemon_stop
	doors_end
	rm -rf "$DRBDBOX_RUNDIR"
	mkdir -p "$DRBDBOX_RUNDIR"
	configuration "$@"
	cat "$LOG" >>"$WORK/log.all"
	: >"$LOG"
	# Emptied, but the same files: a loop device on one stays.
	truncate -s 0 "$BOX_DISK" "$BOX_META_DISK"
	truncate -s "$SIZE" "$BOX_DISK"
	truncate -s 1M "$BOX_META_DISK"
	daemon
	kernel 'blkdiscard -f /dev/data && { drbdadm create-md --force r0 >/tmp/made 2>&1 || { cat /tmp/made; false; }; }'
	drbdadm -c "$CONF" -- --force create-md r0 >/dev/null || die "no meta data on the disk of drbdbox"
}

fresh() {
	prepared "$@"
	kernel 'drbdadm up r0'
	box up r0
	connected
}

in_sync() {
	fresh "$@"
	if [ "$VERSION" -ge 90 ]; then
		kernel 'drbdadm new-current-uuid --clear-bitmap r0'
		synced
	else
		# Before version 90 the first copy cannot be left out.
		kernel 'drbdadm primary --force r0'
		synced
		kernel 'drbdadm secondary r0'
	fi
}

# The same for a side that a variable names. CONDITION is in words of functions.sh, in single quotes.
on() {
	local side=$1
	shift
	if [ "$side" = box ]; then box "$@"; else kernel "drbdadm $*"; fi
}
until_on() { if [ "$1" = box ]; then await 30 "$2"; else kernel "until_true 30 '$2'"; fi; }
holds_on() { if [ "$1" = box ]; then holds "$2" "$3" "$4" || die "drbdbox reads other data"; else kernel "holds $2 $3 $4"; fi; }
fill_on() { if [ "$1" = box ]; then fill "$2" "$3" "$4" || die "drbdbox cannot write"; else kernel "fill $2 $3 $4"; fi; }
logged() { if [ "$1" = box ]; then await 10 "grep -q '$2' '$LOG'"; else kernel "until_true 10 'dmesg | grep -q \"$2\"'"; fi; }
other() { if [ "$1" = box ]; then echo kernel; else echo box; fi; }
# The role of the kernel when this side is the Primary.
role_of() { case $1 in kernel) echo Primary ;; box) echo Secondary ;; *) echo both ;; esac; }

# Whether a disk itself has what `fill` writes.
disk_holds() { cmp -s <(blocks "$2" "$3" "$4") <(dd if="$1" bs=4096 skip="$2" count="$3" status=none); }

begin_write() {
	WRITING="$2 $3 $4"
	if [ "$1" = box ]; then
		say "box# fill $WRITING &"
		fill "$2" "$3" "$4" &
	else
		kernel "fill $WRITING" &
	fi
	WRITER=$!
}
still_writing() {
	local disk
	# Time for it to do what it must not do.
	sleep 1
	kill -0 "$WRITER" 2>/dev/null || die "the write does not wait"
	for disk in "$BOX_DISK" "$KERNEL_DISK"; do
		# shellcheck disable=SC2086 # words
		! disk_holds "$disk" $WRITING || die "the write that should wait is on $disk"
	done
}
end_write() {
	local tries=300
	while kill -0 "$WRITER" 2>/dev/null && [ $tries -gt 0 ]; do
		tries=$((tries - 1))
		sleep 0.1
	done
	[ $tries -gt 0 ] || die "the write does not end"
	wait "$WRITER" || die "the write fails"
}

# Protocol A and B: what is under way arrives.
settled() {
	quiet "until_true 20 '[ \$(counter pe) = 0 ] && [ \$(counter ap) = 0 ]'" || die "the kernel still waits for the peer"
	await 20 '[ "$(counter pe)" = 0 ] && [ "$(counter ap)" = 0 ]'
}

equal() {
	local sectors
	kernel 'drbdadm down r0; sync'
	box down r0
	sectors=$(drbdadm -c "$CONF" dump-md r0 2>/dev/null | sed -n 's/^.*la-size-sect \([0-9]*\);.*/\1/p')
	[ "${sectors:-0}" -gt 0 ] || die "the meta data has no size"
	cmp -n $((sectors * 512)) "$BOX_DISK" "$KERNEL_DISK" || die "the disks differ"
	say "equal: $sectors sectors, $(tr -d '\0' <"$BOX_DISK" | wc -c) bytes that are not zero"
}
