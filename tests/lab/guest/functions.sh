# shellcheck shell=sh
# Functions of both sides, for sh and bash. PROC: the text of /proc/drbd. DEVICE: /dev/drbd0. MINOR: 0, or what the caller sets.
cs() { sed -n "s/^ *${MINOR:-0}: cs:\([^ ]*\).*/\1/p" "$PROC"; }
ds() { sed -n "s/^ *${MINOR:-0}: .* ds:\([^ ]*\).*/\1/p" "$PROC"; }
# Whether the device starts no application I/O.
frozen() { grep -q '^ *0: .* ds:[^ ]* [ABC] s' "$PROC"; }
oos() { sed -n 's/.* oos:\([0-9]*\).*/\1/p' "$PROC"; }
counter() { sed -n "/^ *0: /{n;s/.* $1:\([0-9]*\).*/\1/p;}" "$PROC"; }

until_true() {
	tries=$(($1 * 10))
	until eval "$2" >/dev/null 2>&1; do
		[ $tries -gt 0 ] || return 1
		tries=$((tries - 1))
		sleep 0.1
	done
}

# blocks FIRST COUNT SEED: blocks of 4 KiB, each a line of text, repeated.
blocks() {
	awk -v first="$1" -v count="$2" -v seed="$3" 'BEGIN {
		for (b = first; b < first + count; b++) {
			line = sprintf("seed %8s block %12d ........................\n", seed, b)
			text = ""
			for (i = 0; i < 80; i++) text = text line
			printf "%s", substr(text, 1, 4096)
		} }'
}
fill() { blocks "$@" | dd of="$DEVICE" bs=4096 seek="$1" iflag=fullblock oflag=direct conv=notrunc status=none; }
sum() { dd if="$DEVICE" bs=4096 skip="$1" count="$2" iflag=direct status=none | sha1sum | cut -d ' ' -f 1; }
sum_of() { blocks "$@" | sha1sum | cut -d ' ' -f 1; }
# holds FIRST COUNT SEED: whether the device has what fill wrote.
holds() { [ "$(sum "$1" "$2")" = "$(sum_of "$1" "$2" "$3")" ]; }

# random_writes [FIO OPTION...]: 1 MiB of writes of 4 KiB, sixteen at a time, with flushes.
random_writes() {
	fio --name=w --filename="$DEVICE" --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=16 --offset=4m --size=4m \
		--minimal "${@:---io_size=1m}" >/dev/null
}
# load SECONDS
load() { random_writes --time_based --runtime="$1"; }
# Odd sizes and places, big ones, synchronous ones.
mixed_writes() {
	fill 0 64 one &&
		dd if=/dev/urandom of="$DEVICE" bs=512 seek=801 count=3 oflag=direct status=none &&
		dd if=/dev/urandom of="$DEVICE" bs=1M seek=9 count=2 oflag=direct status=none &&
		dd if=/dev/urandom of="$DEVICE" bs=4096 seek=600 count=4 oflag=direct,dsync status=none &&
		random_writes --io_size=1m --fsync=8
}
# The size of the device. A Secondary of the kernel's cannot be opened; drbdbox's is not in /sys.
device_sectors() { cat /sys/block/drbd0/size 2>/dev/null || blockdev --getsz "$DEVICE"; }
# verified_writes [SEED]: writes of many sizes; fio reads them back and compares.
verified_writes() {
	fio --name=v --filename="$DEVICE" --rw=randwrite --direct=1 --ioengine=libaio --iodepth=8 --fsync=5 --size=15m \
		--bssplit=512/20:1k/10:1536/10:4k/20:4608/10:64k/10:131584/10:512k/5:1m/5 --randseed="${1:-42}" \
		--verify=crc32c --verify_state_save=0 --verify_fatal=1 --do_verify=1 --minimal >/dev/null
}
