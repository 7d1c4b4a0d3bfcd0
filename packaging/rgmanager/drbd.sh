#!/bin/bash
# A resource of rgmanager (Red Hat Cluster Suite): makes a replicated device Primary where the service runs.
# In cluster.conf: <drbd name="d0" resource="r0"> around the file system. Parameters: OCF_RESKEY_name, OCF_RESKEY_resource.
# Exit status: 0, 1 failed, 2 wrong parameters, 5 not installed or no daemon, 7 Secondary. bash 3.2.

PATH=/sbin:/usr/sbin:/bin:/usr/bin:$PATH
OCF_ERR_GENERIC=1
OCF_ERR_ARGS=2
OCF_ERR_UNIMPLEMENTED=3
OCF_ERR_INSTALLED=5
OCF_NOT_RUNNING=7

say() {
	logger -t "${0##*/}" -p "daemon.$1" -- "$2" 2>/dev/null
	echo "$2" >&2
}

verify() {
	local disk
	if ! type -P drbdadm >/dev/null; then
		say err "drbdadm is not installed"
		return $OCF_ERR_INSTALLED
	fi
	if [ -z "$resource" ]; then
		say err "no resource is named"
		return $OCF_ERR_ARGS
	fi
	if ! drbdadm sh-dev "$resource" >/dev/null 2>&1; then
		say err "drbd.conf has no resource $resource for this host"
		return $OCF_ERR_ARGS
	fi
	disk=$(drbdadm sh-ll-dev "$resource" 2>/dev/null | head -n 1)
	if [ ! -b "$disk" ]; then
		say err "the disk of $resource, $disk, is no block device"
		return $OCF_ERR_INSTALLED
	fi
	# In place of the kernel module. Without a daemon nothing is Primary, and a stop has nothing to do.
	if [ "$1" != stop ] && ! drbdsetup proc >/dev/null 2>&1; then
		say err "no drbd daemon answers: /etc/init.d/drbd start"
		return $OCF_ERR_INSTALLED
	fi
}

status() {
	local role
	role=$(drbdadm role "$resource" 2>/dev/null | head -n 1)
	case $role in
	Primary/*) return 0 ;;
	Secondary/*) return $OCF_NOT_RUNNING ;;
	esac
	say err "the role of $resource is unknown: '$role'"
	return $OCF_ERR_GENERIC
}

# role primary|secondary
role() {
	local output
	output=$(drbdadm "$1" "$resource" 2>&1) && return 0
	say err "drbdadm $1 $resource: $output"
	return $OCF_ERR_GENERIC
}

resource=$OCF_RESKEY_resource
case $1 in
meta-data | metadata)
	cat "$(dirname "${BASH_SOURCE[0]}")/drbd.metadata"
	exit
	;;
start | stop | status | monitor | verify-all | validate-all) ;;
*)
	echo "usage: ${0##*/} {start|stop|status|monitor|verify-all|meta-data}" >&2
	exit $OCF_ERR_UNIMPLEMENTED
	;;
esac
verify "$1" || exit $?
case $1 in
start) role primary ;;
stop) role secondary ;;
status | monitor) status ;;
esac
exit $?
