# csums-alg: equal blocks are not sent; data-integrity-alg: every block is checked
in_sync 'csums-alg sha1;'
kernel 'drbdadm primary r0 && fill 0 64 old'
box disconnect r0
kernel 'until_true 20 "[ \$(cs) = WFConnection ]"; fill 0 32 old && fill 32 4 new'
box connect r0
synced
grep -q 'had equal checksums, eliminated: 128K; transferred 16K total 144K' "$LOG" || die "no checksums were compared"
kernel 'drbdadm secondary r0'
box primary r0
kernel 'drbdadm disconnect r0'
fill 0 32 old
fill 40 4 new
kernel 'drbdadm connect r0'
synced
kernel 'dmesg | grep "had equal checksums, eliminated: 128K; transferred 16K total 144K"'
box secondary r0
equal
for algorithm in crc32c md5 sha1; do
	in_sync "data-integrity-alg $algorithm;"
	kernel 'drbdadm primary r0 && mixed_writes && drbdadm secondary r0'
	box primary r0
	mixed_writes || die "drbdbox cannot write"
	box secondary r0
	equal
done
