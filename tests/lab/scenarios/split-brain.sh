# both write while apart: StandAlone until one side gives up its changes, or by policy
# planted: error receiving
both_write() {
	kernel "drbdadm primary r0; drbdadm disconnect r0; fill $1 2 kernels; drbdadm secondary r0"
	box disconnect r0
	box primary r0
	fill "$2" "$3" box
	box secondary r0
}
apart() {
	box connect r0
	kernel 'drbdadm connect r0'
	await 20 'grep -q "Split-Brain detected but unresolved, dropping connection!" "$LOG"'
	await 20 '[ "$(cs)" = StandAlone ]'
	# The kernel waits for its peer if that has hung up before it has seen what is the matter itself.
	kernel 'until_true 20 "[ \$(cs) = StandAlone ] || [ \$(cs) = WFConnection ]"; [ $(cs) = StandAlone ] || drbdadm disconnect r0'
}
for version in $(versions 86 95 101); do
	at "$version"
	situation "split brain: by hand with --discard-my-data, on either side" both
	in_sync
	both_write 0 4 2
	apart
	box -- --discard-my-data connect r0
	kernel 'drbdadm connect r0'
	synced
	kernel 'drbdadm primary r0; holds 0 2 kernels && drbdadm secondary r0'
	both_write 30 34 2
	apart
	kernel 'drbdadm connect --discard-my-data r0'
	box connect r0
	synced
	box primary r0
	holds 34 2 box || die "drbdbox lost what it was to keep"
	box secondary r0
	equal
	situation "split brain: after-sb-0pri discard-least-changes" both
	in_sync 'after-sb-0pri discard-least-changes;'
	both_write 0 14 12
	box connect r0
	kernel 'drbdadm connect r0'
	synced
	box primary r0
	holds 14 12 box || die "drbdbox lost what it was to keep"
	box secondary r0
	equal
done
