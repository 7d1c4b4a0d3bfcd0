#!/bin/bash
# Handlers for Pacemaker clusters, with "fencing resource-only" or "resource-and-stonith":
#   fence-peer "/usr/lib/drbd/crm-fence-peer.sh";
#   after-resync-target "/usr/lib/drbd/crm-unfence-peer.sh";     (a link to this script)
# When the connection to the peer is lost, a constraint in the cluster's configuration keeps every host but this one from
# becoming Master, until the peer has been resynced. The id of the constraint is the same on both hosts, and the cluster lets
# only one of them make it.
#
# drbdadm sets DRBD_RESOURCE, DRBD_PEER, DRBD_MINOR and DRBD_CONF. Options, long ones also as --NAME=VALUE:
#   --timeout SECONDS      how long a change of the cluster's configuration may take (90)
#   --dc-timeout SECONDS   how long to wait until the cluster knows what has become of the peer (20)
#   --net-hickup SECONDS   the connection may come back within this time: then nothing is done (0)
#   -r, --master-id ID     the Master/Slave resource (found by the name of the DRBD resource)
#   --role ROLE            what others may not be (Master)
#   --id-prefix PREFIX     of the constraint (drbd-fence-by-handler-RESOURCE)
#   --fencing-attribute A  the node's attribute that the constraint looks at (#uname)
#   --logfacility NAME     of the system's log (local5)
#   --suicide-on-failure-if-primary   reboot this host at once if the peer could not be fenced and this host is Primary
#   --unfence-only-if-owner-match     crm-unfence-peer.sh leaves a constraint that keeps the Master on another host
#   --flock-timeout SECONDS           how long another run of these scripts for the resource is waited for (120)
#   --flock-required                  fail if it goes on for longer, or there is no program flock; else only a warning
#   --quiet                           log only what was changed, or has failed
#
# Exit status of crm-fence-peer.sh: 4 the constraint is there; 5 too, and the peer cannot be reached, or this disk is not
# UpToDate and there is none; 7 the cluster says that the peer is down; 1 failed. Of crm-unfence-peer.sh: 0 there is no
# constraint (any more), 1 failed.

# shellcheck source=state.bash
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/state.bash"

timeout=90
dc_timeout=20
net_hickup=0
suicide=
role_kept=Master
id_prefix=
attribute='#uname'
master_id=
own_only=
flock_timeout=120
flock_required=
quiet=
lock_directory=${DRBD_LOCK_DIRECTORY:-/var/lock/drbd}

while [ $# -gt 0 ]; do
	case $1 in
	--suicide-on-failure-if-primary)
		suicide=yes
		shift
		continue
		;;
	--unfence-only-if-owner-match)
		own_only=yes
		shift
		continue
		;;
	--flock-required)
		flock_required=yes
		shift
		continue
		;;
	--quiet)
		quiet=yes
		shift
		continue
		;;
	--*=*) option=${1%%=*} value=${1#*=} taken=1 ;;
	*) option=$1 value=${2:-} taken=2 ;;
	esac
	if [ $# -lt "$taken" ]; then
		log err "no value for $option"
		exit 1
	fi
	shift "$taken"
	case $option in
	--timeout) timeout=$value ;;
	--dc-timeout) dc_timeout=$value ;;
	--net-hickup | --network-hickup) net_hickup=$value ;;
	--flock-timeout) flock_timeout=$value ;;
	--logfacility) log_facility=$value ;;
	--id-prefix) id_prefix=$value ;;
	--role) role_kept=$value ;;
	--fencing-attribute) attribute=$value ;;
	-r | --master-id) master_id=$value ;;
	*)
		log err "unknown option $option"
		exit 1
		;;
	esac
done
for number in "$timeout" "$dc_timeout" "$net_hickup" "$flock_timeout"; do
	case $number in
	'' | *[!0-9]*)
		log err "not a number of seconds: '$number'"
		exit 1
		;;
	esac
done
if [ -z "$DRBD_RESOURCE" ]; then
	log err "DRBD_RESOURCE is not set: this is a handler, called by drbdadm"
	exit 1
fi
me=$(uname -n)
minors=${DRBD_MINOR:-$(minors_of "$DRBD_RESOURCE" | tr '\n' ' ')}
id_prefix=${id_prefix:-drbd-fence-by-handler-$DRBD_RESOURCE}

# The XML of the cluster as lines "element<TAB>name=value<TAB>name=value...", and "/element" where one ends.
elements() {
	awk 'BEGIN { RS = "<" } {
		sub(/>[^>]*$/, ""); gsub(/[\n\t]/, " ")
		if ($0 == "" || $0 ~ /^[!?]/) next
		closed = sub(/ *\/$/, "")
		name = $1; rest = substr($0, length(name) + 1)
		line = name
		while (match(rest, /[A-Za-z_:.-]+ *= *("[^"]*"|\047[^\047]*\047)/)) {
			word = substr(rest, RSTART, RLENGTH); rest = substr(rest, RSTART + RLENGTH)
			at = index(word, "="); key = substr(word, 1, at - 1); gsub(/ /, "", key)
			value = substr(word, at + 1); sub(/^ *./, "", value); sub(/.$/, "", value)
			line = line "\t" key "=" value
		}
		print line
		if (closed) print "/" name
	}'
}

# For awk programs that read those lines: value("NAME") is that attribute of the element.
# shellcheck disable=SC2016 # the $ are awk's
value_of_attribute='function value(name, i) {
	for (i = 2; i <= NF; i++) if (index($i, name "=") == 1) return substr($i, length(name) + 2)
	return ""
}'

# Prints the id of the master or clone around the primitive ocf:linbit:drbd of the resource. stdin: the cluster's XML.
find_master() {
	elements | awk -F '\t' -v wanted="$DRBD_RESOURCE" "$value_of_attribute"'
		$1 == "status" { exit }
		$1 == "master" || $1 == "clone" { id = value("id") }
		$1 == "/master" || $1 == "/clone" { id = "" }
		$1 == "primitive" { ours = value("provider") == "linbit" && value("type") == "drbd" }
		$1 == "/primitive" { ours = 0 }
		$1 == "nvpair" && ours && id != "" && value("name") == "drbd_resource" && value("value") == wanted { print id; exit }'
}

# Prints "ATTRIBUTE-VALUE" of the host that the constraint leaves, if there is one; nothing without one. stdin: the XML.
find_constraint() {
	elements | awk -F '\t' -v wanted="$constraint_id" "$value_of_attribute"'
		$1 == "status" { exit }
		$1 == "rsc_location" && value("id") == wanted { inside = 1; found = "?" }
		$1 == "/rsc_location" { inside = 0 }
		inside && $1 == "expression" { found = value("value") }
		END { if (found != "") print found }'
}

# What the cluster thinks of the peer: reachable, down (it was fenced, or has left in an orderly way), or unreachable.
# stdin: the XML.
find_peer_state() {
	elements | awk -F '\t' -v peer="$DRBD_PEER" "$value_of_attribute"'
		# Times instead of words since Pacemaker 2.1.
		function is_on(word) { return word == "true" || word == "online" || word ~ /^[1-9][0-9]*$/ }
		$1 == "node_state" && value("uname") == peer {
			if (is_on(value("in_ccm")) && is_on(value("crmd")) && value("ha") != "dead") state = "reachable"
			else if (!is_on(value("in_ccm")) && !is_on(value("crmd")) && value("expected") == "down") state = "down"
		}
		END { print state == "" ? "unreachable" : state }'
}

cib() { cibadmin -Q -t "$1" 2>/dev/null; }

# What this host says to the cluster: the value of the constraint.
own_value() {
	[ "$attribute" != '#uname' ] || { echo "$me"; return; }
	crm_attribute -Q -N "$me" -n "$attribute" -q 2>/dev/null
}

# Makes the constraint. The cluster refuses a second one with this id: then it matters whose it is.
place_constraint() {
	local there
	cibadmin -C -o constraints -t "$timeout" -X "<rsc_location rsc=\"$master_id\" id=\"$constraint_id\">
 <rule role=\"$role_kept\" score=\"-INFINITY\" id=\"$id_prefix-rule-$master_id\">
  <expression attribute=\"$attribute\" operation=\"ne\" value=\"$value\" id=\"$id_prefix-expr-$master_id\"/>
 </rule>
</rsc_location>" >/dev/null 2>&1 && return 0
	there=$(cib "$timeout" | find_constraint)
	[ "$there" = "$value" ]
}

# Whether the peer is seen over the replication link by any of the minors.
peer_is_visible() {
	local minor
	for minor in $minors; do
		state_of "$minor"
		case $peer_role in
		Primary | Secondary) return 0 ;;
		esac
	done
	return 1
}

# Whether the disks of all minors are in this state, or a better one: UpToDate, or Consistent.
disks_are() {
	local minor
	for minor in $minors; do
		state_of "$minor" || return 1
		[ "$disk" = UpToDate ] || [ "$disk" = "$1" ] || return 1
	done
}

# Sets $peer_state, when the cluster has made up its mind or the time is over.
await_peer_state() {
	local text
	peer_state=unreachable
	while :; do
		if text=$(cib "$timeout") && [ -n "$text" ]; then
			peer_state=$(printf '%s\n' "$text" | find_peer_state)
			[ "$peer_state" != down ] || return
			# The cluster may not have noticed yet: does the peer answer?
			if [ "$peer_state" = reachable ]; then
				! crmadmin -t 2000 -S "$DRBD_PEER" >/dev/null 2>&1 || return
				peer_state=unreachable
			fi
		fi
		[ $SECONDS -lt $deadline ] || return
		sleep 1
	done
}

fence() {
	local there waited=0
	if [ -z "$DRBD_PEER" ]; then
		log err "DRBD_PEER is not set: this is a handler, called by drbdadm"
		return 1
	fi
	while peer_is_visible || [ $waited -lt "$net_hickup" ]; do
		if peer_is_visible; then
			log warning "$DRBD_RESOURCE: $DRBD_PEER is still connected; no constraint is placed"
			return 1
		fi
		sleep 1
		waited=$((waited + 1))
	done
	there=$(cib "$timeout" | find_constraint)
	if [ -n "$there" ] && [ "$there" = "$value" ]; then
		note "$DRBD_RESOURCE: the constraint $constraint_id is there already"
		return 4
	elif [ -n "$there" ]; then
		log err "$DRBD_RESOURCE: the constraint $constraint_id leaves $there only: this host is fenced"
		return 1
	fi
	deadline=$((SECONDS + dc_timeout))
	await_peer_state
	case $peer_state in
	reachable)
		if ! disks_are Consistent; then
			log err "$DRBD_RESOURCE: the disk of this host is not good; $DRBD_PEER will not be fenced"
			return 1
		fi
		place_constraint || { log err "$DRBD_RESOURCE: $constraint_id could not be placed"; return 1; }
		log info "$DRBD_RESOURCE: $DRBD_PEER is reachable; placed $constraint_id"
		return 4
		;;
	down)
		# It comes back some day, perhaps alone.
		! disks_are UpToDate || place_constraint || { log err "$DRBD_RESOURCE: $constraint_id could not be placed"; return 1; }
		log info "$DRBD_RESOURCE: $DRBD_PEER is down"
		return 7
		;;
	esac
	if ! disks_are UpToDate; then
		log warning "$DRBD_RESOURCE: $DRBD_PEER cannot be reached, and the disk of this host is not UpToDate: no constraint is placed"
		return 5
	fi
	place_constraint || { log err "$DRBD_RESOURCE: $constraint_id could not be placed"; return 1; }
	log info "$DRBD_RESOURCE: $DRBD_PEER cannot be reached; placed $constraint_id"
	return 5
}

# One run for a resource at a time. The lock ends with this process.
lock() {
	type -P flock >/dev/null && mkdir -p "$lock_directory" 2>/dev/null &&
		{ exec 9>>"$lock_directory/fence.$DRBD_RESOURCE"; } 2>/dev/null && flock -w "$flock_timeout" 9 && return 0
	[ -n "$flock_required" ] || { log warning "$DRBD_RESOURCE: another ${0##*/} may be under way"; return 0; }
	note "$DRBD_RESOURCE: no lock $lock_directory/fence.$DRBD_RESOURCE within $flock_timeout seconds"
	return 1
}

# Nothing was changed, and nothing has failed: to the log, unless --quiet.
note() { [ -n "$quiet" ] || log info "$@"; }

unfence() {
	local text there tries=5
	if ! text=$(cib "$timeout"); then
		log err "$DRBD_RESOURCE: the cluster does not answer; $constraint_id stays, if it is there"
		return 1
	fi
	there=$(printf '%s\n' "$text" | find_constraint)
	[ -n "$there" ] || return 0
	if [ -n "$own_only" ] && [ "$there" != "$value" ]; then
		note "$DRBD_RESOURCE: $constraint_id is that of $there and stays"
		return 0
	fi
	# All volumes, not only the one whose resync has just ended.
	# shellcheck disable=SC2046 # a word a minor
	until all_up_to_date both $(minors_of "$DRBD_RESOURCE"); do
		tries=$((tries - 1))
		if [ $tries -eq 0 ]; then
			log warning "$DRBD_RESOURCE: not all disks are UpToDate; $constraint_id stays"
			return 1
		fi
		sleep 1
	done
	if ! cibadmin -D -t "$timeout" -X "<rsc_location rsc=\"$master_id\" id=\"$constraint_id\"/>" >/dev/null 2>&1; then
		log err "$DRBD_RESOURCE: $constraint_id could not be removed"
		return 1
	fi
	log info "$DRBD_RESOURCE: removed $constraint_id"
}

# --- what was asked for ----------------------------------------------------------------------------------------------

lock || exit 1
if [ -z "$master_id" ]; then
	# The copy of this host is enough, and is there without the others.
	master_id=$(cibadmin -Ql 2>/dev/null | find_master)
fi
if [ -z "$master_id" ]; then
	log err "no Master/Slave resource of ocf:linbit:drbd has drbd_resource=$DRBD_RESOURCE, or the cluster does not answer"
	result=1
else
	constraint_id=$id_prefix-$master_id
	value=$(own_value)
	case ${0##*/} in
	crm-unfence-peer.sh)
		unfence
		exit $?
		;;
	crm-fence-peer.sh)
		if [ -n "$value" ]; then
			fence
			result=$?
		else
			log err "this host has no attribute $attribute"
			result=1
		fi
		;;
	*)
		log err "call it crm-fence-peer.sh or crm-unfence-peer.sh"
		exit 1
		;;
	esac
fi
if [ "$result" -eq 1 ] && [ -n "$suicide" ] && [ "${0##*/}" = crm-fence-peer.sh ]; then
	for minor in $minors; do
		state_of "$minor"
		[ "$role" = Primary ] || continue
		log emerg "$DRBD_RESOURCE: the peer could not be fenced, and this host is Primary: rebooting"
		reboot -f
		break
	done
fi
exit "$result"
