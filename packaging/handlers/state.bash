# shellcheck shell=bash
# For the handlers in this directory: what the daemon knows of a device. It is taken from a snapshot that the daemon has at
# hand, so it comes at once also while a change of the state waits for the very handler that asks. bash 3.2.

DRBDADM=${DRBDADM:-drbdadm}
DRBDSETUP=${DRBDSETUP:-drbdsetup}

# state_of MINOR: sets cstate, role, peer_role, disk, peer_disk ("Primary", "UpToDate", ...). Returns 1, with all of them
# empty, if the minor is not configured or no daemon answers.
state_of() {
	local line
	cstate='' role='' peer_role='' disk='' peer_disk=''
	while IFS= read -r line; do
		case $line in
		_cstate=*) cstate=${line#*=} ;;
		_role=*) role=${line#*=} ;;
		_peer=*) peer_role=${line#*=} ;;
		_disk=*) disk=${line#*=} ;;
		_pdsk=*) peer_disk=${line#*=} ;;
		esac
	done <<EOF
$($DRBDSETUP "$1" sh-status 2>/dev/null)
EOF
	[ -n "$role" ]
}

# minors_of RESOURCE: its minors, one a line.
minors_of() {
	$DRBDADM ${DRBD_CONF:+-c "$DRBD_CONF"} sh-minor "$1" 2>/dev/null
}

# all_up_to_date MINOR...: the disks of this host are UpToDate. all_up_to_date both MINOR...: the peer's, too.
all_up_to_date() {
	local both='' minor
	[ "$1" != both ] || { both=yes; shift; }
	[ $# -gt 0 ] || return 1
	for minor; do
		state_of "$minor" && [ "$disk" = UpToDate ] || return 1
		[ -z "$both" ] || [ "$peer_disk" = UpToDate ] || return 1
	done
}

# out_of_sync_kib MINOR: prints it. Returns 1 if it is not known.
out_of_sync_kib() {
	local kib
	kib=$($DRBDSETUP proc 2>/dev/null | sed -n "/^ *$1: cs:/,/^ *[0-9][0-9]*: cs:/s/.* oos:\([0-9][0-9]*\).*/\1/p" | head -n 1)
	[ -n "$kib" ] && echo "$kib"
}

# log PRIORITY TEXT...: to the system's log, with this program's name, and to stderr if that is a terminal.
log_facility=local5
log() {
	local priority=$1
	shift
	logger -t "${0##*/}[$$]" -p "$log_facility.$priority" -- "$*" 2>/dev/null
	[ ! -t 2 ] || echo "${0##*/}: $*" >&2
}
