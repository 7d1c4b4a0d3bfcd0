# allow-two-primaries: both write, at different places and then to the same blocks at the same time
# planted: Concurrent writes detected|concurrent write
for version in $(versions 95 97 101); do
	at "$version"
	situation "two Primaries, writes to different and to the same blocks" both
	in_sync "allow-two-primaries yes;"
	kernel 'drbdadm primary r0'
	box primary r0
	kernel 'fill 0 8 kernels' &
	other=$!
	fill 100 8 ours
	wait $other || die "the kernel cannot write"
	kernel 'holds 0 8 kernels && holds 100 8 ours'
	holds 0 8 kernels && holds 100 8 ours || die "drbdbox does not read what was written"
	overlapping="--rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=8 --offset=1m --size=64k --io_size=2m --minimal"
	kernel "fio --name=w --filename=/dev/drbd0 $overlapping --buffer_pattern=0x11 >/dev/null" &
	other=$!
	# shellcheck disable=SC2086 # words
	fio --name=w --filename="$DEVICE" $overlapping --buffer_pattern=0x22 >/dev/null || die "drbdbox cannot write"
	wait $other || die "the kernel cannot write at the same time"
	settled
	[ "$(sum 256 16)" = "$(quiet 'sum 256 16')" ] || die "the two sides read different data"
	[ "$(cs)" = Connected ] || die "the connection was lost"
	kernel '[ $(cs) = Connected ] && drbdadm secondary r0'
	box secondary r0
	equal
done
