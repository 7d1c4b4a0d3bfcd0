# either side disconnects while the other writes: the bitmaps are exchanged, packed (use-rle) and plain
for version in $(versions 86 95 96 101); do
	at "$version"
	for rle in yes no; do
		situation "disconnect by either side, writes, reconnect, use-rle $rle" Primary
		in_sync "use-rle $rle;"
		kernel 'drbdadm primary r0 && fill 0 64 old'
		box disconnect r0
		kernel 'until_true 20 "[ \$(cs) = WFConnection ]" && fill 16 8 new && fill 1000 3 new && fill 4000 1 new'
		box connect r0
		synced
		kernel 'drbdadm disconnect r0 && fill 32 8 alone && drbdadm connect r0'
		synced
		kernel 'drbdadm secondary r0'
		situation "disconnect by either side, writes, reconnect, use-rle $rle" Secondary
		box primary r0
		fill 200 10 two
		kernel 'drbdadm disconnect r0'
		await 20 '[ "$(cs)" = WFConnection ]'
		fill 210 10 two
		fill 4001 1 late
		kernel 'drbdadm connect r0'
		synced
		box disconnect r0
		fill 1200 10 two
		box connect r0
		synced
		holds 16 8 new && holds 32 8 alone || die "drbdbox does not have what the kernel wrote"
		box secondary r0
		equal
	done
done
