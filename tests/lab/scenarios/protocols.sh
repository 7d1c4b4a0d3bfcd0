# protocols A, B and C, with flushes, from either side
for version in $(versions 86 96 97 101); do
	at "$version"
	for PROTOCOL in A B C; do
		situation "writes and flushes, protocol $PROTOCOL" Primary
		in_sync
		kernel 'drbdadm primary r0 && mixed_writes'
		settled
		kernel 'drbdadm secondary r0'
		situation "writes and flushes, protocol $PROTOCOL" Secondary
		box primary r0
		mixed_writes || die "drbdbox cannot write"
		settled
		box secondary r0
		equal
	done
done
