#!/bin/bash
# make bench: speed and memory of two hosts with disks in memory, protocol C, as a table (TSV). Beside each figure the same
# load on the bare door: the same program without replication, on the same kind of disk; and the ratio of the two. Rows "/ none":
# with programs that follow the state, beside the same load without them.
# "least mirror": what the simplest program that writes everything twice makes of this machine, beside the same bare door.
# Arguments: --out FILE (default: standard output). Environment: RUNTIME, seconds of each load (5); BENCH_MIB (2048).

OUT=
if [ "${1:-}" = --out ]; then
	OUT=$(realpath "$2")
fi
# shellcheck source=lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
RUNTIME=${RUNTIME:-5}
BENCH_MIB=${BENCH_MIB:-2048}
FILES=2000
if [ "$(id -u)" -eq 0 ] && ! type -P fio >/dev/null; then
	say "missing: fio (Debian package fio)" >&2
	exit 77
fi
hosts_begin
TABLE=$WORK/bench.tsv
printf 'load\tdoor\tunit\treplicated\tbare\tratio\n' >"$TABLE"

# load NAME HOST TARGET: one fio load; RESULT is operations or MB a second. TARGET: a device or an NBD address.
load() {
	local name=$1 host=$2 target=$3 rw depth=1 block=4k engine=libaio where
	case $name in
	*rand*write*) rw=randwrite ;;
	*rand*read*) rw=randread ;;
	*write*) rw=write block=1M ;;
	esac
	case $name in
	*QD32) depth=32 ;;
	*QD4) depth=4 ;;
	esac
	case $target in
	nbd*) engine=nbd where="--uri=$target" ;;
	*) where="--filename=$target" ;;
	esac
	inside "$host" "fio --name=load --ioengine=$engine $where --rw=$rw --bs=$block --iodepth=$depth --direct=1 \
		--size=100% --randrepeat=1 --norandommap --time_based --ramp_time=1 --runtime=$RUNTIME \
		--output-format=terse --terse-version=3" </dev/null >"$WORK/fio.out" 2>"$WORK/fio.err" ||
		die "fio $name on $target: $(cat "$WORK/fio.err")"
	RESULT=$(awk -F ';' -v rw=$rw -v block=$block '$1 == 3 && $5 == 0 {
		iops = rw == "randread" ? $8 : $49; kib = $48
		if (block == "1M") printf "%.0f", kib * 1.024 / 1000; else printf "%.0f", iops
	}' "$WORK/fio.out")
	[ "${RESULT:-0}" -gt 0 ] || die "fio $name on $target: $(cat "$WORK/fio.err" "$WORK/fio.out")"
}

# row LOAD DOOR UNIT REPLICATED BARE
row() {
	local ratio=-
	[ "$5" = - ] || ratio=$(awk -v a="$4" -v b="$5" 'BEGIN { if (b > 0) printf "%.2f", a / b; else print "-" }')
	printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$5" "$ratio" | tee -a "$TABLE" >&2
}

LOADS=("4k random write QD1" "4k random write QD32" "1M sequential write QD4" "4k random read QD32")
unit_of() { case $1 in 1M*) printf 'MB/s' ;; *) printf 'ops/s' ;; esac; }

# small_files HOST DEVICE: the how-to's test: files of 20 kB made by dd, until they are on the disk; RESULT is files a second.
small_files() {
	inside "$1" "mkfs.ext3 -q $2 && mkdir -p /data && mount $2 /data" </dev/null >"$WORK/quiet.out" 2>&1 ||
		die "file system on $2: $(cat "$WORK/quiet.out")"
	local begin end
	begin=$(date +%s%N)
	quiet "$1" "for i in \$(seq $FILES); do dd if=/dev/zero of=/data/\$i count=20 bs=1000 2>/dev/null || exit 1; done
		sync -f /data" || die "small files on $2"
	end=$(date +%s%N)
	quiet "$1" 'umount /data' || die "umount: $(cat "$WORK/quiet.out")"
	RESULT=$((FILES * 1000000000 / (end - begin)))
}

# Resident memory of a host's daemon in MiB, and its processor time in clock ticks.
resident_mib() { inside "$1" 'awk "/^VmRSS/ { printf \"%.1f\", \$2 / 1024 }" /proc/$(cat /run/drbd/drbdd.pid)/status'; }
ticks() { inside "$1" 'awk "{ print \$14 + \$15 }" /proc/$(cat /run/drbd/drbdd.pid)/stat'; }

# bare_door KIND [PLACE]: opens it on data01's second disk; sets BARE to the device or address, BARE_PID to what ends it.
bare_door() {
	local tries=0
	: >"$WORK/bare.out"
	inside data01 "drbdbox bench-door $1 /dev/sdc1 ${2:-}" </dev/null >"$WORK/bare.out" 2>&1 &
	BARE_PID=$!
	until [ -s "$WORK/bare.out" ]; do
		tries=$((tries + 1))
		[ $tries -lt 100 ] && kill -0 $BARE_PID 2>/dev/null || die "the bare door: $(cat "$WORK/bare.out")"
		sleep 0.1
	done
	BARE=$(head -n 1 "$WORK/bare.out")
}
end_bench_doors() { # HOST
	quiet "$1" 'for p in /proc/[0-9]*; do case $(tr "\0" " " <$p/cmdline) in "drbdbox bench-door"*) kill ${p#/proc/} ;; esac; done'
}
close_bare_door() {
	end_bench_doors data01
	wait "$BARE_PID"
}

# What programs that follow the state cost the data path: in turns with and without them.
READERS=50
with_readers() { # LOAD TARGET
	local name=$1 turn without=0 with=0
	for turn in 1 2 3; do
		load "$name" data01 "$2"
		without=$((without + RESULT))
		quiet data01 "for i in \$(seq $READERS); do setsid drbdsetup events2 all --statistics >/dev/null 2>&1 </dev/null & echo \$!; done >/run/readers" ||
			die "readers of events2: $(cat "$WORK/quiet.out")"
		load "$name" data01 "$2"
		with=$((with + RESULT))
		quiet data01 'kill $(cat /run/readers)' || die "not all $READERS readers of events2 were left"
	done
	row "$name, $READERS readers of events2 / none" fuse-loop ops/s $((with / 3)) $((without / 3))
}

declare -A BARE_RESULT=() # of the door fuse-loop
compare() { # DOOR REPLICATED_TARGET BARE_TARGET
	local name replicated
	for name in "${LOADS[@]}"; do
		load "$name" data01 "$2"
		replicated=$RESULT
		load "$name" data01 "$3"
		row "$name" "$1" "$(unit_of "$name")" "$replicated" "$RESULT"
		[ "$1" != fuse-loop ] || BARE_RESULT[$name]=$RESULT
	done
}

# Disks that are there as a whole, as real ones are: a sparse file in memory gets its pages at the first write, which
# would be most of what a load measures, and more of it the fewer times the load goes over the disk.
for disk in data01-sdb1 data02-sdb1 data01-sdc1; do
	dd if=/dev/zero of="$WORK/$disk.img" bs=1M count="$BENCH_MIB" status=none || die "no memory for $disk"
done
host_disk data01 sdc1 "$BENCH_MIB"
host_disk data02 sdc1 "$BENCH_MIB"
pair_up "$BENCH_MIB" 4000M
row "resynchronisation" - MB/s $((BENCH_MIB * 1048576 / ((SYNC_ENDED - SYNC_BEGAN) / 1000) )) -

bare_door fuse-loop
compare fuse-loop /dev/drbd0 "$BARE"
small_files data01 /dev/drbd0
REPLICATED=$RESULT
small_files data01 "$BARE"
row "$FILES small files" fuse-loop files/s "$REPLICATED" "$RESULT"
close_bare_door
with_readers "4k random write QD1" /dev/drbd0
with_readers "4k random write QD32" /dev/drbd0

sleep 2
before=$(ticks data01)
sleep 10
row "processor time when idle, Primary" fuse-loop ms/s "$((($(ticks data01) - before) * 1000 / $(getconf CLK_TCK) / 10))" -
row "resident memory, Primary" fuse-loop MiB "$(resident_mib data01)" -
row "resident memory, Secondary" - MiB "$(resident_mib data02)" -

# The same hosts again, with the other door.
quiet data01 '/etc/init.d/drbd stop; echo "DRBDD_OPTIONS=\"--door nbd-server\"" > /etc/default/drbd; /etc/init.d/drbd start' ||
	die "start with the other door: $(cat "$WORK/quiet.out")"
await 60 data01 "$IN_SYNC"
quiet data01 'drbdadm primary r0' || die "primary: $(cat "$WORK/quiet.out")"
bare_door nbd-server /run/bare.sock
compare nbd-server 'nbd+unix:///r0?socket=/run/drbd/nbd.sock' "$BARE"
close_bare_door
row "resident memory, Primary" nbd-server MiB "$(resident_mib data01)" -

# Last, for its second disk is memory that the others would lack. What is written later is memory that is there, as with the
# disks that were synchronised.
quiet data02 'dd if=/dev/zero of=/dev/sdc1 bs=1M oflag=direct; blockdev --flushbufs /dev/sdc1'
: >"$WORK/peer.out"
inside data02 "drbdbox bench-door mirror-peer /dev/sdc1 $SLAVE:9999" </dev/null >"$WORK/peer.out" 2>&1 &
PEER_PID=$!
until [ -s "$WORK/peer.out" ]; do
	kill -0 $PEER_PID 2>/dev/null || die "the peer of the least mirror: $(cat "$WORK/peer.out")"
	sleep 0.1
done
bare_door mirror "$SLAVE:9999"
for name in "4k random write QD1" "1M sequential write QD4"; do
	load "$name" data01 "$BARE"
	row "$name" "least mirror" "$(unit_of "$name")" "$RESULT" "${BARE_RESULT[$name]}"
done
close_bare_door
end_bench_doors data02
wait $PEER_PID

if [ -n "$OUT" ]; then
	cp "$TABLE" "$OUT"
	say "the table is in $OUT" >&2
else
	cat "$TABLE"
fi
