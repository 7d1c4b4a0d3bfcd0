# discards and zeroes through the device, and a thin resync (rs-discard-granularity)
# passes: kernel:P_TRIM kernel:P_ZEROES box:P_TRIM box:P_ZEROES kernel:P_RS_THIN_REQ box:P_RS_THIN_REQ kernel:P_RS_DEALLOCATED box:P_RS_DEALLOCATED
THIN='rs-discard-granularity 65536; discard-zeroes-if-aligned yes;'
situation "discard and write-zeroes, then a thin resync" Primary
in_sync "" "$THIN"
kernel 'drbdadm primary r0 && fill 0 256 data'
kernel 'blkdiscard -o 65536 -l 262144 /dev/drbd0 && blkdiscard -z -o 524288 -l 131072 /dev/drbd0'
box disconnect r0
kernel 'until_true 20 "[ \$(cs) = WFConnection ]" && blkdiscard -o 0 -l 1048576 /dev/drbd0 && fill 64 4 late'
taken=$(stat -c %b "$BOX_DISK")
box connect r0
synced
[ "$(stat -c %b "$BOX_DISK")" -lt $((taken - 1000)) ] || die "what is zeroes takes space on the target of a thin resync"
kernel 'drbdadm secondary r0'
box primary r0
holds 64 4 late || die "drbdbox does not have what the kernel wrote"
box secondary r0
equal
situation "discard and write-zeroes, then a thin resync" Secondary
# A file offers no discard to the application, a loop device does.
BOX_LOWER=$(losetup --find --show "$BOX_DISK") || die "no loop device"
in_sync "" "$THIN"
box primary r0
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
losetup --detach "$BOX_LOWER"
