# rr-conflict without a split brain: a Primary whose I/O was suspended meets a peer that has newer data
# planted: short read|error receiving
# It has written nothing since the peer was lost, so its generation is the old one; the peer was Primary meanwhile.
newer() {
	in_sync "ping-int 2; timeout 20; $1;"
	on $side primary r0
	fill_on $side 0 16 one
	on $side suspend-io r0
	cable out
	until_on $side '[ $(cs) = WFConnection ]'
	until_on "$(other $side)" '[ $(cs) = WFConnection ]'
	on "$(other $side)" primary r0
	fill_on "$(other $side)" 8 16 two
	on "$(other $side)" secondary r0
	cable in
}
for version in $(versions 95 101); do
	at "$version"
	for side in kernel box; do
		for policy in disconnect call-pri-lost violently; do
			situation "rr-conflict $policy without a split brain: the Primary, suspended, is to become a target" "$(role_of $side)"
			newer "rr-conflict $policy"
			if [ $policy = violently ]; then
				logged $side 'violating the stable-data'
				synced
				on $side resume-io r0
			else
				until_on $side '[ $(cs) = StandAlone ]'
				logged $side 'I shall become SyncTarget, but I am primary!'
				if [ $policy = call-pri-lost ]; then
					called $side 'pri-lost minor-0' || die "pri-lost was not called"
				else
					! called $side 'pri-lost minor-0' || die "pri-lost was called"
				fi
				on $side resume-io r0
				on $side secondary r0
				# It has made a generation of its own now, or not: its administrator gives its data up.
				if [ $side = box ]; then box -- --discard-my-data connect r0; else kernel 'drbdadm connect --discard-my-data r0'; fi
				until_on "$(other $side)" '[ $(cs) != StandAlone ]'
				synced
				on $side primary r0
			fi
			holds_on $side 0 8 one
			holds_on $side 8 16 two
			on $side secondary r0
			equal
		done
	done
done
