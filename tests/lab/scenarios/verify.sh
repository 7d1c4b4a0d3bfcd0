# online verify from either side finds what was changed behind DRBD's back; a reconnect repairs it
spoil() { dd if=/dev/urandom of="$BOX_DISK" bs=4k seek="$1" count="$2" conv=notrunc status=none; }
for version in $(versions 88 95 97 101); do
	at "$version"
	for algorithm in md5 sha1 crc32c; do
		situation "online verify started by the kernel, and repair, $algorithm" Primary
		in_sync "verify-alg $algorithm;"
		kernel 'drbdadm primary r0 && fill 0 64 good'
		spoil 10 3
		spoil 50 1
		kernel 'drbdadm verify r0; until_true 60 "[ \$(cs) = Connected ] && [ \$(oos) = 16 ]"'
		await 60 '[ "$(cs)" = Connected ] && [ "$(oos)" = 16 ]'
		kernel 'drbdadm disconnect r0; drbdadm connect r0'
		synced
		situation "online verify started by drbdbox, and repair, $algorithm" Primary
		spoil 20 3
		box verify r0
		await 60 '[ "$(cs)" = Connected ] && [ "$(oos)" = 12 ]'
		kernel 'until_true 60 "[ \$(cs) = Connected ] && [ \$(oos) = 12 ]"'
		box disconnect r0
		box connect r0
		synced
		kernel 'drbdadm secondary r0'
		equal
	done
done
