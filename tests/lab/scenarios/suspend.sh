# suspend-io and resume-io; on-no-data-accessible: a Primary that has no data left holds its writes, or fails them
# planted: error|short read
# side PRIMARY: names for what follows.
side() {
	PRIMARY=$1
	if [ "$1" = box ]; then SECONDARY=kernel ROLE=Secondary; else SECONDARY=box ROLE=Primary; fi
}
for version in $(versions 95 101); do
	at "$version"
	for side in kernel box; do
		side $side
		OPTIONS='options { on-no-data-accessible suspend-io; }'
		situation "suspend-io with a write that waits, resume-io" $ROLE
		in_sync "ping-int 2; timeout 20;"
		on $PRIMARY primary r0
		fill_on $PRIMARY 0 8 one
		on $PRIMARY suspend-io r0
		until_on $PRIMARY frozen
		begin_write $PRIMARY 4 8 two
		still_writing
		on $PRIMARY resume-io r0
		end_write
		holds_on $PRIMARY 4 8 two
		situation "suspend-io, the peer is lost and comes back, resume-io" $ROLE
		on $PRIMARY suspend-io r0
		begin_write $PRIMARY 20 8 three
		cable out
		until_on $PRIMARY '[ $(cs) = WFConnection ]'
		still_writing
		cable in
		connected
		still_writing
		on $PRIMARY resume-io r0
		end_write
		synced
		situation "suspend-io on the Secondary: nothing is held" $ROLE
		on $SECONDARY suspend-io r0
		fill_on $PRIMARY 40 4 four
		on $SECONDARY resume-io r0
		situation "suspend-io, resume-io after the peer is lost" $ROLE
		on $PRIMARY suspend-io r0
		begin_write $PRIMARY 50 8 five
		cable out
		until_on $PRIMARY '[ $(cs) = WFConnection ]'
		on $PRIMARY resume-io r0
		end_write
		cable in
		synced
		situation "on-no-data-accessible suspend-io: a diskless Primary loses its peer, which comes back" $ROLE
		on $PRIMARY detach r0
		fill_on $PRIMARY 60 4 six
		cable out
		until_on $PRIMARY 'frozen && [ $(cs) = WFConnection ]'
		called $PRIMARY 'pri-on-incon-degr minor-0' || die "pri-on-incon-degr was not called"
		begin_write $PRIMARY 62 4 seven
		still_writing
		cable in
		connected
		end_write
		holds_on $PRIMARY 62 4 seven
		on $PRIMARY attach r0
		synced
		situation "on-no-data-accessible suspend-io: a Primary alone loses its disk, which comes back" $ROLE
		on $SECONDARY disconnect r0
		until_on $PRIMARY '[ $(cs) = WFConnection ]'
		fill_on $PRIMARY 70 4 eight
		on $PRIMARY detach --force r0
		until_on $PRIMARY '[ $(ds) = Diskless/DUnknown ] && frozen'
		begin_write $PRIMARY 72 4 nine
		still_writing
		on $PRIMARY attach r0
		end_write
		on $SECONDARY connect r0
		synced
		holds_on $PRIMARY 72 4 nine
		situation "on-no-data-accessible suspend-io: a Primary alone loses its disk, a peer with old data is refused" $ROLE
		on $SECONDARY disconnect r0
		until_on $PRIMARY '[ $(cs) = WFConnection ]'
		fill_on $PRIMARY 80 4 ten
		on $PRIMARY detach --force r0
		until_on $PRIMARY '[ $(ds) = Diskless/DUnknown ] && frozen'
		begin_write $PRIMARY 82 4 eleven
		on $SECONDARY connect r0
		until_on $PRIMARY '[ $(cs) = StandAlone ]'
		still_writing
		on $PRIMARY attach r0
		end_write
		on $SECONDARY disconnect r0
		on $PRIMARY connect r0
		on $SECONDARY connect r0
		synced
		holds_on $PRIMARY 82 4 eleven
		on $PRIMARY secondary r0
		equal
		situation "on-no-data-accessible io-error: a Primary alone loses its disk, writes fail" $ROLE
		OPTIONS=
		in_sync
		on $PRIMARY primary r0
		on $SECONDARY disconnect r0
		until_on $PRIMARY '[ $(cs) = WFConnection ]'
		fill_on $PRIMARY 0 4 one
		on $PRIMARY detach --force r0
		until_on $PRIMARY '[ $(ds) = Diskless/DUnknown ]'
		called $PRIMARY 'pri-on-incon-degr minor-0' || die "pri-on-incon-degr was not called"
		if [ $PRIMARY = box ]; then
			! fill 2 4 two 2>/dev/null || die "a write without a disk succeeds"
		else
			kernel '! fill 2 4 two'
		fi
		on $PRIMARY secondary r0
		on $PRIMARY attach r0
		on $SECONDARY connect r0
		synced
		equal
	done
done
