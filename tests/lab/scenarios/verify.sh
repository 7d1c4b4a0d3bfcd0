# online verify from either side finds what was changed behind DRBD's back; a reconnect repairs it
in_sync 'verify-alg md5;'
kernel 'drbdadm primary r0 && fill 0 64 good'
spoil() { dd if=/dev/urandom of="$BOX_DISK" bs=4k seek="$1" count="$2" conv=notrunc status=none; }
spoil 10 3
spoil 50 1
kernel 'drbdadm verify r0; sleep 1; until_true 60 "[ \$(cs) = Connected ]"; [ $(oos) = 16 ]'
kernel 'drbdadm disconnect r0; drbdadm connect r0'
synced
spoil 20 3
box verify r0
sleep 1
await 60 '[ "$(cs)" = Connected ]'
[ "$(oos)" = 12 ] || die "drbdbox finds $(oos) KiB"
kernel '[ $(oos) = 12 ]'
box disconnect r0
box connect r0
synced
kernel 'drbdadm secondary r0'
equal
