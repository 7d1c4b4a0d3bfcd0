# drbdbox alone in the machine: its doors that are block devices pass their test; two nodes work through each, also with the system calls of Linux 2.6.18
# traffic: none
mkdir -p "$SHARE/bin"
for program in "$DRBDBOX" "$LAB_PROGRAMS/kernel_doors" "$LAB_PROGRAMS/kernel-floor"; do
	cp "$program" "$SHARE/bin/" || die "no $program: make test-lab builds it"
done
kernel 'rmmod drbd; modprobe fuse && modprobe loop && . /share/guest/pair.sh && programs'

# The door loads the module nbd itself.
for door in nbd nbd-ioctl fuse-loop; do
	situation "conformance of the door $door" none
	kernel "[ $door != nbd ] || ! grep ^nbd /proc/modules || exit 1
		DRBDBOX_TEST_DOOR=$door /tmp/bin/kernel_doors --show-output >/tmp/tested 2>&1 || { cat /tmp/tested; exit 1; }
		tail -n 3 /tmp/tested
		! grep SKIPPED /tmp/tested"
done

# failover DOOR UNDER: a file system goes from node to node; a node that was killed comes back.
# The two connections of a daemon that is killed end in any order, and the end of the second alone is logged as an error.
failover() {
	kernel ". /share/guest/pair.sh
		DOOR=$1 UNDER=$2
		programs && pair 40 || { told; exit 1; }
		(
			set -e
			admin a primary r0
			mkfs.ext3 -q /dev/drbd0
			mount /dev/drbd0 \$MOUNT
			files one
			before=\$(files_sum)
			umount \$MOUNT
			admin a secondary r0
			admin b primary r0
			mount /dev/drbd1 \$MOUNT
			[ \"\$(files_sum)\" = \"\$before\" ]
			ends a KILL
			files two
			before=\$(files_sum)
			serve a
			in_sync
			umount \$MOUNT
			admin b secondary r0
			admin a primary r0
			fsck.ext3 -fn /dev/drbd0
			mount /dev/drbd0 \$MOUNT
			[ \"\$(files_sum)\" = \"\$before\" ]
			umount \$MOUNT
			apart
		) || { told; exit 1; }
		! grep -E 'panicked|ERROR' \$PAIR/*/log | grep -v 'meta connection shut down by peer'"
}
for door in nbd fuse-loop; do
	situation "two nodes, failover, a killed daemon comes back: the door $door" none
	failover $door ""
done
situation "two nodes, failover, a killed daemon comes back: the door nbd with the system calls and ioctls of Linux 2.6.18" none
failover nbd /tmp/bin/kernel-floor
