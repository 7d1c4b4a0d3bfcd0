# data-integrity-alg: every block has a digest on its way
for version in $(versions 87 95 101); do
	at "$version"
	for algorithm in crc32c md5 sha1; do
		situation "writes and resync with data-integrity-alg $algorithm" Primary
		in_sync "data-integrity-alg $algorithm;"
		kernel 'drbdadm primary r0 && mixed_writes && drbdadm disconnect r0 && fill 20 9 apart && drbdadm connect r0'
		synced
		kernel 'drbdadm secondary r0'
		situation "writes and resync with data-integrity-alg $algorithm" Secondary
		box primary r0
		mixed_writes || die "drbdbox cannot write"
		box disconnect r0
		fill 50 9 apart
		box connect r0
		synced
		box secondary r0
		equal
	done
done
