# split brain, repaired or not by the after-sb policies, without, with one and with two Primaries; rr-conflict; the handlers' words
# planted: error receiving
BOTH_SEE_IT=
both_write() {
	kernel "drbdadm primary r0; drbdadm disconnect r0; fill $1 $2 kernels; drbdadm secondary r0"
	box disconnect r0
	box primary r0
	fill "$3" "$4" box
	box secondary r0
}
promote() {
	case $1 in kernel | both) kernel 'drbdadm primary r0' ;; esac
	case $1 in box | both) box primary r0 ;; esac
}
meet() {
	box connect r0
	kernel 'drbdadm connect r0'
}
# keeps WINNER KERNEL-BLOCKS BOX-BLOCKS: both sides have what the winner wrote.
keeps() {
	kernel 'drbdadm secondary r0'
	box secondary r0
	if [ "$1" = kernel ]; then
		kernel "drbdadm primary r0; holds 0 $2 kernels && drbdadm secondary r0"
	else
		box primary r0
		holds 40 "$3" box || die "drbdbox lost what it was to keep"
		box secondary r0
	fi
	equal
}
# split OPTIONS KERNEL-BLOCKS BOX-BLOCKS PRIMARIES: both have written, and meet again; PRIMARIES: none, kernel, box, both.
split() {
	situation "split brain: $1" "$(role_of "$4")"
	in_sync "$1;"
	both_write 0 "$2" 40 "$3"
	promote "$4"
	[ -z "$BOTH_SEE_IT" ] || not_yet box split-brain
	meet
}
# policy OPTIONS KERNEL-BLOCKS BOX-BLOCKS WINNER [PRIMARIES]
policy() {
	split "$1" "$2" "$3" "${5:-none}"
	synced
	called box 'initial-split-brain minor-0' && called kernel 'initial-split-brain minor-0' || die "initial-split-brain was not called"
	keeps "$4" "$2" "$3"
}
called_by() { called "$1" "$2 minor-0" || die "$1 did not call $2"; }
not_called_by() { ! called "$1" "$2 minor-0" || die "$1 called $2"; }
# unsolved OPTIONS KERNEL-BLOCKS BOX-BLOCKS PRIMARIES: both give up.
unsolved() {
	# The connection stays until the slower machine has seen what is the matter, too.
	BOTH_SEE_IT=yes
	split "$@"
	BOTH_SEE_IT=
	await 20 "called kernel 'split-brain minor-0'"
	answer box split-brain 0
	for side in box kernel; do
		logged $side 'Split-Brain detected but unresolved, dropping connection!'
		called_by $side initial-split-brain
		called_by $side split-brain
		not_called_by $side pri-lost-after-sb
		not_called_by $side pri-lost
	done
	until_on box '[ $(cs) = StandAlone ]'
	until_on kernel '[ $(cs) = StandAlone ] || [ $(cs) = WFConnection ]'
}
# refused OPTIONS KERNEL-BLOCKS BOX-BLOCKS PRIMARIES LOSER LOG-LINE HANDLER...: the loser, a Primary, gives up, the other waits for it.
refused() {
	split "$1" "$2" "$3" "$4"
	local loser=$5 line=$6 handler
	shift 6
	until_on "$loser" '[ $(cs) = StandAlone ]'
	until_on "$(other "$loser")" '[ $(cs) = WFConnection ]'
	logged "$loser" "$line"
	for handler; do called_by "$loser" "$handler"; done
	for handler in split-brain pri-lost pri-lost-after-sb; do
		not_called_by "$(other "$loser")" $handler
		case " $* " in *" $handler "*) ;; *) not_called_by "$loser" $handler ;; esac
	done
}

for version in $(versions 95 101); do
	at "$version"
	policy 'after-sb-0pri discard-least-changes' 8 2 kernel
	policy 'after-sb-0pri discard-least-changes' 2 8 box
	policy 'after-sb-0pri discard-younger-primary' 2 8 kernel
	policy 'after-sb-0pri discard-older-primary' 8 2 box
	policy 'after-sb-0pri discard-node-box' 2 8 kernel
	policy 'after-sb-0pri discard-node-kernel' 8 2 box
	unsolved 'after-sb-0pri discard-zero-changes' 2 8 none
	policy 'after-sb-1pri discard-secondary' 2 8 kernel kernel
	policy 'after-sb-1pri discard-secondary' 8 2 box box
	policy 'after-sb-0pri discard-least-changes; after-sb-1pri consensus' 8 2 kernel kernel
	policy 'after-sb-0pri discard-least-changes; after-sb-1pri consensus' 2 8 box box
	unsolved 'after-sb-0pri discard-least-changes; after-sb-1pri consensus' 2 8 kernel
	unsolved 'after-sb-0pri discard-least-changes; after-sb-1pri consensus' 8 2 box
	policy 'after-sb-0pri discard-least-changes; after-sb-1pri violently-as0p' 8 2 kernel kernel
	policy 'after-sb-0pri discard-least-changes; after-sb-1pri violently-as0p' 2 8 box box
	policy 'after-sb-0pri discard-least-changes; after-sb-1pri call-pri-lost-after-sb' 8 2 kernel kernel
	policy 'after-sb-0pri discard-least-changes; after-sb-1pri call-pri-lost-after-sb' 2 8 box box
	for loser in kernel box; do
		if [ $loser = kernel ]; then less=2 more=8; else less=8 more=2; fi
		# The loser is the only Primary, then one of two.
		for case in 1pri:$loser 2pri:both; do
			how="after-sb-0pri discard-least-changes; after-sb-${case%:*}"
			[ $case = 1pri:$loser ] || how="allow-two-primaries yes; $how"
			refused "$how call-pri-lost-after-sb" $less $more ${case#*:} $loser 'Split-Brain detected but unresolved' \
				initial-split-brain pri-lost-after-sb split-brain
			refused "$how violently-as0p" $less $more ${case#*:} $loser 'I shall become SyncTarget, but I am primary!' initial-split-brain
			refused "$how violently-as0p; rr-conflict call-pri-lost" $less $more ${case#*:} $loser \
				'I shall become SyncTarget, but I am primary!' initial-split-brain pri-lost
			policy "$how violently-as0p; rr-conflict violently" $less $more "$(other $loser)" ${case#*:}
		done
	done
	unsolved 'allow-two-primaries yes; after-sb-0pri discard-least-changes; after-sb-2pri disconnect' 2 8 both
	situation "split brain: after-sb-0pri differs on the two sides" both
	in_sync 'after-sb-0pri discard-least-changes;'
	both_write 0 4 40 4
	sed -i 's/after-sb-0pri [a-z-]*/after-sb-0pri discard-zero-changes/' "$CONF"
	meet
	until_on box '[ $(cs) = StandAlone ]'
	until_on kernel '[ $(cs) = StandAlone ] || [ $(cs) = WFConnection ]'
	logged box 'incompatible after-sb-0pri settings'
	situation "split brain: after-sb-0pri discard-zero-changes, one side changed nothing" both
	in_sync 'after-sb-0pri discard-zero-changes;'
	kernel 'drbdadm disconnect r0; drbdadm primary r0; drbdadm secondary r0'
	box disconnect r0
	box primary r0
	fill 40 3 box
	box secondary r0
	meet
	synced
	keeps box 0 3
	situation "split brain: after-sb-0pri discard-zero-changes, neither side changed anything" both
	in_sync 'after-sb-0pri discard-zero-changes;'
	kernel 'drbdadm disconnect r0; drbdadm primary r0; drbdadm secondary r0'
	box disconnect r0
	box primary r0
	box secondary r0
	meet
	synced
	equal
	for loser in kernel box; do
		situation "split brain: after-sb-1pri disconnect, then --discard-my-data" "$(role_of "$(other $loser)")"
		in_sync
		both_write 0 4 40 4
		promote "$(other $loser)"
		meet
		until_on box '[ $(cs) = StandAlone ]'
		kernel 'until_true 20 "[ \$(cs) = StandAlone ] || [ \$(cs) = WFConnection ]"; drbdadm disconnect r0 2>/dev/null; true'
		if [ $loser = kernel ]; then
			kernel 'drbdadm connect --discard-my-data r0'
			box connect r0
		else
			box -- --discard-my-data connect r0
			kernel 'drbdadm connect r0'
		fi
		synced
		keeps "$(other $loser)" 4 4
	done
done
