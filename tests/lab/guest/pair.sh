# shellcheck shell=sh
# Two nodes of drbdbox in the machine, a and b, each with a daemon and files of its own in $PAIR; /dev/drbd0 is a's, /dev/drbd1
# b's. DOOR: how applications get in. UNDER: a program that starts those of drbdbox (kernel-floor), or nothing.
PAIR=/tmp/pair
BIN=/tmp/bin
MOUNT=/tmp/mount

# programs: those of drbdbox, from the host, at $BIN.
programs() {
	mkdir -p $BIN
	cp /share/bin/* $BIN/
	for name in drbdadm drbdsetup drbdmeta drbdd; do
		printf '#!/bin/sh\nexec %s %s/drbdbox %s "$@"\n' "${UNDER:-env}" $BIN $name >$BIN/$name
		chmod +x $BIN/$name
	done
}

# on NODE WORD...: a program as this node calls it.
on() (
	export PATH=$BIN:$PATH __DRBD_NODE__="$1" DRBDBOX_RUNDIR=$PAIR/$1/run DRBDBOX_LIBDIR=$PAIR/$1/lib DRBDBOX_LOCKDIR=$PAIR/$1/lock
	shift
	exec "$@"
)
admin() {
	node=$1
	shift
	# It says that it pretends to be the node.
	on "$node" drbdadm -c $PAIR/drbd.conf "$@" 2>$PAIR/said || { cat $PAIR/said; echo "$node: drbdadm $* failed"; return 1; }
}
state() { sed -n "s/^ *[01]: \(cs:[^ ]* ro:[^ ]* ds:[^ ]*\).*/\1/p" "$PAIR/$1/run/proc"; }
await() { until_true "$2" "state $1 | grep -q -E '$3'" || { echo "$1 is $(state "$1"), not $3"; return 1; }; }
in_sync() { await a 60 'Connected .* ds:UpToDate/UpToDate' && await b 60 'Connected .* ds:UpToDate/UpToDate'; }

serve() {
	on "$1" drbdd --foreground --door "$DOOR" >>"$PAIR/$1/log" 2>&1 &
	until_true 30 "on $1 drbdsetup proc"
}
pid() { cat "$PAIR/$1/run/drbdd.pid"; }
# ends NODE SIGNAL: its daemon is gone.
ends() {
	ended=$(pid "$1")
	kill "-$2" "$ended"
	until_true 30 "! kill -0 $ended"
}

# pair MIB [OPTIONS]: both nodes Connected and UpToDate. OPTIONS of the resource.
pair() {
	rm -rf $PAIR
	for node in a b; do
		mkdir -p $PAIR/$node/run $PAIR/$node/lib $PAIR/$node/lock
		truncate -s "$1M" $PAIR/$node/disk
	done
	mkdir -p $MOUNT
	cat >$PAIR/drbd.conf <<-CONFIGURATION
		global { usage-count no; }
		resource r0 {
		  protocol C;
		  meta-disk internal;
		  syncer { rate 100M; }
		  ${2:-}
		  on a { device /dev/drbd0; disk $PAIR/a/disk; address 127.0.0.1:7001; }
		  on b { device /dev/drbd1; disk $PAIR/b/disk; address 127.0.0.1:7002; }
		}
	CONFIGURATION
	for node in a b; do
		admin $node create-md r0 >/dev/null && serve $node && admin $node up r0 || return 1
	done
	await a 30 cs:Connected && await b 30 cs:Connected || return 1
	admin a -- --clear-bitmap new-current-uuid r0 && in_sync
}

# files SEED: eight files of 200 kB on the mounted file system. files_sum: what is there.
files() {
	for file in 1 2 3 4 5 6 7 8; do
		blocks "$file" 50 "$1" >"$MOUNT/$1-$file" || return 1
	done
	sync -f $MOUNT
}
files_sum() { (cd $MOUNT && sha1sum -- *-* | sha1sum); }

# apart: both daemons end in order, and the disks are the same.
apart() {
	for node in a b; do
		admin $node secondary r0 && admin $node down r0 && ends $node TERM || return 1
	done
	cmp -n $(($(stat -c %s $PAIR/a/disk) - 262144)) $PAIR/a/disk $PAIR/b/disk
}
# What the daemons said, for a failure.
told() { tail -n 40 $PAIR/a/log $PAIR/b/log; }

# writes: a file after the other, each durable before the next, until `enough`. written: how many there are.
writes() {
	rm -f $PAIR/enough $PAIR/written
	count=0
	until [ -e $PAIR/enough ]; do
		blocks 0 10 "many-$count" >$MOUNT/many-$count && sync -d $MOUNT/many-$count || return 1
		count=$((count + 1))
		echo $count >$PAIR/count
		mv $PAIR/count $PAIR/written
	done
}
written() { cat $PAIR/written 2>/dev/null || echo 0; }
enough() { : >$PAIR/enough; }
