# a node without its disk reads and writes through its peer, and takes the disk back
in_sync
kernel 'drbdadm primary r0 && fill 0 16 local && drbdadm detach r0 && holds 0 16 local && fill 8 4 remote'
kernel 'dd if=/dev/urandom of=/dev/drbd0 bs=512 seek=999 count=5 oflag=direct status=none; drbdadm attach r0'
synced
kernel 'holds 8 4 remote && drbdadm secondary r0'
box primary r0
fill 0 16 mine
box detach r0
holds 0 16 mine || die "drbdbox does not read through the kernel"
fill 8 4 far
dd if=/dev/urandom of="$DEVICE" bs=512 seek=1199 count=5 oflag=direct status=none || die "drbdbox does not write through the kernel"
box attach r0
synced
holds 8 4 far || die "drbdbox does not have what it wrote through the kernel"
kernel 'drbdadm detach r0'
fill 300 8 one
kernel 'drbdadm attach r0'
synced
box secondary r0
kernel 'drbdadm primary r0'
box detach r0
kernel 'fill 310 4 two'
box attach r0
synced
kernel 'drbdadm secondary r0'
equal
