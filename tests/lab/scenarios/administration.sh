# invalidate, invalidate-remote, pause-sync and resume-sync, outdate, from either side
for version in $(versions 86 95 101); do
	at "$version"
	situation "invalidate, invalidate-remote, pause-sync, resume-sync" both
	in_sync
	kernel 'drbdadm primary r0 && fill 0 64 old && drbdadm secondary r0'
	done_before() { began=$(grep -c 'Resync done' "$LOG"); }
	# The resync of this order has ended, not one before.
	resynced() {
		await 30 '[ "$(grep -c "Resync done" "$LOG")" -gt "$began" ]'
		synced
	}
	done_before
	box invalidate r0
	resynced
	done_before
	kernel 'drbdadm invalidate r0'
	resynced
	done_before
	box invalidate-remote r0
	resynced
	done_before
	kernel 'drbdadm invalidate-remote r0'
	resynced
	done_before
	box pause-sync r0
	kernel 'drbdadm invalidate r0; until_true 10 "[ \$(cs) = PausedSyncT ]"'
	await 10 '[ "$(cs)" = PausedSyncS ]'
	box resume-sync r0
	resynced
	done_before
	kernel 'drbdadm pause-sync r0; drbdadm invalidate r0; until_true 10 "[ \$(cs) = PausedSyncT ]"'
	await 10 '[ "$(cs)" = PausedSyncS ]'
	kernel 'drbdadm resume-sync r0'
	resynced
	situation "writes of the Primary while it is the target of a resync" Primary
	kernel 'drbdadm primary r0; drbdadm disk-options --resync-rate=2M --c-min-rate=0 r0; drbdadm invalidate r0; until_true 10 "[ \$(cs) = SyncTarget ]"'
	kernel 'holds 0 64 old && fill 1000 64 target && fill 3900 32 target && holds 1000 64 target; drbdadm disk-options --resync-rate=100M r0'
	synced 120
	kernel 'holds 0 64 old && drbdadm secondary r0'
	situation "writes of the Primary while it is the target of a resync" Secondary
	box primary r0
	drbdadm -c "$CONF" disk-options --resync-rate=2M --c-min-rate=0 r0 >/dev/null 2>&1 || drbdsetup 0 syncer --rate 2M --c-min-rate 0 || die "the rate cannot be set"
	box invalidate r0
	await 10 '[ "$(cs)" = SyncTarget ]'
	holds 0 64 old || die "drbdbox, a target, does not read good data"
	fill 1200 64 box
	fill 3800 32 box
	holds 1200 64 box || die "drbdbox, a target, does not read what it wrote"
	drbdsetup 0 syncer --rate 100M || die "the rate cannot be set"
	synced 120
	box secondary r0
	kernel 'drbdadm primary r0; holds 0 64 old && holds 1200 64 box && holds 3800 32 box && drbdadm secondary r0'
	equal
done
