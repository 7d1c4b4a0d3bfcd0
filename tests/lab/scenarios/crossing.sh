# a disk that one side has left, cleanly or after a crash with a hot activity log, is used by the other
# planted: short read|error receiving
# Both are out of power, and each gets the disk of the other.
exchange() {
	cp "$BOX_DISK" "$WORK/exchanged"
	cat "$KERNEL_DISK" >"$BOX_DISK"
	cat "$WORK/exchanged" >"$KERNEL_DISK"
}
start() {
	if [ "$1" = box ]; then
		daemon
		box up r0
	else
		machine
		kernel 'cp /share/drbd.conf /etc/drbd.conf; drbdadm up r0 >/tmp/up 2>&1; status=$?; cat /tmp/up; exit $status'
	fi
}
stop() {
	on "$1" down r0
	if [ "$1" = box ]; then daemon_stop; else machine_stop; fi
}
# As if it had lost its power: the daemon does not find its own traces when it is started again.
crash() {
	if [ "$1" = box ]; then
		daemon_kill
		doors_end
		rm -rf "$DRBDBOX_RUNDIR"
		mkdir -p "$DRBDBOX_RUNDIR"
	else
		machine_kill
	fi
}
# A write that only this disk got: its extent is in the activity log.
spoil() { blocks "$2" "$3" spoil | dd of="$([ "$1" = box ] && echo "$BOX_DISK" || echo "$KERNEL_DISK")" bs=4096 seek="$2" conv=notrunc status=none; }
# marked SIDE: attaching the disk there has found the extents that were in use. For the kernel, drbdmeta apply-al does that.
marked() { if [ "$1" = box ]; then logged box 'as out-of-sync based on AL'; else kernel 'grep "as out-of-sync based on AL" /tmp/up'; fi; }
both_hold() {
	local side
	for side in kernel box; do
		on $side primary r0
		holds_on $side "$@"
		on $side secondary r0
	done
}
for version in $(versions 95 101); do
	at "$version"
	situation "the disks change sides after a clean stop" both
	in_sync
	on kernel primary r0
	fill_on kernel 0 16 kernels
	on kernel secondary r0
	on box primary r0
	fill_on box 3000 16 box
	on box secondary r0
	stop kernel
	stop box
	exchange
	start kernel
	start box
	synced
	! grep -q 'Began resync' "$LOG" || die "something was copied"
	both_hold 0 16 kernels
	both_hold 3000 16 box
	equal
	# The super block of the one that is left is as both create it, then as the other has left it.
	for made in own other; do
		for side in kernel box; do
			situation "the disks change sides after a crash of the Primary, whose meta data are $([ $made = own ] && echo "its own" || echo "the other's")" "$(role_of $side)"
			in_sync
			if [ $made = other ]; then
				stop kernel
				stop box
				exchange
				start kernel
				start box
				synced
			fi
			on $side primary r0
			fill_on $side 0 16 one
			written=$(counter dw)
			if [ $side = kernel ]; then quiet 'load 60' >/dev/null & else load 60 2>/dev/null & fi
			WRITER=$!
			await 30 "[ \$(counter dw) -gt $((written + 100)) ]"
			crash $side
			wait $WRITER
			stop "$(other $side)"
			spoil $side 1100 2
			exchange
			start "$(other $side)"
			marked "$(other $side)"
			start $side
			synced
			[ $side = box ] || logged box 'Began resync as SyncSource'
			both_hold 0 16 one
			both_hold 1100 2 spoil
			equal
		done
	done
	for side in kernel box; do
		situation "a disk goes from crash to crash between the two sides, each time as the only one" "$(role_of $side)"
		in_sync
		first=$side
		on $side primary r0
		on "$(other $side)" disconnect r0
		until_on $side '[ $(cs) = WFConnection ]'
		fill_on $side 0 8 one
		fill_on $side 2100 8 one
		crash $side
		stop "$(other $side)"
		for seed in two three four; do
			side=$(other $side)
			exchange
			start $side
			marked $side
			on $side primary r0
			holds_on $side 0 8 one
			holds_on $side 2100 8 one
			case $seed in two) at=8 ;; three) at=1500 ;; four) at=3500 ;; esac
			fill_on $side $at 8 $seed
			crash $side
		done
		start $side
		start "$(other $side)"
		synced
		both_hold 2100 8 one
		both_hold 8 8 two
		both_hold 1500 8 three
		both_hold 3500 8 four
		equal
		side=$first
	done
done
