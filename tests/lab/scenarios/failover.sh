# the Primary is lost under load, the other side takes over and writes; the old Primary comes back as target
# planted: short read|error receiving
for version in $(versions 95 101); do
	at "$version"
	situation "power of the Primary fails, the Secondary takes over" Primary
	in_sync
	kernel 'drbdadm primary r0 && fill 0 32 before'
	quiet 'load 60' >/dev/null &
	await 20 '[ "$(counter dw)" -gt 400 ]'
	machine_kill
	await 30 '[ "$(cs)" = WFConnection ]'
	box primary r0
	holds 0 32 before || die "drbdbox does not have what the kernel wrote"
	fill 40 8 after
	machine
	kernel 'cp /share/drbd.conf /etc/drbd.conf; drbdadm up r0'
	synced
	box secondary r0
	kernel 'drbdadm primary r0 && holds 0 32 before && holds 40 8 after && drbdadm secondary r0'
	situation "drbdbox, the Primary, is killed, the kernel takes over" Secondary
	box primary r0
	fill 60 8 box
	written=$(counter dw)
	load 60 2>/dev/null &
	load=$!
	await 20 '[ "$(counter dw)" -gt $((written + 400)) ]'
	daemon_kill
	wait $load
	kernel 'until_true 30 "[ \$(cs) = WFConnection ]"; drbdadm primary r0 && holds 60 8 box && fill 80 8 kernel'
	daemon
	synced
	kernel 'drbdadm secondary r0'
	box primary r0
	holds 60 8 box && holds 80 8 kernel || die "drbdbox does not have what was written"
	box secondary r0
	equal
done
