# the disk of either side fails, as Primary and as Secondary: on-io-error detach, pass_on, call-local-io-error; it comes back
# planted: error|failed
LOWER=/dev/mapper/back
# The disk of drbdbox is a loop device: without its file's bytes it neither reads nor writes.
truncate -s 16M "$BOX_DISK"
BOX_LOWER=$(losetup --find --show "$BOX_DISK") || die "no loop device"
# The end, with internal meta data, fails too, but for pass_on: without meta data every disk is detached.
broken() {
	if [ "$1" = box ]; then
		sync "$BOX_DISK"
		cp "$BOX_DISK" "$WORK/saved"
		truncate -s 4096 "$BOX_DISK"
		losetup --set-capacity "$BOX_LOWER"
	elif [ $policy = pass_on ]; then
		kernel 'dmsetup suspend --noflush back; printf "0 32256 error\n32256 512 linear /dev/data 32256\n" | dmsetup load back; dmsetup resume back'
	else
		kernel 'dmsetup suspend --noflush back; dmsetup load back --table "0 32768 error"; dmsetup resume back'
	fi
}
healed() {
	if [ "$1" = box ]; then
		cat "$WORK/saved" >"$BOX_DISK"
		losetup --set-capacity "$BOX_LOWER"
	else
		kernel 'dmsetup suspend --noflush back; dmsetup load back --table "0 32768 linear /dev/data 0"; dmsetup resume back'
	fi
}
whose() { if [ "$1" = box ]; then echo "drbdbox's"; else echo "the kernel's"; fi; }
# Until the disk of SIDE is in this state, on both sides.
disk_is() {
	until_on "$1" "[ \$(ds) = $2/UpToDate ]"
	until_on "$(other "$1")" "[ \$(ds) = UpToDate/$2 ]"
}
# The disk that failed is used again.
returns() {
	healed $side
	called_if_wanted
	# An Inconsistent disk stays so until its next handshake; and a Primary cannot leave the peer, which has the only good data.
	[ $policy != pass_on ] || on $side detach r0
	on $side attach r0
	synced
}
called_if_wanted() {
	if [ $policy = call-local-io-error ]; then
		called $side 'local-io-error minor-0' || die "local-io-error was not called"
	else
		! called $side 'local-io-error minor-0' || die "local-io-error was called"
	fi
}
for version in $(versions 95 101); do
	at "$version"
	for policy in detach pass_on call-local-io-error; do
		if [ $policy = pass_on ]; then state=Inconsistent BOX_META=$BOX_META_DISK; else state=Diskless BOX_META=internal; fi
		for side in kernel box; do
			quiet 'drbdadm down r0; modprobe dm_mod; dmsetup remove -f back; dmsetup create back --table "0 32768 linear /dev/data 0" && dmsetup mknodes' >/dev/null
			situation "on-io-error $policy: writes and reads fail on the disk of a Primary, $(whose $side)" "$(role_of $side)"
			in_sync "" "on-io-error $policy;"
			on $side primary r0
			fill_on $side 0 16 one
			broken $side
			fill_on $side 4 4 two
			disk_is $side $state
			holds_on $side 4 4 two
			holds_on $side 0 4 one
			fill_on $side 10 1 three
			returns
			holds_on $side 4 4 two
			holds_on $side 10 1 three
			situation "on-io-error $policy: a read fails first on the disk of a Primary, $(whose $side)" "$(role_of $side)"
			broken $side
			holds_on $side 4 4 two
			disk_is $side $state
			returns
			on $side secondary r0
			situation "on-io-error $policy: the disk of a Secondary fails, $(whose $side)" "$(role_of "$(other $side)")"
			on "$(other $side)" primary r0
			broken $side
			fill_on "$(other $side)" 6 4 four
			disk_is $side $state
			fill_on "$(other $side)" 8 1 five
			returns
			on "$(other $side)" secondary r0
			on $side primary r0
			holds_on $side 6 2 four
			holds_on $side 8 1 five
			on $side secondary r0
			equal
		done
	done
done
losetup --detach "$BOX_LOWER"
