# a node without its disk reads and writes through its peer, and takes the disk back
for version in $(versions 86 95 101); do
	at "$version"
	situation "a Primary without its disk reads and writes through its peer, and takes the disk back" Primary
	in_sync
	kernel 'drbdadm primary r0 && fill 0 16 local && drbdadm detach r0 && holds 0 16 local && fill 8 4 remote'
	kernel 'dd if=/dev/urandom of=/dev/drbd0 bs=512 seek=999 count=5 oflag=direct status=none; drbdadm attach r0'
	synced
	kernel 'holds 8 4 remote && drbdadm secondary r0'
	situation "a Primary without its disk reads and writes through its peer, and takes the disk back" Secondary
	box primary r0
	fill 0 16 mine
	box detach r0
	holds 0 16 mine || die "drbdbox does not read through the kernel"
	fill 8 4 far
	dd if=/dev/urandom of="$DEVICE" bs=512 seek=1199 count=5 oflag=direct status=none || die "drbdbox does not write through the kernel"
	box attach r0
	synced
	holds 8 4 far || die "drbdbox does not have what it wrote through the kernel"
	situation "a Secondary without its disk, and with it again" Secondary
	kernel 'drbdadm detach r0'
	fill 300 8 one
	kernel 'drbdadm attach r0'
	synced
	box secondary r0
	situation "a Secondary without its disk, and with it again" Primary
	kernel 'drbdadm primary r0'
	box detach r0
	kernel 'fill 310 4 two'
	box attach r0
	synced
	kernel 'drbdadm secondary r0'
	equal
done
