#!/bin/bash
# Handlers that keep the old data of a disk while it is the target of a resync, when they are old but consistent:
#   before-resync-target "/usr/lib/drbd/snapshot-resync-target-lvm.sh -p 15 -- -c 16k";
#   after-resync-target  "/usr/lib/drbd/unsnapshot-resync-target-lvm.sh";     (a link to this script)
# The disk must be a logical volume LV; the snapshot is LV-before-resync (LV-before-resync-stacked for a stacked resource),
# with room for what is out of sync, and some more.
#   -p PERCENT   more room, in percent of the volume (10)
#   -a KIB       and this much (10240)
#   -n           refuse the resync if there can be no snapshot: exit status 1 (else it is 0, whatever happens)
#   -v           say on stderr what is done
#   -- OPTIONS   for lvcreate
# drbdadm sets DRBD_RESOURCE, DRBD_MINOR and DRBD_CONF. /etc/default/drbd-snapshot may set SNAPSHOT_PERCENT,
# SNAPSHOT_ADDITIONAL_KIB, SNAPSHOT_REQUIRED=yes, LVCREATE_OPTIONS.

# shellcheck source=state.bash
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/state.bash"

SNAPSHOT_PERCENT=10
SNAPSHOT_ADDITIONAL_KIB=10240
SNAPSHOT_REQUIRED=no
LVCREATE_OPTIONS=
verbose=
# shellcheck source=/dev/null
[ ! -f /etc/default/drbd-snapshot ] || . /etc/default/drbd-snapshot

say() {
	log info "$*"
	[ -z "$verbose" ] || echo "${0##*/}: $*" >&2
}
fail() {
	log err "$DRBD_RESOURCE: $*"
	[ -z "$verbose" ] || echo "${0##*/}: $DRBD_RESOURCE: $*" >&2
	if [ "$SNAPSHOT_REQUIRED" = yes ]; then exit 1; else exit 0; fi
}

while getopts p:a:nv option; do
	case $option in
	p) SNAPSHOT_PERCENT=$OPTARG ;;
	a) SNAPSHOT_ADDITIONAL_KIB=$OPTARG ;;
	n) SNAPSHOT_REQUIRED=yes ;;
	v) verbose=yes ;;
	*) fail "wrong options" ;;
	esac
done
shift $((OPTIND - 1))
case $SNAPSHOT_PERCENT$SNAPSHOT_ADDITIONAL_KIB in
'' | *[!0-9]*) fail "not a number: -p '$SNAPSHOT_PERCENT' -a '$SNAPSHOT_ADDITIONAL_KIB'" ;;
esac
[ -n "$DRBD_RESOURCE" ] || fail "DRBD_RESOURCE is not set: this is a handler, called by drbdadm"

adm() { $DRBDADM ${DRBD_CONF:+-c "$DRBD_CONF"} "$@" 2>/dev/null; }

# A stacked resource has its data on the disk of the one below it.
suffix=
lower=$(adm -S sh-lr-of "$DRBD_RESOURCE") && [ -n "$lower" ] && suffix=-stacked || lower=$DRBD_RESOURCE
device=${DRBD_LL_DISK:-}
[ -n "$device" ] && [ -z "$suffix" ] || device=$(adm sh-ll-dev "$lower" | head -n 1)
minor=${DRBD_MINOR:-$(adm ${suffix:+-S} sh-minor "$DRBD_RESOURCE" | head -n 1)}
[ -n "$device" ] || fail "the configuration has no disk for it"

# Sectors of 512 bytes.
IFS=' ,' read -r group volume sectors _ <<EOF
$(lvs --noheadings --nosuffix --units s -o vg_name,lv_name,lv_size "$device" 2>/dev/null)
EOF
[ -n "$sectors" ] || fail "$device is not a logical volume"
sectors=${sectors%%[!0-9]*}
snapshot=$volume-before-resync$suffix
there() { lvs --noheadings -o lv_name "$group/$snapshot" >/dev/null 2>&1; }

case ${0##*/} in
unsnapshot-*)
	there || exit 0
	lvremove -f "$group/$snapshot" >/dev/null 2>&1 || fail "$group/$snapshot could not be removed"
	say "$DRBD_RESOURCE: removed $group/$snapshot"
	exit 0
	;;
esac

# That of an interrupted resync: it has the data of before the first one, which alone are consistent.
if there; then
	say "$DRBD_RESOURCE: $group/$snapshot is there already"
	exit 0
fi
out_of_sync=$(out_of_sync_kib "$minor") || fail "the daemon does not tell how much of minor $minor is out of sync"
kib=$((out_of_sync + SNAPSHOT_ADDITIONAL_KIB + sectors / 2 * SNAPSHOT_PERCENT / 100))
# shellcheck disable=SC2086 # words
lvcreate -s -n "$snapshot" -L "${kib}k" $LVCREATE_OPTIONS "$@" "$group/$volume" >/dev/null 2>&1 ||
	fail "a snapshot of $kib KiB of $group/$volume could not be made"
say "$DRBD_RESOURCE: made $group/$snapshot, of $kib KiB"
exit 0
