# the daemon is killed and the machine loses its power, each as Secondary and as Primary, under load; both come back
# planted: short read|error receiving
for version in $(versions 95 101); do
	at "$version"
	situation "drbdbox killed under load, and back" Primary
	in_sync
	kernel 'drbdadm primary r0'
	kernel 'load 6' &
	load=$!
	await 20 '[ "$(counter dw)" -gt 100 ]'
	daemon_kill
	kernel 'until_true 20 "[ \$(cs) = WFConnection ]"'
	daemon
	wait $load || die "the kernel's load fails when drbdbox does"
	synced
	kernel 'drbdadm secondary r0'

	situation "drbdbox killed under load, and back" Secondary
	box primary r0
	written=$(counter dw)
	load 6 2>/dev/null &
	load=$!
	await 20 '[ "$(counter dw)" -gt $((written + 100)) ]'
	daemon_kill
	wait $load
	daemon
	synced

	situation "power of the kernel's machine fails under load, and back" Secondary
	box primary r0
	written=$(counter dw)
	load 8 &
	load=$!
	await 20 '[ "$(counter dw)" -gt $((written + 100)) ]'
	machine_kill
	wait $load || die "drbdbox's load fails when the machine loses its power"
	fill 300 8 alone
	machine
	kernel 'cp /share/drbd.conf /etc/drbd.conf; drbdadm up r0'
	synced
	box secondary r0

	situation "power of the kernel's machine fails under load, and back" Primary
	kernel 'drbdadm primary r0'
	written=$(counter dw)
	quiet 'load 20' >/dev/null &
	await 20 '[ "$(counter dw)" -gt $((written + 100)) ]'
	machine_kill
	await 30 '[ "$(cs)" = WFConnection ]'
	machine
	kernel 'cp /share/drbd.conf /etc/drbd.conf; drbdadm up r0'
	synced
	box primary r0
	holds 300 8 alone || die "what was written alone is lost"
	box secondary r0
	equal
done
