# disks of different sizes meet; resize with --assume-clean and to a smaller size; new-current-uuid --clear-bitmap from drbdbox
# planted: error receiving
LOWER=/dev/mapper/back
lower() {
	quiet "drbdadm down r0; modprobe dm_mod; dmsetup remove -f back; dmsetup create back --table '0 $1 linear /dev/data 0' && dmsetup mknodes" >/dev/null ||
		die "no device mapper in the machine"
}
size_is() { until_on "$1" "[ \$(device_sectors) $2 ]"; }
# From either side, across both halves of the device.
use_both() {
	kernel "drbdadm primary r0 && fill 0 16 one && fill $1 8 two && drbdadm secondary r0"
	box primary r0
	holds 0 16 one && holds "$1" 8 two || die "drbdbox does not have what the kernel wrote"
	fill 8 16 three
	fill $(($1 + 4)) 4 four
	box secondary r0
	equal
}
for version in $(versions 86 95 101); do
	at "$version"
	situation "the disk of drbdbox is larger" both
	SIZE=16M
	lower 16384
	in_sync
	size_is kernel '-lt 16384'
	use_both 2000
	situation "the disk of drbdbox is smaller" both
	SIZE=8M
	lower 32768
	in_sync
	size_is kernel '-lt 16384'
	use_both 2000
	for side in kernel box; do
		whose=$([ $side = box ] && echo "the kernel" || echo drbdbox)
		situation "a Primary in use meets a smaller disk, that of $whose, and refuses it" "$(role_of $side)"
		if [ $side = kernel ]; then SIZE=8M && lower 32768; else SIZE=16M && lower 16384; fi
		prepared
		on $side up r0
		if [ $side = kernel ]; then kernel 'drbdadm primary --force r0'; else box -- --force primary r0; fi
		fill_on $side 0 16 one
		fill_on $side 3000 4 two
		on "$(other $side)" up r0
		until_on $side '[ $(cs) = StandAlone ]'
		logged $side 'disk size is too small'
		holds_on $side 3000 4 two
		on $side secondary r0
	done
	for side in kernel box; do
		# Before version 90 the first copy cannot be left out.
		[ "$version" -ge 90 ] || continue
		situation "new-current-uuid --clear-bitmap at $([ $side = box ] && echo drbdbox || echo "the kernel"): no first copy" both
		SIZE=16M
		lower 32768
		fresh
		on $side new-current-uuid --clear-bitmap r0
		synced
		! grep -q 'Began resync' "$LOG" || die "something was copied"
		use_both 3000
		for role in kernel box; do
			situation "resize --assume-clean, ordered by $([ $side = box ] && echo drbdbox || echo "the kernel")" "$(role_of $role)"
			SIZE=8M
			lower 16384
			in_sync
			on $role primary r0
			fill_on $role 0 16 before
			truncate -s 16M "$BOX_DISK"
			kernel "dmsetup suspend back; dmsetup load back --table '0 32768 linear /dev/data 0'; dmsetup resume back"
			on $side -- --assume-clean resize r0
			size_is kernel '-gt 32000'
			synced
			! grep -q 'Began resync' "$LOG" || die "the new part was copied"
			# Where the meta data were, the two disks differ: that much is not clean.
			fill_on $role 2030 24 over
			fill_on $role 3900 8 after
			on $role secondary r0
			use_both 3500
		done
		for role in kernel box; do
			situation "resize to a smaller size, ordered by $([ $side = box ] && echo drbdbox || echo "the kernel")" "$(role_of $role)"
			SIZE=16M
			lower 32768
			in_sync
			on $role primary r0
			fill_on $role 0 16 before
			on $side -- --size=8M resize r0
			size_is $role '-eq 16384'
			synced
			fill_on $role 2040 8 after
			on $role secondary r0
			use_both 1900
		done
	done
done
