#!/bin/bash
# How long drbdmeta takes for a disk of 16 TiB: part of make bench. Needs no root; the disk is a sparse file in memory.
# A line: command, activity log (slots in use), seconds by the clock and of processor time, MiB of memory at the most
# ("-" without GNU time, Debian package time).

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
DRBDBOX=${DRBDBOX:-$PWD/target/release/drbdbox}
HOT_LOG=${HOT_LOG:-$PWD/target/release/examples/hot-log}
[ "$(stat -f -c %T /dev/shm)" = tmpfs ] || { echo "bench-meta.sh: no tmpfs on /dev/shm" >&2; exit 77; }
WORK=$(mktemp -d /dev/shm/drbdbox-meta.XXXXXX) || exit 1
trap 'rm -rf "$WORK"' EXIT
export LC_ALL=C
ln -s "$DRBDBOX" "$WORK/drbdmeta"
disk=$WORK/disk

# row COMMAND LOG ARGUMENT...: runs drbdmeta on the disk and prints a line.
row() {
	local command=$1 log=$2 TIMEFORMAT='%R %U %S' status=0
	shift 2
	local call=("$WORK/drbdmeta" --force 0 v08 "$disk" internal "$command" "$@")
	[ -x /usr/bin/time ] && call=(/usr/bin/time -o "$WORK/memory" -f %M "${call[@]}")
	{ time "${call[@]}" >"$WORK/output" 2>&1; } 2>"$WORK/time" || status=$?
	if [ $status -ne 0 ]; then
		cat "$WORK/output" >&2
		exit 1
	fi
	awk -v command="$command" -v which="$log" -v memory="$(tail -n 1 "$WORK/memory" 2>/dev/null)" '
		{ printf "%s\t%s\t%.2f\t%.2f\t%s\n", command, which, $1, $2 + $3, memory ? sprintf("%.1f", memory / 1024) : "-" }' "$WORK/time"
}

printf 'drbdmeta\tactivity log\ts\tcpu s\tMiB\n'
while read -r name stripes; do
	rm -f "$disk"
	truncate -s 16T "$disk" || exit 1
	# shellcheck disable=SC2086 # words
	row create-md "$name" $stripes
	slots=$("$HOT_LOG" "$disk") || exit 1
	row apply-al "$name, $slots slots"
	"$WORK/drbdmeta" 0 v08 "$disk" internal dump-md | grep 0xFFFFFFFFFFFFFFFF >"$WORK/marked" || { echo "apply-al marked nothing" >&2; exit 1; }
done <<-END
	classic
	2x160k --al-stripes 2 --al-stripe-size-kB 160
	32x1M --al-stripes 32 --al-stripe-size-kB 1024
END
