# the meta data device of drbdbox fails, its data disk does not: the disk is given up, by every on-io-error; it comes back
# planted: error|failed
truncate -s 1M "$BOX_META_DISK"
BOX_META=$(losetup --find --show "$BOX_META_DISK") || die "no loop device"
LOOP=$BOX_META
# The loop device without its file's bytes neither reads nor writes.
broken() {
	sync "$BOX_META_DISK"
	cp "$BOX_META_DISK" "$WORK/saved"
	truncate -s 4096 "$BOX_META_DISK"
	losetup --set-capacity "$LOOP"
}
returns() {
	cat "$WORK/saved" >"$BOX_META_DISK"
	losetup --set-capacity "$LOOP"
	if [ $policy = call-local-io-error ]; then
		called box 'local-io-error minor-0' || die "local-io-error was not called"
	else
		! called box 'local-io-error minor-0' || die "local-io-error was called"
	fi
	box attach r0
	synced
}
for version in $(versions 95 101); do
	at "$version"
	for policy in detach pass_on call-local-io-error; do
		situation "on-io-error $policy: the meta data device of drbdbox fails, a Primary" Secondary
		in_sync "" "on-io-error $policy;"
		box primary r0
		fill 0 16 one
		broken
		# In another extent of the activity log than before.
		fill 2000 8 two
		until_on box '[ $(ds) = Diskless/UpToDate ]'
		until_on kernel '[ $(ds) = UpToDate/Diskless ]'
		holds_on box 0 16 one
		holds_on box 2000 8 two
		fill 4 4 three
		returns
		holds_on box 4 4 three
		situation "on-io-error $policy: the meta data device of drbdbox fails, a Secondary" Primary
		box secondary r0
		on kernel primary r0
		broken
		# The generation changes on both sides when the peer is lost, or comes back.
		on kernel disconnect r0
		until_on kernel '[ $(cs) = StandAlone ]'
		fill_on kernel 30 4 four
		on kernel connect r0
		until_on kernel '[ $(ds) = UpToDate/Diskless ]'
		until_on box '[ $(ds) = Diskless/UpToDate ]'
		fill_on kernel 32 4 five
		returns
		on kernel secondary r0
		on box primary r0
		holds_on box 30 2 four
		holds_on box 32 4 five
		on box secondary r0
		equal
	done
done
losetup --detach "$LOOP"
