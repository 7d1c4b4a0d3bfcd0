#!/bin/bash
# fence-peer handler for Pacemaker clusters: lets the cluster switch the peer off. For "fencing resource-and-stonith".
# drbdadm sets DRBD_PEERS (or DRBD_PEER) and DRBD_MINOR. Exit status: 7 it is off; 1 it is not.

# shellcheck source=state.bash
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/state.bash"

peers=${DRBD_PEERS:-$DRBD_PEER}
if [ -z "$peers" ]; then
	log err "DRBD_PEERS is not set: this is a handler, called by drbdadm"
	exit 1
fi
# Whoever has no good data must not switch off the one who may have.
# shellcheck disable=SC2086 # a word a minor
if ! all_up_to_date ${DRBD_MINOR:-$(minors_of "$DRBD_RESOURCE")}; then
	log err "$DRBD_RESOURCE: not every disk of this host is UpToDate; $peers will not be fenced"
	exit 1
fi
for peer in $peers; do
	if ! stonith_admin --fence "$peer" >/dev/null 2>&1; then
		log err "$DRBD_RESOURCE: fencing of $peer has failed"
		exit 1
	fi
	log info "$DRBD_RESOURCE: $peer was fenced"
done
exit 7
