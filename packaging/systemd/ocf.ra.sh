#!/bin/bash
# ocf.ra.sh NAME: a resource agent of a cluster manager (OCF) as a service of systemd, ocf.ra@NAME.service. From the environment:
#   AGENT=heartbeat:IPaddr2     the agent, or its path
#   OCF_RESKEY_ip=10.0.0.7      its parameters
#   MONITOR_INTERVAL=10         seconds between two looks whether it runs
# It starts the agent's service, tells systemd, looks after it, and stops it at SIGTERM. Exit status: 0 stopped as asked; 1 it did not
# start, did not stop, or was found not running.

: "${OCF_ROOT:=/usr/lib/ocf}" "${MONITOR_INTERVAL:=10}"
export OCF_ROOT OCF_RA_VERSION_MAJOR=1 OCF_RA_VERSION_MINOR=0 OCF_RESOURCE_INSTANCE="${OCF_RESOURCE_INSTANCE:-$1}"
case $AGENT in
/*) ;;
?*:?*) AGENT=$OCF_ROOT/resource.d/${AGENT%%:*}/${AGENT#*:} ;;
esac
if [ ! -x "$AGENT" ]; then
	echo "AGENT='$AGENT' is no resource agent that is installed" >&2
	exit 1
fi
export OCF_RESOURCE_TYPE="${AGENT##*/}"

ending=
pause=
trap 'ending=yes; [ -z "$pause" ] || kill "$pause" 2>/dev/null' TERM INT

result=0
if "$AGENT" start; then
	systemd-notify --ready --status="$AGENT runs" 2>/dev/null
	while [ -z "$ending" ]; do
		sleep "$MONITOR_INTERVAL" &
		pause=$!
		# It may have come just before.
		[ -z "$ending" ] || kill "$pause"
		wait "$pause" 2>/dev/null
		pause=
		[ -z "$ending" ] || break
		"$AGENT" monitor
		status=$?
		# 8: it runs, and is promoted.
		if [ $status -ne 0 ] && [ $status -ne 8 ]; then
			echo "$AGENT monitor: exit status $status" >&2
			result=1
			break
		fi
	done
else
	echo "$AGENT start: exit status $?" >&2
	result=1
fi
# What has failed in its middle may still be there in part.
"$AGENT" stop
status=$?
if [ $status -ne 0 ]; then
	echo "$AGENT stop: exit status $status" >&2
	result=1
fi
exit $result
