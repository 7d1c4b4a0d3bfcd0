# split brain, repaired by the after-sb policies, without and with one Primary
# planted: error receiving
both_write() {
	kernel "drbdadm primary r0; drbdadm disconnect r0; fill $1 $2 kernels; drbdadm secondary r0"
	box disconnect r0
	box primary r0
	fill "$3" "$4" box
	box secondary r0
}
# policy OPTIONS KERNEL-BLOCKS BOX-BLOCKS WINNER [PRIMARY]
policy() {
	[ "${5:-}" = kernel ] && role=Primary || role=Secondary
	[ -n "${5:-}" ] || role=both
	situation "split brain: $1" $role
	in_sync "$1;"
	both_write 0 "$2" 40 "$3"
	[ "${5:-}" != kernel ] || kernel 'drbdadm primary r0'
	[ "${5:-}" != box ] || box primary r0
	box connect r0
	kernel 'drbdadm connect r0'
	synced
	kernel 'drbdadm secondary r0'
	box secondary r0
	if [ "$4" = kernel ]; then
		kernel "drbdadm primary r0; holds 0 $2 kernels && drbdadm secondary r0"
	else
		box primary r0
		holds 40 "$3" box || die "drbdbox lost what it was to keep"
		box secondary r0
	fi
	equal
}
for version in $(versions 95 101); do
	at "$version"
	policy 'after-sb-0pri discard-least-changes' 8 2 kernel
	policy 'after-sb-0pri discard-least-changes' 2 8 box
	policy 'after-sb-0pri discard-younger-primary' 2 8 kernel
	policy 'after-sb-0pri discard-older-primary' 8 2 box
	policy 'after-sb-1pri discard-secondary' 2 8 kernel kernel
	policy 'after-sb-1pri discard-secondary' 8 2 box box
	policy 'after-sb-0pri discard-least-changes; after-sb-1pri consensus' 8 2 kernel kernel
	policy 'after-sb-0pri discard-least-changes; after-sb-1pri violently-as0p' 8 2 kernel kernel
	situation "split brain: after-sb-0pri discard-zero-changes, one side changed nothing" both
	in_sync 'after-sb-0pri discard-zero-changes;'
	kernel 'drbdadm disconnect r0; drbdadm primary r0; drbdadm secondary r0'
	box disconnect r0
	box primary r0
	fill 40 3 box
	box secondary r0
	box connect r0
	kernel 'drbdadm connect r0'
	synced
	box primary r0
	holds 40 3 box || die "drbdbox lost the only changes"
	box secondary r0
	equal
	situation "split brain: after-sb-1pri disconnect, then --discard-my-data at the kernel" Secondary
	in_sync
	both_write 0 4 40 4
	box primary r0
	box connect r0
	kernel 'drbdadm connect r0'
	await 20 '[ "$(cs)" = StandAlone ]'
	kernel 'until_true 20 "[ \$(cs) = StandAlone ] || [ \$(cs) = WFConnection ]"; drbdadm disconnect r0; drbdadm connect --discard-my-data r0'
	box connect r0
	synced
	holds 40 4 box || die "drbdbox lost what it was to keep"
	box secondary r0
	equal
done
