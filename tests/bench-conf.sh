#!/bin/bash
# How long drbdadm takes for many resources, and how that grows: part of make bench. Needs no root and touches nothing.
# A line: command, resources, milliseconds by the clock and of processor time (the best of five each), and the ratio of
# the latter to that of half as many resources.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
DRBDBOX=${DRBDBOX:-$PWD/target/release/drbdbox}
WORK=$(mktemp -d) || exit 1
trap 'rm -rf "$WORK"' EXIT
export __DRBD_NODE__=data01 LC_ALL=C
ln -s "$DRBDBOX" "$WORK/drbdadm"
ln -s "$DRBDBOX" "$WORK/drbdadm-84"

# Resources that inherit from common, have options of their own and wait for each other.
configuration() {
	awk -v count="$1" 'BEGIN {
		print "global { disable-ip-verification; }"
		print "common { protocol C; syncer { rate 30M; } net { cram-hmac-alg sha1; shared-secret secret; }"
		print "  handlers { split-brain \"/bin/true\"; } }"
		for (i = 0; i < count; i++) {
			print "resource r" i " {\n  net { timeout 70; }"
			if (i) print "  syncer { after r" (i - 1) "; }"
			for (host = 1; host <= 2; host++)
				printf "  on data0%d { device /dev/drbd%d; disk /dev/vg/lv%d; address 10.1.1.%d:%d; meta-disk internal; }\n",
					host, i, i, host, 2000 + i
			print "}"
		}
	}'
}

# best FILE PROGRAM ARGUMENT...: milliseconds by the clock, and of processor time.
best() {
	local file=$1 program=$2 TIMEFORMAT='%R %U %S'
	shift 2
	for _ in 1 2 3 4 5; do
		{ time "$WORK/$program" -c "$file" "$@" >/dev/null 2>/dev/null; } 2>&1
	done | awk '{ cpu = $2 + $3 } NR == 1 || $1 < clock { clock = $1 } NR == 1 || cpu < least { least = cpu }
		END { printf "%.0f %.0f", clock * 1000, least * 1000 }'
}

for count in 500 1000 2000 4000; do
	configuration $count >"$WORK/$count.conf"
done
printf 'command\tresources\tms\tcpu ms\tratio\n'
while read -r program arguments; do
	before=
	for count in 500 1000 2000 4000; do
		# shellcheck disable=SC2086
		read -r clock took < <(best "$WORK/$count.conf" "$program" $arguments)
		ratio=-
		[ -z "$before" ] || ratio=$(awk -v a="$took" -v b="$before" 'BEGIN { if (b > 0) printf "%.2f", a / b; else print "-" }')
		printf '%s %s\t%d\t%s\t%s\t%s\n' "$program" "$arguments" "$count" "$clock" "$took" "$ratio"
		before=$took
	done
done <<'COMMANDS'
drbdadm dump all
drbdadm -d up all
drbdadm check
drbdadm-84 dump all
drbdadm-84 -d up all
COMMANDS
