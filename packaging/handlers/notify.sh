#!/bin/bash
# Sends a mail about what its name says has happened: notify-split-brain.sh and the like are links to it.
# notify-KIND.sh [RECIPIENT]: root without a name. drbdadm sets DRBD_RESOURCE, DRBD_PEER and DRBD_CONF.
# Exit status: 0, or 1 where they are missing or the name says nothing.

# shellcheck source=state.bash
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/state.bash"

name=${0##*/}
recipient=${1:-root}
if [ -z "$DRBD_RESOURCE" ] || [ -z "$DRBD_PEER" ]; then
	echo "$name: DRBD_RESOURCE and DRBD_PEER must be set: it is called as a handler, by drbdadm" >&2
	exit 1
fi
host=$(uname -n)

case $name in
notify-split-brain.sh)
	subject="DRBD split brain on resource $DRBD_RESOURCE"
	text="$host and $DRBD_PEER have both changed their data of $DRBD_RESOURCE while they were not connected.
They do not connect until somebody decides whose changes are given up. On the host that gives up its own:
  drbdadm secondary $DRBD_RESOURCE
  drbdadm -- --discard-my-data connect $DRBD_RESOURCE
and on the other one, if it is StandAlone:
  drbdadm connect $DRBD_RESOURCE"
	;;
notify-out-of-sync.sh)
	subject="DRBD resource $DRBD_RESOURCE has out-of-sync blocks"
	text="An online verify has found blocks of $DRBD_RESOURCE that differ between $host and $DRBD_PEER. They are copied at the
next connection: drbdadm disconnect $DRBD_RESOURCE; drbdadm connect $DRBD_RESOURCE"
	;;
notify-io-error.sh)
	subject="DRBD I/O error on resource $DRBD_RESOURCE"
	text="The disk of $DRBD_RESOURCE on $host has failed, or was failing."
	;;
notify-pri-on-incon-degr.sh)
	subject="DRBD resource $DRBD_RESOURCE is primary, inconsistent and degraded"
	text="$host is Primary of $DRBD_RESOURCE, its disk is Inconsistent, and $DRBD_PEER cannot be reached: there are no good data any more."
	;;
notify-pri-lost-after-sb.sh)
	subject="DRBD resource $DRBD_RESOURCE: primary lost after split brain"
	text="$host is Primary of $DRBD_RESOURCE, but its changes are to be given up for those of $DRBD_PEER, after a split brain."
	;;
notify-pri-lost.sh)
	subject="DRBD resource $DRBD_RESOURCE: primary lost"
	text="$host is Primary of $DRBD_RESOURCE, but the data of $DRBD_PEER are newer: it is to become the target of a resync."
	;;
notify-emergency-reboot.sh)
	subject="DRBD emergency reboot of $host for resource $DRBD_RESOURCE"
	text="$host is going to be rebooted at once, by a handler of $DRBD_RESOURCE."
	;;
notify-emergency-shutdown.sh)
	subject="DRBD emergency shutdown of $host for resource $DRBD_RESOURCE"
	text="$host is going to be shut down at once, by a handler of $DRBD_RESOURCE."
	;;
*)
	echo "$name: call it by a name that says what has happened, such as notify-split-brain.sh" >&2
	exit 1
	;;
esac

log info "$subject; to $recipient"
mail -s "$subject" "$recipient" >/dev/null 2>&1 <<EOF || log err "no mail could be sent to $recipient"
$text

Host: $host
Peer: $DRBD_PEER
Configuration: ${DRBD_CONF:-unknown}
State: $(for minor in $DRBD_MINOR; do state_of "$minor" && printf '%s: cs:%s ro:%s/%s ds:%s/%s  ' "$minor" "$cstate" "$role" "$peer_role" "$disk" "$peer_disk"; done)
EOF
exit 0
