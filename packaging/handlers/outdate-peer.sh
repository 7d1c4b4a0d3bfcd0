#!/bin/bash
# fence-peer handler that goes to the peer by ssh, over other networks than the one that is lost:
#   fence-peer "/usr/lib/drbd/outdate-peer.sh on data01 10.0.0.1 10.1.0.1 on data02 10.0.0.2 10.1.0.2";
# with all hosts of the resource and addresses at which they can be reached as root without a password. It tries all addresses
# of the other host at once, for six seconds.
# Exit status: 3 the peer is inconsistent, 4 it is outdated, 5 it was not reached, 6 it is Primary, 10 wrong arguments. 1: it
# was reached, but neither is true. DRBD_RESOURCE names the resource (r0).

# shellcheck source=state.bash
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/state.bash"

SECONDS_MAX=6
resource=${DRBD_RESOURCE:-r0}

usage() {
	echo "Usage: ${0##*/} on HOST ADDRESS... on HOST ADDRESS..." >&2
	exit 10
}

me=$(uname -n)
host='' own='' others=0
addresses=()
while [ $# -gt 0 ]; do
	if [ "$1" = on ]; then
		host=${2:-}
		[ -n "$host" ] || usage
		shift
		if [ "$host" = "$me" ]; then own=yes; else others=$((others + 1)); fi
	elif [ -z "$host" ]; then
		usage
	elif [ "$host" != "$me" ]; then
		addresses+=("$1")
	fi
	shift
done
[ -n "$own" ] && [ $others -eq 1 ] && [ ${#addresses[@]} -gt 0 ] || usage

# One ssh for each address.
pids=()
for address in "${addresses[@]}"; do
	ssh -o BatchMode=yes -o ConnectTimeout=$SECONDS_MAX "root@$address" "drbdadm outdate $resource" </dev/null >/dev/null 2>&1 &
	pids+=($!)
done

# Before the script ends, those that still wait end.
finish() {
	local pid
	for pid in "${pids[@]}"; do
		[ -z "$pid" ] || kill "$pid" 2>/dev/null
	done
	log info "outdate of $resource on the peer: exit status $1"
	exit "$1"
}

reached=''
running=${#pids[@]}
until [ "$running" -eq 0 ] || [ $SECONDS -ge $SECONDS_MAX ]; do
	for ((i = 0; i < ${#pids[@]}; i++)); do
		[ -n "${pids[i]}" ] && ! kill -0 "${pids[i]}" 2>/dev/null || continue
		wait "${pids[i]}"
		status=$?
		pids[i]=''
		running=$((running - 1))
		case $status in
		0) finish 4 ;;
		5) finish 3 ;;
		17) finish 6 ;;
		255) ;; # ssh's own: this way does not lead there
		*) reached=yes ;;
		esac
	done
	[ "$running" -eq 0 ] || sleep 0.1 2>/dev/null || sleep 1
done
# A peer that answered is not dead, whatever it said.
[ -z "$reached" ] || finish 1
finish 5
