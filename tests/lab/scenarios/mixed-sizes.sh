# a load of writes from 512 bytes to 1 MiB at any sector, with flushes, read back and compared by fio, and then on the other side
sum_on() { if [ "$1" = box ]; then sum 0 4080; else quiet 'sum 0 4080'; fi; }
for version in $(versions 86 95 101); do
	at "$version"
	for side in kernel box; do
		situation "writes of 512 bytes to 1 MiB at any sector, with fsync, verified" "$(role_of $side)"
		in_sync
		on $side primary r0
		if [ $side = kernel ]; then kernel 'verified_writes'; else verified_writes || die "fio found other data"; fi
		# An interrupted connection in the middle of such a load, and the resync that makes good for it.
		situation "writes of 512 bytes to 1 MiB at any sector, while the peer leaves and comes back, verified" "$(role_of $side)"
		# What it has written, or received, in KiB.
		amount=$([ $side = kernel ] && echo nr || echo dw)
		written=$(counter $amount)
		if [ $side = kernel ]; then quiet 'verified_writes 97' & else verified_writes 97 & fi
		WRITER=$!
		await 60 "[ \$(counter $amount) -gt $((written + 1000)) ]"
		on "$(other $side)" disconnect r0
		on "$(other $side)" connect r0
		wait $WRITER || die "fio found other data"
		synced
		written=$(sum_on $side)
		on $side secondary r0
		on "$(other $side)" primary r0
		[ "$(sum_on "$(other $side)")" = "$written" ] || die "the two sides read different data"
		on "$(other $side)" secondary r0
		equal
	done
done
