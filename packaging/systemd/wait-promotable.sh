#!/bin/bash
# wait-promotable.sh RESOURCE: waits until the resource could become Primary here: it has access to good data, and no other host is
# Primary. For drbd-wait-promotable@.service. Exit status: 0 it could, or is; 1 the daemon has ended, or does not know it.

PATH=$PATH:/sbin:/usr/sbin
exec 3< <(exec drbdsetup events2 --full "$1")
events=$!
while read -r kind object fields <&3; do
	case "$kind $object $fields " in
	"exists resource "*" may_promote:yes "* | "change resource "*" may_promote:yes "* | \
		"exists resource "*" role:Primary "* | "change resource "*" role:Primary "*)
		kill "$events" 2>/dev/null
		exit 0
		;;
	"destroy resource "*) break ;;
	esac
done
echo "$1 will not become promotable: the daemon has ended, or does not know it" >&2
kill "$events" 2>/dev/null
exit 1
