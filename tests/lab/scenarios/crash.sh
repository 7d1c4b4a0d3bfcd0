# the daemon is killed and the machine loses its power, each as Secondary and as Primary, under load; both come back
in_sync
kernel 'drbdadm primary r0'
kernel 'load 6' &
load=$!
sleep 2
daemon_kill
kernel 'until_true 20 "[ \$(cs) = WFConnection ]"'
daemon
wait $load || die "the kernel's load fails when drbdbox does"
synced
kernel 'drbdadm secondary r0'

box primary r0
load 6 2>/dev/null &
load=$!
sleep 2
daemon_kill
wait $load
daemon
synced

box primary r0
load 8 &
load=$!
sleep 2
machine_kill
wait $load || die "drbdbox's load fails when the machine loses its power"
fill 300 8 alone
machine
kernel 'cp /share/drbd.conf /etc/drbd.conf; drbdadm up r0'
synced
box secondary r0

kernel 'drbdadm primary r0'
quiet 'load 20' >/dev/null &
sleep 3
machine_kill
await 30 '[ "$(cs)" = WFConnection ]'
machine
kernel 'cp /share/drbd.conf /etc/drbd.conf; drbdadm up r0'
synced
box primary r0
holds 300 8 alone || die "what was written alone is lost"
box secondary r0
equal
