#!/bin/bash
# Kills daemons and hosts at random moments of a write load and checks that nothing which was acknowledged is lost, and
# that both disks hold the same afterwards.
# Environment: ROUNDS (10), SEED (the time; it is printed, but the moments also depend on the machine).

# shellcheck source=lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
ROUNDS=${ROUNDS:-10}
SEED=${SEED:-$(date +%s)}
RANDOM=$SEED
THREADS=4
STATE=
hosts_begin
STATE=$SHARED/state
mkdir "$STATE"
say "seed $SEED, $ROUNDS rounds"
# Short timeouts, so that a host without power is noticed soon.
pair_up 64 1000M 'ping-int 1; ping-timeout 5; timeout 10; connect-int 1;'
DATA_BYTES=$(inside data01 'blockdev --getsize64 /dev/drbd0')
PRIMARY=data01
SECONDARY=data02

# A moment between the two numbers of milliseconds.
moment() {
	local ms=$(($1 + RANDOM % ($2 - $1)))
	sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
}

must() {
	quiet "$@" || die "exit status $? of '${*:2}' on $1: $(cat "$WORK/quiet.out")"
}

start_writer() {
	inside $PRIMARY "write-checker write /dev/drbd0 $STATE $1 $THREADS" </dev/null >"$WORK/writer.out" 2>&1 &
	WRITER=$!
}

# end_writer STATUS...: it must end with one of them.
end_writer() {
	local status=0 expected
	wait $WRITER || status=$?
	printf "  %s" "$(grep -v Killed "$WORK/writer.out")"
	for expected; do
		[ $status -ne "$expected" ] || return 0
	done
	die "the writer ended with $status: $(cat "$WORK/writer.out")"
}

verify() {
	must "$1" "write-checker verify /dev/drbd0 $STATE"
	printf '; %s: %s' "$1" "$(cat "$WORK/quiet.out")"
}

kill_daemon() { must "$1" 'kill -9 $(cat /run/drbd/drbdd.pid)'; }
start_daemon() { must "$1" '/etc/init.d/drbd start'; }
swap_names() { local host=$PRIMARY; PRIMARY=$SECONDARY SECONDARY=$host; }

fail_over() {
	await 20 $SECONDARY "grep -qE 'cs:(WFConnection|StandAlone)' $PROC"
	must $SECONDARY 'drbdadm primary r0'
	swap_names
}

for ((round = 1; round <= ROUNDS; round++)); do
	began=$SECONDS
	case $((RANDOM % 5)) in
	0)
		say "round $round: the daemon of the Secondary ($SECONDARY) is killed"
		start_writer 3
		moment 100 1500
		kill_daemon $SECONDARY
		moment 1 500
		start_daemon $SECONDARY
		end_writer 0
		;;
	1)
		say "round $round: the daemon of the Primary ($PRIMARY) is killed and comes back"
		start_writer 30
		moment 100 1500
		kill_daemon $PRIMARY
		end_writer 3
		start_daemon $PRIMARY
		must $PRIMARY 'drbdadm primary r0'
		verify $PRIMARY
		;;
	2)
		say "round $round: the daemon of the Primary ($PRIMARY) is killed, the other host takes over"
		start_writer 30
		moment 100 1500
		kill_daemon $PRIMARY
		end_writer 3
		fail_over
		verify $PRIMARY
		start_daemon $SECONDARY
		;;
	3)
		say "round $round: the Primary ($PRIMARY) loses its power, the other host takes over"
		start_writer 30
		moment 100 1500
		host_off $PRIMARY
		end_writer 137 143 129 255
		fail_over
		verify $PRIMARY
		host_on $SECONDARY
		start_daemon $SECONDARY
		;;
	4)
		say "round $round: the Secondary ($SECONDARY) loses its power"
		start_writer 5
		moment 100 1500
		host_off $SECONDARY
		moment 1 1000
		host_on $SECONDARY
		start_daemon $SECONDARY
		end_writer 0
		;;
	esac
	await 30 $PRIMARY "$IN_SYNC"
	verify $PRIMARY
	must $PRIMARY 'drbdadm secondary r0'
	cmp -n "$DATA_BYTES" "$(disk_file data01 sdb1)" "$(disk_file data02 sdb1)" || die "the two disks differ"
	must $SECONDARY 'drbdadm primary r0'
	swap_names
	verify $PRIMARY
	say "; $((SECONDS - began)) s"
done
say "All $ROUNDS rounds held, in $SECONDS seconds: nothing that was acknowledged is lost, and the disks are the same."
