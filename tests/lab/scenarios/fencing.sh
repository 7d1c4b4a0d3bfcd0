# fencing: a Primary that loses its peer calls fence-peer, what the answers do; with resource-and-stonith writes wait for it
# planted: Error receiving initial packet|short read|^Call Trace:$
# The trace is a warning about the kernel's DRBD, a Primary with resource-and-stonith, itself: it writes its meta data ("Voluntary
# context switch within RCU read-side critical section", from drbd_uuid_new_current) when fence-peer has answered.
# drbdbox is set up with the commands of 8.3, which know no resource: its handlers get the minor.
fence_called() { called "$1" "$2 $([ "$1" = box ] && echo minor-0 || echo r0)"; }
# lost SIDE ANSWER PEER-DISK LOG-LINE: the Primary loses its peer, fence-peer ends with ANSWER, the peer counts as PEER-DISK.
lost() {
	situation "fencing $FENCING: the peer is lost, fence-peer ends with $2" "$(role_of "$1")"
	fill_on "$1" 0 16 one
	not_yet "$1" fence-peer
	cable out
	until_on "$1" '[ $(cs) = WFConnection ]'
	await 20 "fence_called $1 fence-peer"
	if [ $FENCING = resource-and-stonith ]; then
		until_on "$1" frozen
		begin_write "$1" 4 4 alone
		still_writing
	else
		fill_on "$1" 4 4 alone
	fi
	answer "$1" fence-peer "$2"
	logged "$1" "$4"
	until_on "$1" "[ \$(ds) = UpToDate/$3 ]"
	# Answers after which nobody knows what the peer does: writes wait until the administrator says so, or the peer is back.
	if [ $FENCING = resource-and-stonith ] && [ "$3" = DUnknown ]; then
		until_on "$1" frozen
		still_writing
		[ "$2" = 6 ] || on "$1" resume-io r0
	fi
	if [ $FENCING = resource-and-stonith ] && [ "$2" != 6 ]; then end_write; fi
	[ $FENCING = resource-and-stonith ] && [ "$2" = 6 ] || fill_on "$1" 12 4 later
	cable in
	synced
	if [ $FENCING = resource-and-stonith ] && [ "$2" = 6 ]; then
		end_write
		fill_on "$1" 12 4 later
	else
		await 10 "fence_called $1 unfence-peer"
	fi
	holds_on "$1" 4 4 alone
	holds_on "$1" 12 4 later
}
for FENCING in resource-only resource-and-stonith; do
	for version in $(versions 95 101); do
		at "$version"
		for side in kernel box; do
			in_sync "ping-int 2; timeout 20;"
			on $side primary r0
			for case in '3:Inconsistent:peer is inconsistent or worse' '4:Outdated:peer was fenced' \
				'5:Outdated:peer is unreachable, assumed to be dead' '6:DUnknown:Peer is primary, outdating myself' \
				'7:Outdated:peer was stonithed' '0:DUnknown:fence-peer helper broken, returned 0' '1:DUnknown:fence-peer helper broken, returned 1'; do
				helpers
				rest=${case#*:}
				lost $side "${case%%:*}" "${rest%%:*}" "${rest#*:}"
			done
			on $side secondary r0
			equal
			situation "fencing $FENCING: a Secondary that disconnects is outdated, and not promoted" "$(role_of $side)"
			in_sync
			on $side primary r0
			on "$(other $side)" disconnect r0
			until_on "$(other $side)" '[ $(ds) = Outdated/DUnknown ]'
			until_on $side '[ $(ds) = UpToDate/Outdated ]'
			! fence_called $side fence-peer || die "fence-peer was called for a peer that is outdated"
			if [ $side = kernel ]; then box_fails primary r0; else kernel '! drbdadm primary r0'; fi
			fill_on $side 20 4 on
			on "$(other $side)" connect r0
			synced
			situation "fencing $FENCING: a Primary that disconnects outdates its peer" "$(role_of $side)"
			on $side disconnect r0
			until_on "$(other $side)" '[ $(ds) = Outdated/DUnknown ]'
			until_on $side '[ $(ds) = UpToDate/Outdated ]'
			fill_on $side 24 4 more
			on $side connect r0
			synced
			on $side secondary r0
			equal
			situation "fencing $FENCING: a node that starts alone is Consistent, fence-peer decides about its promotion" "$(role_of $side)"
			on $side up r0
			until_on $side '[ $(ds) = Consistent/DUnknown ]'
			answer $side fence-peer 1
			if [ $side = box ]; then box_fails primary r0; else kernel '! drbdadm primary r0'; fi
			fence_called $side fence-peer || die "fence-peer was not called"
			answer $side fence-peer 4
			on $side primary r0
			until_on $side '[ $(ds) = UpToDate/Outdated ]'
			fill_on $side 30 4 alone
			on "$(other $side)" up r0
			synced
			on $side secondary r0
			equal
		done
	done
done
