# drbdbox alone in the machine: a file system on the door nbd goes on when the daemon is killed and started again, or sees errors if the data may be others
# traffic: none
mkdir -p "$SHARE/bin"
cp "$DRBDBOX" "$SHARE/bin/"
kernel 'rmmod drbd; . /share/guest/pair.sh && programs'

# mounted COMMANDS: what happens on two nodes after the daemon of a, the Primary, was killed under a program that writes to the
# file system on its device.
mounted() {
	kernel ". /share/guest/pair.sh
		DOOR=nbd
		dmesg -C
		pair 40 || { told; exit 1; }
		(
			set -e
			admin a primary r0
			mkfs.ext3 -q /dev/drbd0
			mount /dev/drbd0 \$MOUNT
			files one
			writes &
			writer=\$!
			until_true 30 '[ \$(written) -ge 5 ]'
			ends a KILL
			$1
		) || { told; dmesg | tail -n 20; exit 1; }
		! grep -E 'panicked' \$PAIR/*/log"
}

situation "the daemon of a Primary is killed and started again: its file system goes on, without an error" none
mounted '
	before=$(written)
	serve a
	await a 60 ro:Primary
	until_true 60 "[ \$(written) -ge $((before + 20)) ]"
	enough
	wait $writer
	dmesg >$PAIR/kernel
	fails grep -E "I/O error|Aborting journal|EXT[34]-fs error" $PAIR/kernel
	in_sync
	before=$(files_sum)
	umount $MOUNT
	admin a secondary r0
	admin b primary r0
	fsck.ext3 -fn /dev/drbd1
	mount /dev/drbd1 $MOUNT
	[ "$(files_sum)" = "$before" ]
	umount $MOUNT
	apart'

# over: the program, and whoever reads the file system on a, have seen errors; a has none of the old device.
over='
	fails wait $writer
	echo 3 >/proc/sys/vm/drop_caches
	fails cat $MOUNT/one-1
	umount $MOUNT
	fails grep drbd0- /sys/block/nbd*/backend'

for then in 'umount $MOUNT.b; admin b secondary r0' :; do
	situation "the peer was Primary meanwhile, and $([ "$then" = : ] && echo still is || echo is no more): the file system sees errors, and no other data" none
	mounted '
	await b 30 WFConnection
	admin b primary r0
	mkdir -p $MOUNT.b
	mount /dev/drbd1 $MOUNT.b
	echo other >$MOUNT.b/one-1
	sync -f $MOUNT.b
	'"$then"'
	serve a
	await a 60 "Connected ro:Secondary/.* ds:UpToDate/UpToDate"
	'"$over"'
	if mountpoint -q $MOUNT.b; then umount $MOUNT.b; fi
	admin b primary r0
	fsck.ext3 -fn /dev/drbd1
	apart'
done

situation "the peer is out of reach: the file system sees errors" none
mounted '
	ends b KILL
	serve a
	until_true 60 "grep -q cannot.be.asked $PAIR/a/log"
	[ "$(state a | grep -c ro:Secondary)" = 1 ]
	'"$over"'
	serve b
	in_sync
	apart'
