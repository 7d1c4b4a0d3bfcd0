# shellcheck shell=bash
# A machine with the kernel's DRBD as one node of resource r0 (10.99.0.1, host name kernel), and drbdbox on this host as the
# other (10.99.0.2, host name box). run.sh calls this file in name spaces of its own; scenarios use:
#
#   fresh [NET [DISK]]     both nodes with empty disks, attached and connected; NET and DISK go into the sections of drbd.conf
#   in_sync                the same, and UpToDate on both sides; from version 90 on without a resync
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
#   equal                  takes both nodes down and compares their disks, byte by byte
#   situation TEXT ROLE    a line of the table begins: it passes if nothing fails until the next; ROLE is that of the kernel
#   versions DEFAULT...    protocol versions to go through; `at VERSION` before `fresh` chooses one for both sides
# Settings of a scenario: PROTOCOL (C), FENCING (none), RATE of a resync (100M), SIZE of the disks (16M), LOWER (device under DRBD in the machine: /dev/data), and
# OPTIONS for the resource in drbd.conf. Its first line says what it does. What the logs may complain about is in its line
# "# planted: REGULAR EXPRESSION"; else a complaint in either side's log fails it.

set -u
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PROTOCOL=C
SIZE=16M
OPTIONS=
VERSION=101
SITUATION=
BOX_DISK=$WORK/box.img
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
	local call=$SHARE/calls/$BASHPID-$CALLS tries=3600 status
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
	drbdd --foreground --door fuse-loop --device-directory "$WORK/dev" --usermode-helper "${HELPER:-/bin/true}" \
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
synced() {
	await "${1:-60}" '[ "$(cs)" = Connected ] && [ "$(ds)" = UpToDate/UpToDate ]'
	quiet "until_true ${1:-60} '[ \$(cs) = Connected ] && [ \$(ds) = UpToDate/UpToDate ]'" || die "the kernel is not in sync"
}

connected() {
	await "${1:-30}" '[ "$(cs)" = Connected ]'
	quiet "until_true ${1:-30} '[ \$(cs) = Connected ]'" || die "the kernel is not connected"
}

configuration() {
	local side file net disk
	for side in kernel box; do
		# The kernel's tools are of a release that has the fencing policy among the options of the connection.
		if [ $side = kernel ]; then
			file=$SHARE/drbd.conf net=${FENCING:+fencing $FENCING;} disk=
		else
			file=$CONF net= disk=${FENCING:+fencing $FENCING;}
		fi
		cat >"$file" <<-CONFIGURATION
			global { usage-count no; }
			resource r0 {
			  net { protocol $PROTOCOL; $net ${1:-} }
			  disk { resync-rate ${RATE:-100M}; c-plan-ahead 0; $disk ${2:-} }
			  $OPTIONS
			  on kernel { device /dev/drbd0; disk ${LOWER:-/dev/data}; meta-disk internal; address 10.99.0.1:7789; }
			  on box { device /dev/drbd0; disk $BOX_DISK; meta-disk internal; address 10.99.0.2:7789; }
			}
		CONFIGURATION
	done
	quiet 'cp /share/drbd.conf /etc/drbd.conf' || die "no configuration in the machine"
}

fresh() {
	quiet 'drbdadm down r0; rmmod drbd; modprobe drbd usermode_helper=/bin/true' >/dev/null 2>&1
	daemon_stop
	rm -rf "$DRBDBOX_RUNDIR"
	mkdir -p "$DRBDBOX_RUNDIR"
	configuration "$@"
	cat "$LOG" >>"$WORK/log.all"
	: >"$LOG"
	rm -f "$BOX_DISK"
	truncate -s "$SIZE" "$BOX_DISK"
	daemon
	kernel 'blkdiscard -f /dev/data && drbdadm create-md --force r0 >/dev/null 2>&1 && drbdadm up r0'
	drbdadm -c "$CONF" -- --force create-md r0 >/dev/null || die "no meta data on the disk of drbdbox"
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
