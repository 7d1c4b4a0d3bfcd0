# a resync is interrupted in the middle by a disconnect, a kill and a power failure, and goes on; the source writes meanwhile
# planted: short read|error receiving
for version in $(versions 95 101); do
	at "$version"
	for source in kernel box; do
		[ $source = kernel ] && role=Primary || role=Secondary
		situation "resync interrupted and resumed, while the source writes" $role
		RATE=1M
		in_sync "" "c-min-rate 0;"
		if [ $source = kernel ]; then
			kernel 'drbdadm primary r0'
			box disconnect r0
			kernel 'until_true 20 "[ \$(cs) = WFConnection ]"; fill 0 2048 new'
			box connect r0
			await 20 '[ "$(cs)" = SyncTarget ]'
			kernel 'fill 3000 8 mirrored && fill 2000 8 ahead'
			box disconnect r0
			kernel 'until_true 20 "[ \$(cs) = WFConnection ]"; fill 5 8 again'
			box connect r0
			await 20 '[ "$(cs)" = SyncTarget ]'
			daemon_kill
			daemon
			await 20 '[ "$(cs)" = SyncTarget ]'
			kernel 'drbdadm disk-options --resync-rate=100M r0'
		else
			box primary r0
			kernel 'drbdadm disconnect r0'
			await 20 '[ "$(cs)" = WFConnection ]'
			fill 0 2048 new
			kernel 'drbdadm connect r0; until_true 20 "[ \$(cs) = SyncTarget ]"'
			fill 3000 8 mirrored
			fill 2000 8 ahead
			kernel 'drbdadm disconnect r0'
			await 20 '[ "$(cs)" = WFConnection ]'
			fill 5 8 again
			kernel 'drbdadm connect r0; until_true 20 "[ \$(cs) = SyncTarget ]"'
			machine_kill
			await 30 '[ "$(cs)" = WFConnection ]'
			machine
			kernel 'cp /share/drbd.conf /etc/drbd.conf; drbdadm up r0; until_true 20 "[ \$(cs) = SyncTarget ]"'
			kernel 'drbdadm disk-options --resync-rate=100M r0'
		fi
		drbdsetup 0 syncer --rate 100M 2>/dev/null || drbdadm -c "$CONF" disk-options --resync-rate=100M r0
		synced 120
		kernel 'drbdadm secondary r0'
		box secondary r0
		kernel 'drbdadm primary r0; holds 5 8 again && holds 13 1980 new && holds 3000 8 mirrored && holds 2000 8 ahead && drbdadm secondary r0'
		equal
	done
done
