# online resize: both disks grow, and the device, on the order of either side; and the first copy to a larger disk
lower() { quiet "modprobe dm_mod; dmsetup remove -f back; dmsetup create back --table '0 $1 linear /dev/data 0' && dmsetup mknodes"; }
LOWER=/dev/mapper/back

# grow ORDERING: both disks, then the device.
grow() {
	truncate -s 16M "$BOX_DISK"
	kernel "dmsetup suspend back; dmsetup load back --table '0 32768 linear /dev/data 0'; dmsetup resume back"
	if [ "$1" = kernel ]; then kernel 'drbdadm resize r0'; else box resize r0; fi
	kernel 'until_true 20 "[ \$(cat /sys/block/drbd0/size) -gt 32000 ]"'
	synced
}

for side in kernel box; do
	for version in $(versions 86 95 101); do
		at "$version"
		for role in Primary Secondary; do
			situation "online resize, ordered by $([ $side = kernel ] && echo the kernel || echo drbdbox)" $role
			SIZE=8M
			quiet 'drbdadm down r0' >/dev/null 2>&1
			lower 16384 || die "no device mapper in the machine"
			in_sync
			if [ $role = Primary ]; then
				kernel 'drbdadm primary r0 && fill 0 16 before'
				grow $side
				kernel 'fill 4000 4 after && drbdadm secondary r0'
				box primary r0
				holds 0 16 before && holds 4000 4 after || die "drbdbox does not have what was written"
				fill 4010 4 box
				box secondary r0
			else
				box primary r0
				fill 0 16 before
				grow $side
				await 10 '[ "$(blockdev --getsz "$DEVICE")" -gt 32000 ]'
				fill 4000 4 after
				box secondary r0
				kernel 'drbdadm primary r0 && holds 0 16 before && holds 4000 4 after && fill 4010 4 box && drbdadm secondary r0'
			fi
			equal
		done
	done
done
