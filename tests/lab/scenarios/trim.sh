# discards and zeroes through the device, and a thin resync (rs-discard-granularity), drbdbox with a file and with a loop device
# passes: kernel:P_TRIM kernel:P_ZEROES box:P_ZEROES kernel:P_RS_THIN_REQ box:P_RS_THIN_REQ kernel:P_RS_DEALLOCATED box:P_RS_DEALLOCATED
truncate -s "$SIZE" "$BOX_DISK"
LOOP=$(losetup --find --show "$BOX_DISK") || die "no loop device"
for BOX_LOWER in "$BOX_DISK" "$LOOP"; do
	situation "discard and write-zeroes, then a thin resync" Primary
	in_sync "" "rs-discard-granularity 65536; discard-zeroes-if-aligned yes;"
	kernel 'drbdadm primary r0 && fill 0 256 data'
	kernel 'blkdiscard -o 65536 -l 262144 /dev/drbd0 && blkdiscard -z -o 524288 -l 131072 /dev/drbd0'
	box disconnect r0
	kernel 'until_true 20 "[ \$(cs) = WFConnection ]" && blkdiscard -o 0 -l 1048576 /dev/drbd0 && fill 64 4 late'
	sync "$BOX_DISK"
	taken=$(stat -c %b "$BOX_DISK")
	box connect r0
	synced
	[ "$(stat -c %b "$BOX_DISK")" -lt $((taken - 1000)) ] || die "what is zeroes takes space on the target of a thin resync"
	kernel 'drbdadm secondary r0'
	situation "discard and write-zeroes, then a thin resync" Secondary
	box primary r0
	holds 64 4 late || die "drbdbox does not have what the kernel wrote"
	fill 0 256 box
	blkdiscard -o 65536 -l 262144 "$DEVICE" || die "drbdbox does not discard"
	blkdiscard -z -o 524288 -l 131072 "$DEVICE" || die "drbdbox does not write zeroes"
	kernel 'drbdadm disconnect r0'
	await 20 '[ "$(cs)" = WFConnection ]'
	blkdiscard -o 0 -l 1048576 "$DEVICE" || die "drbdbox does not discard alone"
	fill 70 4 later
	kernel 'drbdadm connect r0'
	synced
	box secondary r0
	equal
done
losetup --detach "$LOOP"
