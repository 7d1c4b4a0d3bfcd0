# split brain of data that are related by their history only, as after a third node: policies apply with always-asbp
# planted: error receiving
identifiers() { if [ "$1" = box ]; then drbdadm -c "$CONF" get-gi r0; else quiet 'drbdadm get-gi r0'; fi; }
# A new generation, and that before it in the history, where a third node's would have moved it.
move_to_history() {
	local current bitmap
	IFS=: read -r current bitmap _ < <(identifiers "$1" 2>/dev/null)
	[ "$((16#$current))" -ne 0 ] && [ "$((16#$bitmap))" -ne 0 ] || die "no two generations on $1"
	if [ "$1" = box ]; then
		drbdmeta --force 0 v08 "$BOX_DISK" internal set-gi "$current:0:$bitmap:0" >/dev/null || die "drbdbox: set-gi"
	else
		kernel "drbdmeta --force 0 v08 /dev/data internal set-gi $current:0:$bitmap:0"
	fi
}
# related OPTIONS PRIMARIES: both write while apart; then they meet.
related() {
	local side
	in_sync "$1;"
	for side in kernel box; do
		on $side disconnect r0
		on $side primary r0
	done
	fill_on kernel 0 8 kernels
	fill_on box 40 8 box
	for side in kernel box; do
		on $side secondary r0
		on $side down r0
		move_to_history $side
	done
	# The daemon has no configuration that it may connect with before both are what they shall be.
	for side in kernel box; do
		if [ $side = box ]; then box attach r0; else kernel 'drbdadm new-resource r0; drbdadm new-minor r0; drbdadm attach r0'; fi
		case $2 in $side | both) on $side primary r0 ;; esac
	done
	helpers
	for side in box kernel; do on $side connect r0; done
}
for version in $(versions 95 101); do
	at "$version"
	for primaries in none kernel box both; do
		how='after-sb-0pri discard-node-box; after-sb-1pri discard-secondary; after-sb-2pri violently-as0p; rr-conflict violently'
		winner=kernel
		[ $primaries != box ] || winner=box
		[ $primaries != both ] || how="allow-two-primaries yes; $how"
		situation "related data, $primaries as Primary, without always-asbp: no policy" "$(role_of $primaries)"
		related "$how" $primaries
		for side in kernel box; do until_on $side '[ $(cs) = StandAlone ] || [ $(cs) = WFConnection ]'; done
		until_on box '[ $(cs) = StandAlone ]'
		logged box 'Split-Brain detected but unresolved, dropping connection!'
		for side in kernel box; do on $side down r0; done
		situation "related data, $primaries as Primary, with always-asbp: the policy, and a full resync" "$(role_of $primaries)"
		related "$how; always-asbp yes" $primaries
		synced
		logged box 'will sync 16344 KB'
		for side in kernel box; do on $side secondary r0; done
		on $winner primary r0
		if [ $winner = kernel ]; then
			holds_on kernel 0 8 kernels
		else
			holds_on box 40 8 box
		fi
		on $winner secondary r0
		equal
	done
done
