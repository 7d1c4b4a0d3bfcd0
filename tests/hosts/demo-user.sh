#!/bin/bash
# Replication without root: two daemons of this user on loopback, disks are files, applications come in through NBD
# servers. demo.sh calls it when it is not called by root; it says what that leaves out.
# Environment: DRBDBOX=the binary to test (target/release/drbdbox). UNDER=a program that starts it: kernel-floor.

set -u
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
DRBDBOX=${DRBDBOX:-$TOP/target/release/drbdbox}
MIB=64
STEP=0
declare -A DAEMON=()
before=()

step() {
	STEP=$((STEP + 1))
	printf '\n--- %d. %s\n' "$STEP" "$*"
}
die() {
	printf '\nFAILED: %s\n' "$*" >&2
	exit 1
}

[ -x "$DRBDBOX" ] || die "no program at $DRBDBOX: run make first"
if type -P nbdcopy >/dev/null; then
	client=nbdcopy
elif type -P qemu-img >/dev/null; then
	client=qemu-img
else
	echo "missing: an NBD client: nbdcopy (Debian package libnbd-bin) or qemu-img (qemu-utils)" >&2
	exit 77
fi

WORK=$(mktemp -d "${TMPDIR:-/tmp}/drbdbox-user.XXXXXX") || exit 1
finish() {
	local status=$? node
	trap - EXIT
	for node in "${!DAEMON[@]}"; do
		kill -9 "${DAEMON[$node]}" 2>/dev/null
	done
	wait 2>/dev/null
	if [ $status -ne 0 ]; then
		for node in data01 data02; do
			echo "--- the end of the log of $node:" >&2
			tail -n 40 "$WORK/$node/log" 2>/dev/null | sed "s/^/[$node] /" >&2
		done
	fi
	rm -rf "$WORK"
	exit $status
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkdir "$WORK/bin"
"$DRBDBOX" --install -s "$WORK/bin" || die "--install"
if [ -n "${UNDER:-}" ]; then
	for link in "$WORK"/bin/*; do
		rm "$link"
		printf '#!/bin/sh\nexec "%s" "%s" %s "$@"\n' "$UNDER" "$DRBDBOX" "${link##*/}" >"$link"
		chmod +x "$link"
	done
fi
# Ports that nobody listens on now.
PORTS=()
for ((port = 20000 + $$ % 20000; ${#PORTS[@]} < 2; port++)); do
	(: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || PORTS+=("$port")
done
cat >"$WORK/drbd.conf" <<END
common { protocol C; syncer { rate 20M; } startup { wfc-timeout 10; } }
resource r0 {
    device /dev/drbd0;
    meta-disk internal;
    net { cram-hmac-alg sha1; shared-secret "secret string"; }
    on data01 { disk $WORK/data01/disk; address 127.0.0.1:${PORTS[0]}; }
    on data02 { disk $WORK/data02/disk; address 127.0.0.1:${PORTS[1]}; }
}
END

# The environment in which a node's commands find its own daemon and files.
as() {
	local node=$1
	shift
	(
		export PATH="$WORK/bin:$PATH" LC_ALL=C __DRBD_NODE__="$node" DRBDBOX_RUNDIR="$WORK/$node/run" \
			DRBDBOX_LIBDIR="$WORK/$node/lib" DRBDBOX_LOCKDIR="$WORK/$node/lock"
		exec "$@"
	)
}
# drbdadm says that it pretends to be the node; that is not of interest here.
on() {
	local node=$1 status=0
	shift
	printf '[%s]$ %s\n' "$node" "$*"
	as "$node" bash -c "$*" </dev/null >"$WORK/last" 2>&1 || status=$?
	grep -vE '^$|^ *found __DRBD_NODE__ in environment|^ *PRETENDING that I am' "$WORK/last"
	return $status
}
must() { on "$@" || die "exit status $? of '${*:2}' on $1, expected 0"; }
shows() { grep -qE -- "$1" "$WORK/last" || die "the output above does not hold: $1"; }
await() {
	local end=$((SECONDS + $1)) node=$2
	shift 2
	until as "$node" bash -c "$*" </dev/null >"$WORK/quiet" 2>&1; do
		[ $SECONDS -lt $end ] || die "on $node still not true: $*: $(cat "$WORK/quiet")"
		sleep 0.1
	done
}
start_daemon() {
	printf '[%s]$ drbdd --foreground --door nbd-server &\n' "$1"
	as "$1" sh -c "echo \$\$ >$WORK/$1/pid; exec drbdd --foreground --door nbd-server" </dev/null >>"$WORK/$1/log" 2>&1 &
	until [ -s "$WORK/$1/pid" ]; do sleep 0.02; done
	DAEMON[$1]=$(cat "$WORK/$1/pid")
	rm "$WORK/$1/pid"
	await 10 "$1" 'drbdsetup proc'
}
kill_daemon() {
	printf '[%s]$ kill -9 %s\n' "$1" "${DAEMON[$1]}"
	kill -9 "${DAEMON[$1]}"
	gone "$1"
	unset "DAEMON[$1]"
}
# Waits until the daemon has ended.
gone() {
	local tries=0
	while kill -0 "${DAEMON[$1]}" 2>/dev/null; do
		tries=$((tries + 1))
		[ $tries -lt 200 ] || die "the daemon of $1 does not end"
		sleep 0.05
	done
}
# copy_in NODE FILE, copy_out NODE FILE: between a file and the device.
uri() { printf 'nbd+unix:///r0?socket=%s' "$WORK/$1/run/nbd.sock"; }
copy_in() {
	case $client in
	nbdcopy) nbdcopy --flush "$2" "$(uri "$1")" ;;
	qemu-img) qemu-img convert -n -f raw -O raw "$2" "$(uri "$1")" ;;
	esac || die "$client to $1"
	echo "[$1: $client $2 into the device]"
}
copy_out() {
	case $client in
	nbdcopy) nbdcopy "$(uri "$1")" "$2" ;;
	qemu-img) qemu-img convert -f raw -O raw "$(uri "$1")" "$2" ;;
	esac || die "$client from $1"
	echo "[$1: $client the device into $2]"
}
IN_SYNC="drbdsetup proc | grep -q 'cs:Connected .* ds:UpToDate/UpToDate'"

echo "Two nodes of one user on 127.0.0.1, with NBD servers instead of /dev/drbd0."
echo "Left out, because that needs root: block devices, mount and file systems, the init script, name spaces."

step "meta data in two files"
for node in data01 data02; do
	mkdir -p "$WORK/$node"/{run,lib,lock}
	truncate -s "${MIB}M" "$WORK/$node/disk"
	must $node "drbdadm -c $WORK/drbd.conf create-md r0"
	shows '^New drbd meta data block successfully created\.'
done

step "two daemons"
for node in data01 data02; do
	start_daemon $node
	must $node "drbdadm -c $WORK/drbd.conf up r0"
done
await 15 data01 "drbdsetup proc | grep -q cs:Connected"
must data01 'drbdsetup proc'
shows '^ 0: cs:Connected ro:Secondary/Secondary ds:Inconsistent/Inconsistent C r-----'

step "data01 becomes Primary, and its disk is copied to data02"
must data01 'drbdsetup /dev/drbd0 primary -o'
await 10 data01 "drbdsetup proc | grep -q \"sync'ed:\""
must data01 'drbdsetup proc'
await 30 data01 "$IN_SYNC"
must data01 'drbdsetup proc'

step "an application writes, and reads on the other node"
head -c 20M /dev/urandom >"$WORK/content"
copy_in data01 "$WORK/content"
must data01 "drbdadm -c $WORK/drbd.conf secondary r0"
must data02 "drbdadm -c $WORK/drbd.conf primary r0"
copy_out data02 "$WORK/read-back"
cmp -n 20971520 "$WORK/content" "$WORK/read-back" || die "data02 has not what was written on data01"
echo "[the same bytes]"

step "the daemon of data01 is killed; data02 goes on"
kill_daemon data01
await 10 data02 "drbdsetup proc | grep -q cs:WFConnection"
head -c 5M /dev/urandom >"$WORK/content"
copy_in data02 "$WORK/content"
start_daemon data01
must data01 "drbdadm -c $WORK/drbd.conf adjust r0"
await 20 data02 "$IN_SYNC"
kib=$(sed -n 's/^.*Began resync as [A-Za-z]* (will sync \([0-9]*\) KB.*$/\1/p' "$WORK/data02/log" | tail -n 1)
[ -n "$kib" ] && [ "$kib" -ge 5120 ] && [ "$kib" -le 20000 ] || die "resynchronised ${kib:-nothing} KiB"
echo "[resynchronised: $kib KiB of $((MIB * 1024))]"

if [ -n "${UNDER:-}" ]; then
	step "threads that wait sleep"
	# On a kernel without the calls that a lock waits with, a thread that has to wait would run instead.
	ticks() { awk '{ print $14 + $15 }' "/proc/${DAEMON[$1]}/stat"; }
	for node in data01 data02; do before[${#before[@]}]=$(ticks $node); done
	sleep 5
	used=$(($(ticks data01) + $(ticks data02) - before[0] - before[1]))
	echo "[the two idle daemons used $((used * 1000 / $(getconf CLK_TCK))) ms of processor time in 5 s]"
	[ $((used * 1000 / $(getconf CLK_TCK))) -lt 500 ] || die "they do not sleep"
	if type -P strace >/dev/null; then
		timeout -s INT 3 strace -f -c -p "${DAEMON[data01]}" 2>&1 </dev/null | head -n 20
	fi
fi

step "both files hold the same"
bytes=$(stat -c %s "$WORK/read-back")
must data02 "drbdadm -c $WORK/drbd.conf secondary r0"
for node in data01 data02; do
	must $node "drbdadm -c $WORK/drbd.conf down r0"
	kill "${DAEMON[$node]}"
	gone $node
	unset "DAEMON[$node]"
done
cmp -n "$bytes" "$WORK/data01/disk" "$WORK/data02/disk" || die "the two disks differ"
cmp -n 5242880 "$WORK/content" "$WORK/data01/disk" || die "data01 has not what was written while it was away"
echo "[the $bytes bytes of the device are the same on both disks]"

printf '\nAll %d steps held, in %d seconds. Without root there were no block devices and no file systems.\n' "$STEP" "$SECONDS"
