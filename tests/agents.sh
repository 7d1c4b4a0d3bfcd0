#!/bin/bash
# The agents of packaging/pacemaker and packaging/rgmanager, with a drbdadm and a drbdsetup that note their calls and play a device, and a crm_master that
# notes the score: exit status, calls and their order.

set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
fail() {
	echo "FAILED: $*" >&2
	exit 1
}
# Any block device: the agents look whether there is one, and no more. Those in /dev come and go.
device=$work/device
if ! mknod "$device" b 7 0 2>/dev/null; then
	device=$(find /dev -type b 2>/dev/null | head -n 1)
	[ -n "$device" ] || { echo "no block device"; exit 77; }
fi

mkdir bin
sed "s,^LIBDIR=.*,LIBDIR=$top/packaging/handlers," "$top/packaging/pacemaker/drbd" | grep -v /etc/default/drbd >agent
sed -i "s,^DRBDD=.*,DRBDD=drbdd," agent
# shellcheck source=stubs.sh
. "$top/tests/stubs.sh"
stub logger </dev/null
stub sleep </dev/null
stub uname <<<'echo data01'
stub crm_master </dev/null
# Its start is the file daemon.
stub drbdd <<<'[ ! -e no-daemon ] && touch daemon'
# The state is the file state: cs local-role peer-role disk peer-disk. COMMAND.fails: how often it fails, and the status.
stub drbdsetup <<STUB
case \$* in
proc) [ -e daemon ]; exit ;;
"$device sh-status")
	[ -e daemon ] && read -r cs role peer disk pdsk <state || exit 20
	printf '_minor=0\n_res_name=%s\n_known=x\n\n_cstate=%s\n_role=%s\n_peer=%s\n_disk=%s\n_pdsk=%s\n\n_sh_status_process\n\n\n' "\$DRBD_RESOURCE" \$cs \$role \$peer \$disk \$pdsk
	;;
*wait-connect*) exit 5 ;;
"down r0") exit \$(cat down.status 2>/dev/null || echo 0) ;;
esac
STUB
stub drbdadm <<STUB
[ "\$1 \$2" = "-c \$PWD/drbd.conf" ] || exit 3
shift 2
stacked=
[ "\$1" != --stacked ] || { stacked=yes; shift; }
[ "\$1" != --peer ] || shift 2
case \$*/\$stacked in
"sh-dev r0/yes" | "sh-dev r0-U/") exit 3 ;;
esac
words=\$*
if read -r times status 2>/dev/null <"\${words%% *}.fails" && [ "\$times" -gt 0 ]; then
	echo "\$((times - 1)) \$status" >"\${words%% *}.fails"
	exit "\$status"
fi
[ ! -e state ] || read -r cs role peer disk pdsk <state
case \$* in
"sh-dev r0" | "sh-dev r0-U") echo $device ;;
"sh-dev "*) exit 3 ;;
"-d -v dump r0") cat dump ;;
"syncer r0") echo Unconfigured >state ;;
"attach r0") echo StandAlone Secondary Unknown UpToDate DUnknown >state ;;
"primary r0") echo \$cs Primary \$peer \$disk \$pdsk >state ;;
"secondary r0") echo \$cs Secondary \$peer \$disk \$pdsk >state ;;
"down r0") echo Unconfigured >state ;;
"outdate r0") echo \$cs \$role \$peer Outdated \$pdsk >state ;;
esac
STUB
: >drbd.conf
echo '    allow-two-primaries;' >dump

# agent STATUS ACTION [NAME=VALUE...]
agent() {
	local wanted=$1 action=$2 status
	shift 2
	: >calls
	env -i PATH="$work/bin:/usr/bin:/bin" OCF_ROOT="$work/ocf" OCF_RESKEY_drbd_resource=r0 "OCF_RESKEY_drbdconf=$work/drbd.conf" \
		OCF_RESKEY_CRM_meta_clone_max=2 OCF_RESKEY_CRM_meta_clone_node_max=1 OCF_RESKEY_CRM_meta_master_max=1 \
		OCF_RESKEY_CRM_meta_master_node_max=1 OCF_RESKEY_CRM_meta_notify=true OCF_RESKEY_CRM_meta_interval=20000 "$@" \
		timeout 30 bash agent "$action" >out 2>err </dev/null
	status=$?
	[ "$status" -eq "$wanted" ] || fail "$action $*: exit status $status, expected $wanted; $(cat out err calls)"
	[ ! -s err ] || [ "$action" = nonsense ] || fail "$action $*: $(cat err)"
}
# The calls that change something, one a line.
called() {
	local got
	got=$(grep -v -e '^logger' -e '^uname' -e '^drbdsetup .*sh-status' -e '^drbdsetup proc' -e 'sh-dev' calls | sed "s,-c $work/drbd.conf ,,; s/^sleep [0-9][0-9]*\$/sleep/")
	[ "$got" = "$1" ] || fail "calls: $got
expected: $1"
}
device_is() { echo "$*" >state; }

# --- no device is needed ----------------------------------------------------------------------------------------------

agent 0 meta-data
if type -P xmllint >/dev/null; then
	xmllint --noout --nonet out 2>err || fail "meta-data: $(cat err)"
elif type -P python3 >/dev/null; then
	python3 -c 'import sys, xml.etree.ElementTree as tree; tree.parse(sys.argv[1])' out 2>err || fail "meta-data: $(cat err)"
fi
for parameter in drbd_resource drbdconf adjust_master_score stop_outdates_secondary wfc_timeout ignore_missing_notifications; do
	grep -q "<parameter name=\"$parameter\"" out || fail "meta-data: no $parameter"
done
for line in 'name="start" timeout="240"' 'name="stop" timeout="100"' 'name="promote" timeout="90"' 'name="demote" timeout="90"' \
	'name="notify" timeout="90"' 'name="monitor" timeout="20" interval="20" role="Slave"' \
	'name="monitor" timeout="20" interval="10" role="Master"' 'name="meta-data" timeout="5"' 'name="validate-all" timeout="30"'; do
	grep -qF "<action $line/>" out || fail "meta-data: no $line"
done
agent 3 nonsense
agent 0 usage
agent 0 validate-all

# --- wrong parameters -------------------------------------------------------------------------------------------------

agent 6 validate-all OCF_RESKEY_drbd_resource=
agent 6 validate-all "OCF_RESKEY_drbdconf=/etc/drbd conf;x"
agent 5 validate-all OCF_RESKEY_drbdconf=/nowhere/drbd.conf
agent 5 start OCF_RESKEY_drbd_resource=r7
for score in "1 2 3" "1 2 3 4 5" "10 5 1000 10000" "a b c d" "-1 2 3 4"; do
	agent 6 validate-all "OCF_RESKEY_adjust_master_score=$score"
done
agent 6 start OCF_RESKEY_CRM_meta_clone_max=3
agent 6 start OCF_RESKEY_CRM_meta_clone_node_max=2
agent 6 start OCF_RESKEY_CRM_meta_master_max=3
agent 6 start OCF_RESKEY_CRM_meta_master_node_max=2
agent 6 start OCF_RESKEY_CRM_meta_promoted_max=3
agent 6 start OCF_RESKEY_CRM_meta_notify=false
agent 0 validate-all OCF_RESKEY_CRM_meta_notify=false OCF_RESKEY_ignore_missing_notifications=true
: >dump
agent 6 start OCF_RESKEY_CRM_meta_master_max=2
agent 0 validate-all OCF_RESKEY_CRM_meta_master_max=2
# Where it cannot run it does not run; and a stop there takes down what may still run.
agent 7 monitor OCF_RESKEY_drbdconf=/nowhere/drbd.conf OCF_RESKEY_CRM_meta_interval=0
agent 5 monitor OCF_RESKEY_drbdconf=/nowhere/drbd.conf
agent 0 stop OCF_RESKEY_drbdconf=/nowhere/drbd.conf
called 'drbdsetup down r0'
echo 11 >down.status
agent 1 stop OCF_RESKEY_drbdconf=/nowhere/drbd.conf
rm down.status

# --- not running ------------------------------------------------------------------------------------------------------

agent 7 monitor
called 'crm_master -Q -l reboot -D'
agent 7 promote
agent 7 demote
agent 7 reload
agent 0 stop
called 'crm_master -Q -l reboot -D'
agent 0 notify OCF_RESKEY_CRM_meta_notify_type=post OCF_RESKEY_CRM_meta_notify_operation=start
called ''

# --- start ------------------------------------------------------------------------------------------------------------

touch no-daemon
agent 5 start
rm no-daemon
echo 1 10 >attach.fails
agent 0 start OCF_RESKEY_CRM_meta_notify_start_uname="data01 data02"
called "drbdd --background
drbdadm check-resize r0
drbdadm syncer r0
drbdadm --peer data02 attach r0
sleep
drbdadm syncer r0
drbdadm --peer data02 attach r0
drbdadm --peer data02 adjust r0
drbdsetup $device wait-connect --wfc-timeout=5 --degr-wfc-timeout=5 --outdated-wfc-timeout=5
crm_master -Q -l reboot -v 1000"
agent 0 start OCF_RESKEY_wfc_timeout=
called $'drbdadm adjust r0\ncrm_master -Q -l reboot -v 1000'
device_is Connected Primary Secondary UpToDate UpToDate
agent 0 start OCF_RESKEY_wfc_timeout=no
called $'drbdadm secondary r0\ndrbdadm adjust r0\ncrm_master -Q -l reboot -v 10000'

# --- monitor, and the score -------------------------------------------------------------------------------------------

# STATUS SCORE STATE
while read -r status score state; do
	device_is "$state"
	agent "$status" monitor
	if [ "$score" = none ]; then called 'crm_master -Q -l reboot -D'; else called "crm_master -Q -l reboot -v $score"; fi
done <<'END'
0 10000 Connected Secondary Secondary UpToDate UpToDate
8 10000 Connected Primary Secondary UpToDate UpToDate
8 10000 WFConnection Primary Unknown UpToDate DUnknown
0 1000 WFConnection Secondary Unknown UpToDate DUnknown
0 10000 WFConnection Secondary Unknown UpToDate Outdated
0 10 SyncTarget Secondary Primary Inconsistent UpToDate
8 10 Connected Primary Secondary Diskless UpToDate
0 5 WFConnection Secondary Unknown Consistent DUnknown
0 10 WFBitMapT Secondary Secondary Consistent UpToDate
0 none WFConnection Secondary Unknown Outdated DUnknown
0 none WFConnection Secondary Unknown Inconsistent DUnknown
7 none Unconfigured
END
device_is WFConnection Secondary Unknown Consistent DUnknown
agent 0 monitor "OCF_RESKEY_adjust_master_score=0 10 1000 10000"
called 'crm_master -Q -l reboot -D'
device_is Connected Secondary Primary UpToDate UpToDate
agent 0 status OCF_RESKEY_remove_master_score_if_peer_primary=true
called 'crm_master -Q -l reboot -D'
rm daemon
agent 7 monitor
touch daemon

# --- promote, demote, stop --------------------------------------------------------------------------------------------

device_is Connected Secondary Secondary UpToDate UpToDate
echo 2 11 >primary.fails
agent 0 promote
called $'drbdadm primary r0\nsleep\ndrbdadm primary r0\nsleep\ndrbdadm primary r0\ncrm_master -Q -l reboot -v 10000'
agent 8 monitor
agent 0 promote
device_is WFConnection Secondary Unknown Inconsistent DUnknown
echo 1 17 >primary.fails
agent 1 promote
called $'drbdadm primary r0\nsleep'
device_is Connected Secondary Primary UpToDate UpToDate
agent 1 promote OCF_RESKEY_fail_promote_early_if_peer_primary=yes
called 'sleep'
device_is Connected Primary Secondary UpToDate UpToDate
echo 1 11 >secondary.fails
agent 0 demote
called $'drbdadm secondary r0\nsleep\ndrbdadm secondary r0\ncrm_master -Q -l reboot -v 10000'
agent 0 demote
called 'crm_master -Q -l reboot -v 10000'
device_is Connected Primary Secondary UpToDate UpToDate
agent 0 stop
called $'drbdadm secondary r0\ndrbdadm down r0\ncrm_master -Q -l reboot -D'
agent 7 monitor

# --- notify, reload ---------------------------------------------------------------------------------------------------

notify() {
	agent 0 notify OCF_RESKEY_CRM_meta_notify_type="${1%-*}" OCF_RESKEY_CRM_meta_notify_operation="${1#*-}" "${@:2}"
}
device_is Connected Secondary Secondary UpToDate UpToDate
notify pre-start OCF_RESKEY_CRM_meta_notify_start_uname=data02
called 'drbdadm --peer data02 -v adjust r0'
notify post-start OCF_RESKEY_CRM_meta_notify_start_uname=data02
called $'drbdadm --peer data02 -v adjust r0\ncrm_master -Q -l reboot -v 10000'
notify pre-promote
called ''
notify post-promote
called 'crm_master -Q -l reboot -v 10000'
device_is WFConnection Secondary Unknown UpToDate DUnknown
master=OCF_RESKEY_CRM_meta_notify_master_uname=data02
notify post-stop $master
called 'crm_master -Q -l reboot -v 1000'
outdates=OCF_RESKEY_stop_outdates_secondary=true
notify post-stop $outdates
called 'crm_master -Q -l reboot -v 1000'
notify post-demote $outdates $master OCF_RESKEY_CRM_meta_notify_demote_uname=data02
called 'crm_master -Q -l reboot -v 1000'
notify post-stop $outdates $master
called $'crm_master -Q -l reboot -v 1000\ndrbdadm outdate r0\ncrm_master -Q -l reboot -D'
agent 0 reload
called 'drbdadm adjust r0'

# --- a stacked resource -----------------------------------------------------------------------------------------------

device_is Connected Secondary Secondary UpToDate UpToDate
agent 0 start OCF_RESKEY_drbd_resource=r0-U OCF_RESKEY_wfc_timeout=
grep -q 'drbdadm .*--stacked adjust r0-U' calls || fail "a stacked resource: $(cat calls)"

# --- rgmanager --------------------------------------------------------------------------------------------------------

cp "$top"/packaging/rgmanager/* .
stub drbdadm <<STUB
read -r cs role peer disk pdsk <state
case \$* in
"sh-dev r0" | "sh-dev r1") echo /dev/drbd0 ;;
"sh-ll-dev r0") echo $device ;;
"sh-ll-dev r1") echo /nowhere ;;
"role r0") [ -e daemon ] && echo "\$role/\$peer" ;;
"primary r0" | "secondary r0") exit \$(cat role.status 2>/dev/null || echo 0) ;;
*) exit 3 ;;
esac
STUB
# cluster STATUS ACTION [NAME=VALUE...]
cluster() {
	local wanted=$1 action=$2 status
	shift 2
	: >calls
	# Its own PATH begins with the system's directories.
	sed "s,^PATH=,&$work/bin:," drbd.sh >drbd-here.sh
	cp drbd.metadata drbd-here.metadata
	env -i PATH=/usr/bin:/bin OCF_RESKEY_name=d0 OCF_RESKEY_resource=r0 "$@" timeout 30 bash drbd-here.sh "$action" >out 2>err </dev/null
	status=$?
	[ "$status" -eq "$wanted" ] || fail "rgmanager's $action $*: exit status $status, expected $wanted; $(cat out err calls)"
}
cluster 0 meta-data
grep -q '<action name="status" timeout="20" interval="60"/>' out || fail "rgmanager's meta-data: $(cat out)"
if type -P python3 >/dev/null; then
	python3 -c 'import sys, xml.etree.ElementTree as tree; tree.parse(sys.argv[1])' out 2>err || fail "rgmanager's meta-data: $(cat err)"
fi
device_is Connected Primary Secondary UpToDate UpToDate
cluster 0 status
cluster 0 monitor
cluster 0 verify-all
device_is Connected Secondary Primary UpToDate UpToDate
cluster 7 status
cluster 0 start
grep -qx 'drbdadm primary r0' calls || fail "rgmanager's start: $(cat calls)"
cluster 0 stop
grep -qx 'drbdadm secondary r0' calls || fail "rgmanager's stop: $(cat calls)"
echo 11 >role.status
cluster 1 start
cluster 1 stop
rm role.status
device_is Unconfigured
cluster 1 status
cluster 2 status OCF_RESKEY_resource=
cluster 2 status OCF_RESKEY_resource=r7
cluster 5 start OCF_RESKEY_resource=r1
cluster 3 dance
rm daemon
cluster 5 start
cluster 5 status
cluster 0 stop

echo "ocf:linbit:drbd, drbd.sh of rgmanager: exit status and calls are as they should be"
