#!/bin/bash
# make torture: two hosts with real daemons, applications that write all the time, and faults of every kind, from a seed.
# What was acknowledged is recorded outside of the hosts. README.md here says what is checked, and how to add a fault.
# Environment: TORTURE_SECONDS (300), TORTURE_SEED (the time), TORTURE_ROUND (from 1 on; a number: this round again and
# again), TORTURE_PATIENCE (1): factor of all times that are waited, for slow machines.
# The seed decides what is done; when exactly it happens also depends on the machine.

# shellcheck source=lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
TORTURE_SECONDS=${TORTURE_SECONDS:-300}
SEED=${TORTURE_SEED:-$(date +%s)}
PATIENCE=${TORTURE_PATIENCE:-1}
# Everything comes to rest within this time once the faults are over; and a command to the daemon is answered within that.
WAIT=$((60 * PATIENCE))
ANSWER=$((10 * PATIENCE))
MIB=48
# No line of a log may have any of these: broken promises between two daemons of the same kind, and defects.
FORBIDDEN='defect in the program|panicked|ASSERT|BUG|unexpected|ProtocolError|Split-Brain|out of sync!|[Dd]igest.*(mismatch|FAILED)'

ROUND=0
DISTURBED=0
WHAT=
STATE=
WRITER=
PRIMARY=data01
SECONDARY=data02
PROTOCOL=C
declare -A DOOR=() DAEMON=() SEEN_LINES=() AT_REST=() WATCHER=()

# --- chance: all of it is drawn by the main shell, in an order that depends on the seed only ----------------------------

# pick WORD...: sets PICKED.
pick() {
	local n=$((RANDOM % $# + 1))
	PICKED=${!n}
}
# A moment between the two numbers of milliseconds.
moment() {
	local ms=$(($1 + RANDOM % ($2 - $1)))
	sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
}
one_of_them() { pick "$PRIMARY" "$SECONDARY"; }
# Whose disk goes. In protocol A a Primary without one has been told of writes that are on their way to the peer still: they are lost if ko-count
# ends the link, as it may beside a slow disk, and nobody promised more.
one_that_may_lose_its_disk() {
	one_of_them
	case $PROTOCOL:$NET in
	A:*ko-count*) PICKED=$SECONDARY ;;
	esac
}

# --- telling -----------------------------------------------------------------------------------------------------------

note() {
	say "  $(date +%T) $*"
	WHAT=$*
}
now() { inside "$1" "cat $PROC" 2>&1 | sed -n 's/^ 0: //p'; }

on_failure() {
	local kept=$TOP/target/torture/seed-$SEED host
	rm -rf "$kept"
	mkdir -p "$kept"
	for host in data01 data02; do
		cp "$WORK/$host/var/log/messages" "$kept/$host.log" 2>/dev/null
		cp "$WORK/$host/etc/drbd.conf" "$kept/" 2>/dev/null
		threads_of "$host" >"$kept/$host.threads" 2>/dev/null
		threads_of_disk "$host" >"$kept/$host.disk-threads" 2>/dev/null
	done
	cp "$WORK"/*.out "$WORK"/unanswered.* "$kept/" 2>/dev/null
	cp -r "$STATE" "$kept/" 2>/dev/null
	say "torture: seed $SEED, round $ROUND: $WHAT" >&2
	say "torture: logs, threads and the record of the writes are in $kept" >&2
	say "torture: again: TORTURE_SEED=$SEED make torture; only this round: TORTURE_SEED=$SEED TORTURE_ROUND=$ROUND make torture" >&2
}

# What the threads of a process wait for: to be run where the process is. The stacks are for root where the kernel shows them.
WAITS='for task in /proc/$pid/task/*; do
	echo "$(cat $task/comm) $(awk "/^State/ { print \$2 }" $task/status) $(cat $task/wchan) $(head -c 100 $task/syscall)"
	sed "s/^/	/" $task/stack
done; ls -l /proc/$pid/fd'

# Those of a daemon.
threads_of() { inside "$1" "pid=\$(cat /run/drbd/drbdd.pid) && $WAITS"; }

# Those of the program that is the disk of a host, and what its door has not answered.
threads_of_disk() {
	sh -c "pid=${FAULTY[$1:sdb1]}; $WAITS"
	# Requests that wait in FUSE, of all of its file systems; in flight at loop devices.
	mkdir -p "$WORK/fuse" && mount -t fusectl fusectl "$WORK/fuse" && grep . "$WORK"/fuse/*/waiting
	umount "$WORK/fuse"
	grep . /sys/block/loop*/inflight
}

# --- hosts and daemons -------------------------------------------------------------------------------------------------

must() {
	quiet "$@" || die "exit status $? of '${*:2}' on $1: $(cat "$WORK/quiet.out")"
}
pid_of() { inside "$1" 'cat /run/drbd/drbdd.pid'; }
swap_names() { local host=$PRIMARY; PRIMARY=$SECONDARY SECONDARY=$host; }

# A daemon is about to be killed or stopped, or was just now: whoever asked it something meanwhile need not have an answer.
disturb() {
	DISTURBED=$((DISTURBED + 1))
	echo $DISTURBED >"$WORK/disturbed.$1"
}
signal_daemon() {
	disturb "$1"
	must "$1" "kill -$2 ${DAEMON[$1]}"
	# What it wanted from its disk is over when it is gone.
	[ "$2" != KILL ] || await $WAIT "$1" "! kill -0 ${DAEMON[$1]}"
	disturb "$1"
}

# With a door that this start of the daemon has by chance; resources as its configuration says.
start_daemon() {
	pick fuse-loop fuse-loop nbd-server
	DOOR[$1]=$PICKED
	must "$1" "cd / && drbdd --background --door $PICKED </dev/null >/dev/null && drbdadm adjust r0"
	DAEMON[$1]=$(pid_of "$1")
}

power_off() {
	note "$1 loses its power, and what was only in the cache of its disk"
	signal_daemon "$1" STOP
	host_off "$1"
	disk_order "$1" sdb1 cut $((RANDOM + 1))
}
power_on() {
	host_on "$1"
	watch_daemon "$1"
	start_daemon "$1"
}

# Asks the daemon of a host all the time; an answer that does not come is noted. Ends with the host.
watch_daemon() {
	local host=$1 init=${INIT[$1]} before command turn=0
	echo >>"$WORK/disturbed.$host"
	while [ -e "/proc/$init" ]; do
		before=$(cat "$WORK/disturbed.$host")
		turn=$((turn + 1))
		command='drbdsetup proc'
		[ $((turn % 3)) -ne 1 ] || command='drbdsetup 0 show'
		[ $((turn % 3)) -ne 2 ] || command='drbdsetup status --json'
		inside "$host" "timeout $ANSWER $command" </dev/null >/dev/null 2>&1
		# 124: the time was over. Stopped daemons do not answer.
		[ $? -ne 124 ] || [ -e "$WORK/stopped.$host" ] || [ "$before" != "$(cat "$WORK/disturbed.$host")" ] ||
			{ date +"%T $command"; threads_of "$host"; } >>"$WORK/unanswered.$host" 2>&1
		sleep 0.5
	done &
	WATCHER[$host]=$!
	disown $!
}

# --- the application ---------------------------------------------------------------------------------------------------

target() {
	case ${DOOR[$1]} in
	nbd-server) printf 'nbd+unix:///r0?socket=/run/drbd/nbd.sock' ;;
	*) printf /dev/drbd0 ;;
	esac
}

start_writer() {
	local end=$((SECONDS + WAIT))
	rm -f "$STATE/stop"
	: >"$WORK/writer.out"
	inside "$PRIMARY" "exec write-checker write '$(target "$PRIMARY")' $STATE 100000 $THREADS $KIB" \
		</dev/null >"$WORK/writer.out" 2>&1 &
	WRITER=$!
	# It has opened the device when it begins to write.
	until [ -s "$STATE/00.journal" ]; do
		kill -0 $WRITER 2>/dev/null && [ $SECONDS -lt $end ] || die "the writer does not begin: $(cat "$WORK/writer.out")"
		sleep 0.05
	done
}

# end_writer STATUS...: it must end by itself, with one of them.
end_writer() {
	local status=0 expected end=$((SECONDS + WAIT))
	while kill -0 "$WRITER" 2>/dev/null; do
		[ $SECONDS -lt $end ] || die "a write is not completed on $PRIMARY: $(now "$PRIMARY")"
		sleep 0.05
	done
	wait "$WRITER" || status=$?
	WRITER=
	for expected; do
		[ $status -ne "$expected" ] || return 0
	done
	die "the writer ended with $status: $(cat "$WORK/writer.out")"
}
stop_writer() {
	: >"$STATE/stop"
	end_writer 0
	say "    $(cat "$WORK/writer.out")"
}

# Every write that was acknowledged is there. Nobody may be writing.
verify() {
	must "$1" "write-checker verify '$(target "$1")' $STATE"
}
promote() {
	await $WAIT "$PRIMARY" 'drbdadm primary r0'
	remember_mark
	verify "$PRIMARY"
	start_writer
}

# --- coming to rest ----------------------------------------------------------------------------------------------------

# The states that a host sees of itself and its peer.
is_good() { quiet "$1" "$IN_SYNC"; }

# What is left of a resync or a verify.
left_of() {
	inside "$1" "sed -n -e 's/.* oos:\([1-9][0-9]*\)$/\1/p' -e 's|.* verified: .*(\([0-9]*\)/.*|\1|p' $PROC | tail -n 1" 2>/dev/null
}

# last_change_of HOST WHAT: of its conn, disk, ..., as its log tells.
last_change_of() { grep -o " $2( [A-Za-z]* -> [A-Za-z]* )" "$WORK/$1/var/log/messages" | tail -n 1; }

# A disk whose link is lost while it negotiates is given up, as by DRBD: an operator attaches it again.
is_to_be_attached_again() {
	last_change_of "$1" disk | grep -q -- 'Negotiating -> Diskless'
}

# Both good and connected. A resync, or a verify, may be slow next to an application that fills a narrow network, or whose
# every write is flushed at the peer: it may go on for as long as there is less and less left of it.
settle() {
	local host end least left
	for host in "$PRIMARY" "$SECONDARY"; do
		end=$((SECONDS + WAIT)) least=
		until is_good "$host"; do
			left=$(left_of "$host") || left=
			if [ -n "$left" ] && [ "$left" -lt "${least:-$((left + 1))}" ]; then
				least=$left
				end=$((SECONDS + WAIT))
			fi
			! is_to_be_attached_again "$host" || attach "$host"
			[ $SECONDS -lt $end ] || die "$host is not good after $WAIT seconds without progress: $(now "$host"); ${left:-nothing} left to resync or verify, ${least:-nothing} at the least"
			sleep 0.1
		done
	done
}

calm_disk() {
	disk_order "$1" sdb1 delay 0 0
	disk_order "$1" sdb1 fail nothing
	disk_order "$1" sdb1 go
}

# Conditions that lasted for the whole round.
lift_conditions() {
	local host
	for host in data01 data02; do
		calm_disk $host
		quiet $host 'tc qdisc del dev eth0 root'
	done
}

# A disk that was detached, by itself or not, is used again.
attach() {
	await $WAIT "$1" "grep -qE 'ds:(Diskless|Failed)/' $PROC || exit 0; drbdadm attach r0"
}

# --- faults ------------------------------------------------------------------------------------------------------------
# Each begins and ends with daemons that run, on a Primary with a good disk and an application that writes; whether the
# peer is connected and good is open. What needs that calls settle.

fault_kill_secondary() {
	note "the daemon of the Secondary ($SECONDARY) is killed"
	signal_daemon "$SECONDARY" KILL
	moment 1 1500
	start_daemon "$SECONDARY"
}

fault_kill_primary() {
	note "the daemon of the Primary ($PRIMARY) is killed and comes back"
	signal_daemon "$PRIMARY" KILL
	end_writer 3
	start_daemon "$PRIMARY"
	promote
}

# The Primary is stopped while its peer is known to have everything. Stopped first, for the peer could be lost between the
# look and the end; then the Primary would have gone on alone, rightly. HOST...: to be stopped before it.
stop_good_primary() {
	local host
	settle
	for host in "$@" "$PRIMARY"; do
		: >"$WORK/stopped.$host"
		signal_daemon "$host" STOP
	done
	until is_good "$SECONDARY" && last_change_of "$PRIMARY" conn | grep -q -- '-> Connected )'; do
		for host in "$PRIMARY" "$@"; do signal_daemon "$host" CONT; done
		settle
		for host in "$@" "$PRIMARY"; do signal_daemon "$host" STOP; done
	done
}

fail_over() {
	rm -f "$WORK/stopped.$PRIMARY"
	await $WAIT "$SECONDARY" "grep -qE 'cs:(WFConnection|StandAlone)' $PROC"
	swap_names
	promote
}

fault_kill_and_fail_over() {
	note "the daemon of the Primary ($PRIMARY) is killed, the other host takes over"
	stop_good_primary
	signal_daemon "$PRIMARY" KILL
	end_writer 3
	fail_over
	moment 1 1000
	start_daemon "$SECONDARY"
}

fault_power_and_fail_over() {
	note "the Primary ($PRIMARY) is to lose its power, the other host takes over"
	stop_good_primary
	power_off "$PRIMARY"
	end_writer 137 143 129 255
	fail_over
	moment 1 1000
	power_on "$SECONDARY"
}

fault_power_secondary() {
	power_off "$SECONDARY"
	moment 1 1500
	power_on "$SECONDARY"
}

fault_both() {
	note "the daemon of the Primary ($PRIMARY) dies, and at the same time:"
	signal_daemon "$PRIMARY" KILL
	power_off "$SECONDARY"
	end_writer 3
	start_daemon "$PRIMARY"
	moment 1 500
	power_on "$SECONDARY"
	promote
}

# What protocol C acknowledged is on the disk of a Secondary, whatever becomes of its daemon; also if that has more to do
# than the disk can take.
fault_both_and_fail_over() {
	note "the daemons of $SECONDARY and of the Primary ($PRIMARY) are killed, the other host takes over"
	# A resync would take minutes with such a disk.
	settle
	disk_order "$SECONDARY" sdb1 delay 100 200
	stop_good_primary "$SECONDARY"
	signal_daemon "$SECONDARY" KILL
	signal_daemon "$PRIMARY" KILL
	calm_disk "$SECONDARY"
	rm "$WORK/stopped.$SECONDARY"
	end_writer 3
	start_daemon "$SECONDARY"
	fail_over
	moment 1 1000
	start_daemon "$SECONDARY"
}

fault_cable() {
	one_of_them
	note "the cable of $PICKED is out"
	host_unplug "$PICKED"
	moment 50 5000
	host_plug "$PICKED"
}

fault_one_way() {
	local host
	one_of_them
	host=$PICKED
	note "what $host sends is lost"
	if [ "$host" = data01 ]; then PICKED=data02; else PICKED=data01; fi
	host_mute "$host" $PICKED
	moment 50 5000
	host_unmute "$host" $PICKED
}

fault_stopped() {
	one_of_them
	note "the daemon of $PICKED is stopped for a while"
	: >"$WORK/stopped.$PICKED"
	signal_daemon "$PICKED" STOP
	moment 50 6000
	signal_daemon "$PICKED" CONT
	rm "$WORK/stopped.$PICKED"
}

fault_stuck_disk() {
	one_of_them
	note "the disk of $PICKED is stuck for a while"
	disk_order "$PICKED" sdb1 hold
	moment 50 5000
	disk_order "$PICKED" sdb1 go
}

fault_failing_disk() {
	local host
	settle
	one_that_may_lose_its_disk
	host=$PICKED
	pick reads writes writes
	note "the disk of $host fails: $PICKED"
	disk_order "$host" sdb1 fail "$PICKED"
	moment 200 2000
	disk_order "$host" sdb1 fail nothing
	attach "$host"
	[ "$host" = "$SECONDARY" ] || settle
}

fault_detach() {
	local host
	settle
	one_that_may_lose_its_disk
	host=$PICKED
	note "the disk of $host is detached and attached"
	await $WAIT "$host" 'drbdadm detach r0'
	moment 1 1000
	attach "$host"
	[ "$host" = "$SECONDARY" ] || settle
}

fault_disconnect() {
	one_of_them
	note "$PICKED disconnects and connects"
	await $WAIT "$PICKED" 'drbdadm disconnect r0'
	moment 1 1500
	await $WAIT "$PICKED" 'drbdadm connect r0'
}

fault_invalidate() {
	settle
	note "the disk of $SECONDARY is invalidated"
	must "$SECONDARY" 'drbdadm invalidate r0'
	moment 1 1500
}

fault_verify() {
	lift_conditions
	settle
	one_of_them
	note "$PICKED verifies"
	quiet "$PICKED" 'drbdadm verify r0' || { settle; return 0; } # the link was lost just now
	moment 100 3000
}

fault_restart_secondary() {
	note "the daemon of $SECONDARY ends in order and comes back"
	disturb "$SECONDARY"
	await $WAIT "$SECONDARY" "drbdadm down r0"
	must "$SECONDARY" "kill ${DAEMON[$SECONDARY]}"
	await $WAIT "$SECONDARY" "! kill -0 ${DAEMON[$SECONDARY]}"
	disturb "$SECONDARY"
	start_daemon "$SECONDARY"
}

fault_roles() {
	note "the roles are exchanged"
	stop_writer
	settle
	await $WAIT "$PRIMARY" 'drbdadm secondary r0'
	swap_names
	promote
}

fault_suspend() {
	note "$PRIMARY suspends its input and output"
	must "$PRIMARY" 'drbdadm suspend-io r0'
	moment 1 2000
	must "$PRIMARY" 'drbdadm resume-io r0'
}

FAULTS=(kill_secondary kill_primary kill_and_fail_over power_and_fail_over both_and_fail_over power_secondary both cable
	one_way stopped stuck_disk failing_disk detach disconnect invalidate verify restart_secondary roles suspend)
# Protocol A acknowledges what the peer does not have yet, and B what is only in the memory of its daemon: what takes over
# without that may lack it.
of_protocol() {
	case $PROTOCOL:$1 in
	A:*_and_fail_over | B:both_and_fail_over) printf roles ;;
	*) printf '%s' "$1" ;;
	esac
}

# --- conditions: last for a round ----------------------------------------------------------------------------------------

condition_none() { :; }
condition_slow_disk() {
	one_of_them
	note "the disk of $PICKED is slow"
	disk_order "$PICKED" sdb1 delay 1 30
}
condition_slow_disks() {
	note "both disks are slow"
	disk_order data01 sdb1 delay 0 20
	disk_order data02 sdb1 delay 0 20
}
condition_narrow_link() {
	note "the network is narrow"
	must "$PRIMARY" 'tc qdisc add dev eth0 root tbf rate 40mbit burst 32k latency 50ms'
}

# --- a round -------------------------------------------------------------------------------------------------------------

# What a daemon holds when nothing goes on must not grow: threads and files, by the kind of its door, and mounts of the host.
# A disk has 1 to 16 threads, as there was work for them.
holdings() {
	inside "$1" "cat /proc/${DAEMON[$1]}/task/*/comm | sort | uniq -c | sed 's/^ *\([1-9]\|1[0-6]\) disk /some disk /'
		ls -l /proc/${DAEMON[$1]}/fd | sed -n 's/.* -> //p' | sed 's/[0-9]\{3,\}/N/g' | sort | uniq -c
		wc -l </proc/self/mounts" 2>/dev/null
}
# What the second holds more of than the first.
grown() {
	awk '{ count = $1; $1 = "" }
		NR == FNR { before[$0] = count; next }
		count == "some" ? !($0 in before) : count > before[$0] + 0 { print count $0 ", before " before[$0] + 0 }' \
		<(echo "$1") <(echo "$2")
}
nothing_leaks() {
	local host=$1 key=$1:${DOOR[$1]} end=$((SECONDS + WAIT)) held
	[ "$(pid_of "$host")" = "${DAEMON[$host]}" ] || die "the daemon of $host is another one than was started"
	held=$(holdings "$host")
	: "${AT_REST[$key]:=$held}"
	until [ -z "$(grown "${AT_REST[$key]}" "$held")" ]; do
		[ $SECONDS -lt $end ] || die "at rest $host holds more than before: $(grown "${AT_REST[$key]}" "$held")"
		sleep 0.2
		held=$(holdings "$host")
	done
	# The first time somebody may just have asked it something.
	AT_REST[$key]=$held
}

check_log() {
	local host=$1 log=$WORK/$1/var/log/messages seen=${SEEN_LINES[$1]:-0}
	SEEN_LINES[$host]=$(wc -l <"$log")
	! tail -n +$((seen + 1)) "$log" | grep -E -m 5 -- "$FORBIDDEN" || die "$host: a line that no log may have"
	[ ! -e "$WORK/unanswered.$host" ] || die "the daemon of $host did not answer within $ANSWER s: $(cat "$WORK/unanswered.$host")"
}

# All faults are over: both sides become good, they have what was acknowledged, and nothing else than each other.
check() {
	local host
	lift_conditions
	note "all faults are over"
	settle
	stop_writer
	verify "$PRIMARY"
	await $WAIT "$PRIMARY" "grep -q 'cs:Connected ' $PROC" # no verify any more
	await $WAIT "$PRIMARY" 'drbdadm secondary r0'
	for host in data01 data02; do
		await $WAIT $host "grep -q ' ro:Secondary/Secondary ds:UpToDate/UpToDate ' $PROC && grep -q 'oos:0$' $PROC"
		disk_order $host sdb1 settle
		nothing_leaks $host
	done
	cmp -n "$DATA_BYTES" "$(disk_file data01 sdb1)" "$(disk_file data02 sdb1)" || die "the two disks differ"
	for host in data01 data02; do
		check_log $host
	done
	no_device_is_left
}

# Loop devices of doors that these hosts made, by the mark in their file name. At rest there is no door.
no_device_is_left() {
	local mark
	for mark in $(cat "$WORK/marks"); do
		! grep -l -- "$mark" /sys/block/loop*/loop/backing_file 2>/dev/null || die "a loop device is left ($mark)"
	done
}
remember_mark() {
	[ "${DOOR[$PRIMARY]}" != fuse-loop ] || inside "$PRIMARY" 'cut -d " " -f 3 /run/drbd/doors/minor-0' >>"$WORK/marks"
}

round() {
	local fault faults=() condition
	RANDOM=$(((SEED * 1009 + ROUND * 7919) % 2147483647))
	pick 1 4 4 16 48
	THREADS=$PICKED
	pick 4 32 32 256 1024
	KIB=$PICKED
	for ((fault = RANDOM % 3; fault >= 0; fault--)); do
		pick "${FAULTS[@]}"
		faults+=("$(of_protocol "$PICKED")")
	done
	pick none none none slow_disk slow_disks narrow_link
	condition=$PICKED
	one_of_them
	[ "$PICKED" = "$PRIMARY" ] || swap_names
	say "round $ROUND: $THREADS writers up to $KIB KiB; $condition; ${faults[*]}; Primary $PRIMARY (${DOOR[$PRIMARY]})"
	promote
	"condition_$condition"
	moment 50 1000
	for fault in "${faults[@]}"; do
		"fault_$fault"
		moment 1 1500
	done
	check
}

hosts_begin
STATE=$SHARED/state
mkdir "$STATE"
: >"$WORK/marks"
say "torture: seed $SEED, $TORTURE_SECONDS seconds, $DRBDBOX"
RANDOM=$((SEED % 32768))
# Short timeouts, so that faults are noticed soon; small queues, so that they are full.
NET='ping-int 2; ping-timeout 10; timeout 15; connect-int 2;'
pick '' 'max-buffers 32;' 'max-buffers 128; max-epoch-size 16;' 'sndbuf-size 8k;' 'max-epoch-size 1;'
NET+=" $PICKED"
# Every write is flushed at the peer before the next: on a slow disk a resync, whose blocks wait behind an application's, is slow, too.
[ "$PICKED" != 'max-epoch-size 1;' ] || WAIT=$((3 * WAIT))
pick '' '' 'ko-count 2;' 'data-integrity-alg md5;'
NET+=" $PICKED"
pick '' 'csums-alg sha1;' 'use-rle;'
SYNCER="verify-alg md5; al-extents 7; on-no-data-accessible suspend-io; $PICKED"
pick C C C B A
PROTOCOL=$PICKED
say "protocol $PROTOCOL; net { $NET } syncer { $SYNCER }"
DISK_KIND=host_faulty_disk pair_up $MIB 1000M "$NET" "$SYNCER" 'on-io-error detach;' $PROTOCOL
DATA_BYTES=$(inside data01 'blockdev --getsize64 /dev/drbd0')
must data01 'drbdadm secondary r0'
for host in data01 data02; do
	watch_daemon $host
	DAEMON[$host]=$(pid_of $host)
	DOOR[$host]=fuse-loop
done
END=$((SECONDS + TORTURE_SECONDS))
ROUND=${TORTURE_ROUND:-0}
ROUNDS=0
while [ $SECONDS -lt $END ]; do
	[ -n "${TORTURE_ROUND:-}" ] || ROUND=$((ROUND + 1))
	round
	ROUNDS=$((ROUNDS + 1))
done
say "All $ROUNDS rounds held, in $SECONDS seconds (seed $SEED): nothing that was acknowledged is lost, and the disks are the same."
