# protocol versions 86 to 101: authentication, first copy, writes, resync, from either side
SIZE=4M
NET='cram-hmac-alg sha1; shared-secret "FooFunFactory"; csums-alg sha1; verify-alg md5;'
for version in $(versions 86 87 88 89 90 91 92 93 94 95 96 97 98 99 100 101); do
	at "$version"
	situation "initial sync, writes, reconnect with a resync" Primary
	fresh "$NET"
	grep -q "Agreed network protocol version $version\$" "$LOG" || die "not version $version"
	kernel 'drbdadm primary --force r0'
	synced
	kernel 'fill 0 16 one && dd if=/dev/urandom of=/dev/drbd0 bs=256k seek=4 count=2 oflag=direct status=none'
	box disconnect r0
	kernel 'until_true 20 "[ \$(cs) = WFConnection ]" && fill 8 16 two'
	box connect r0
	synced
	kernel 'drbdadm secondary r0'
	equal
	situation "initial sync, writes, reconnect with a resync" Secondary
	fresh "$NET"
	box -- --force primary r0
	synced
	fill 0 16 one
	dd if=/dev/urandom of="$DEVICE" bs=256k seek=4 count=2 oflag=direct status=none || die "drbdbox cannot write"
	kernel 'drbdadm disconnect r0'
	await 20 '[ "$(cs)" = WFConnection ]'
	fill 30 16 two
	kernel 'drbdadm connect r0'
	synced
	box secondary r0
	equal
done
