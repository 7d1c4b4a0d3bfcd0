# fencing: a Primary that loses its peer calls fence-peer; with resource-and-stonith it holds writes until the answer
# The helper outdates nobody by itself: it answers 7, "the peer was stonithed", and notes the call.
OPTIONS='handlers { fence-peer "/bin/true"; }'
cat >"$WORK/helper" <<HELPER
#!/bin/sh
echo "\$*" >>$WORK/helpers
[ "\$1" != fence-peer ] || exit 7
HELPER
chmod +x "$WORK/helper"
for policy in resource-only resource-and-stonith; do
	FENCING=$policy
	for version in $(versions 95 101); do
		at "$version"
		HELPER=$WORK/helper
		: >"$WORK/helpers"
		situation "fencing $policy: the peer is lost, fence-peer, writes go on, it comes back" Secondary
		in_sync "ping-int 2; timeout 20;"
		box primary r0
		fill 0 16 one
		cable out
		fill 4 4 alone
		await 30 '[ "$(cs)" = WFConnection ] && grep -q fence-peer "$WORK/helpers"'
		await 20 'case $(ds) in UpToDate/Outdated) ;; *) false ;; esac'
		fill 12 4 later
		cable in
		synced
		holds 4 4 alone && holds 12 4 later || die "writes are lost"
		box secondary r0
		equal
		situation "fencing $policy: a Secondary that lost its Primary is outdated by it" Primary
		in_sync
		kernel 'drbdadm primary r0'
		box disconnect r0
		await 20 '[ "$(ds)" = Outdated/DUnknown ]'
		box_fails primary r0
		kernel 'fill 20 4 on'
		box connect r0
		synced
		kernel 'drbdadm secondary r0'
		equal
		situation "fencing $policy: a Secondary that lost its Primary is outdated by it" Secondary
		in_sync
		box primary r0
		kernel 'drbdadm disconnect r0; until_true 20 "[ \$(ds) = Outdated/DUnknown ]"; ! drbdadm primary r0'
		await 20 '[ "$(cs)" = WFConnection ]'
		fill 24 4 on
		kernel 'drbdadm connect r0'
		synced
		box secondary r0
		equal
	done
done
