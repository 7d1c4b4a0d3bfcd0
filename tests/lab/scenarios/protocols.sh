# protocols A, B and C, with flushes, from either side
for PROTOCOL in A B C; do
	in_sync
	kernel 'drbdadm primary r0 && mixed_writes'
	settled
	kernel 'drbdadm secondary r0'
	box primary r0
	mixed_writes || die "drbdbox cannot write"
	settled
	box secondary r0
	equal
done
