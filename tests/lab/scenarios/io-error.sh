# on-io-error detach: the disk of the kernel fails as Primary and as Secondary; it comes back
# planted: error|failed
LOWER=/dev/mapper/back
for version in $(versions 95 101); do
	at "$version"
	situation "the kernel's disk fails, is detached, comes back" Primary
	quiet 'drbdadm down r0; modprobe dm_mod; dmsetup remove -f back; dmsetup create back --table "0 32768 linear /dev/data 0" && dmsetup mknodes' >/dev/null
	in_sync "" "on-io-error detach;"
	broken='dmsetup suspend --noflush back; dmsetup load back --table "0 32768 error"; dmsetup resume back'
	healed='dmsetup suspend --noflush back; dmsetup load back --table "0 32768 linear /dev/data 0"; dmsetup resume back; drbdadm attach r0'
	kernel 'drbdadm primary r0 && fill 0 16 one'
	kernel "$broken; fill 4 4 two && holds 4 4 two && holds 0 4 one"
	kernel 'until_true 20 "[ \$(ds) = Diskless/UpToDate ]"'
	await 20 '[ "$(ds)" = UpToDate/Diskless ]'
	kernel "$healed"
	synced
	kernel 'holds 4 4 two && holds 0 4 one && drbdadm secondary r0'
	situation "the kernel's disk fails, is detached, comes back" Secondary
	box primary r0
	kernel "$broken"
	fill 6 4 three
	await 20 '[ "$(ds)" = UpToDate/Diskless ]'
	fill 8 1 four
	kernel "$healed"
	synced
	box secondary r0
	kernel 'drbdadm primary r0 && holds 6 2 three && holds 8 1 four && drbdadm secondary r0'
	equal
done
