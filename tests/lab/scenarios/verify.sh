# online verify, started by either side, finds what was changed behind DRBD's back, both count it; a reconnect repairs it
# spoil SIDE FIRST COUNT: blocks on the disk of a side.
spoil() { dd if=/dev/urandom of="$([ "$1" = box ] && echo "$BOX_DISK" || echo "$KERNEL_DISK")" bs=4k seek="$2" count="$3" conv=notrunc status=none; }
# found KB BLOCKS: both sides have finished, and agree.
found() {
	local side
	for side in box kernel; do
		until_on $side "[ \$(cs) = Connected ] && [ \$(oos) = $1 ]"
		logged $side "Online verify found $2 4k block"
		called $side 'out-of-sync minor-0' || die "$side did not call out-of-sync"
	done
}
for version in $(versions 88 95 97 101); do
	at "$version"
	for algorithm in md5 sha1 crc32c; do
		for side in kernel box; do
			situation "online verify started by the kernel, and repair, $algorithm" "$(role_of $side)"
			in_sync "verify-alg $algorithm;"
			on $side primary r0
			fill_on $side 0 64 good
			spoil "$(other $side)" 10 3
			spoil "$(other $side)" 50 1
			kernel 'drbdadm verify r0'
			found 16 4
			on kernel disconnect r0
			on kernel connect r0
			synced
			situation "online verify started by drbdbox, and repair, $algorithm" "$(role_of $side)"
			helpers
			spoil "$(other $side)" 20 3
			box verify r0
			found 12 3
			on box disconnect r0
			on box connect r0
			synced
			holds_on $side 0 64 good
			situation "online verify finds nothing, $algorithm" "$(role_of $side)"
			helpers
			on $side verify r0
			for node in box kernel; do
				logged $node 'Online verify *done'
				until_on $node '[ $(cs) = Connected ] && [ $(oos) = 0 ]'
				! called $node 'out-of-sync minor-0' || die "$node called out-of-sync"
			done
			on $side secondary r0
			equal
		done
	done
done
