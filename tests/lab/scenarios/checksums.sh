# csums-alg: equal blocks are not sent, at versions from 89 on
for version in $(versions 89 95 101); do
	at "$version"
	for algorithm in sha1 md5 crc32c; do
		situation "resync by checksums, $algorithm" Primary
		in_sync "csums-alg $algorithm;"
		kernel 'drbdadm primary r0 && fill 0 64 old'
		box disconnect r0
		kernel 'until_true 20 "[ \$(cs) = WFConnection ]"; fill 0 32 old && fill 40 4 new'
		box connect r0
		synced
		grep -q 'had equal checksums, eliminated: 128K; transferred 16K total 144K' "$LOG" || die "no checksums were compared"
		kernel 'drbdadm secondary r0'
		situation "resync by checksums, $algorithm" Secondary
		box primary r0
		kernel 'drbdadm disconnect r0'
		await 20 '[ "$(cs)" = WFConnection ]'
		fill 0 32 old
		fill 40 4 new
		kernel 'drbdadm connect r0'
		synced
		kernel 'dmesg | tail -n 40 | grep "had equal checksums, eliminated: 128K; transferred 16K total 144K"'
		box secondary r0
		equal
	done
done
