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
mkdir handlers
cp "$top/packaging/handlers/state.bash" handlers/
sed "s,^LIBDIR=.*,LIBDIR=$work/handlers," "$top/packaging/pacemaker/drbd" | grep -v /etc/default/drbd >agent
sed -i "s,^DRBDD=.*,DRBDD=drbdd," agent
# shellcheck source=stubs.sh
. "$top/tests/stubs.sh"
stub logger </dev/null
stub sleep </dev/null
stub uname <<<'echo data01'
stub crm_master </dev/null
stub crm-unfence-peer.sh <<<'echo "for $DRBD_RESOURCE of $DRBD_CONF" >>calls; exit 1'
mv bin/crm-unfence-peer.sh handlers/
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
[ "\$*" != --version ] || { echo DRBD_KERNEL_VERSION_CODE=0x08040b; exit 0; }
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
for parameter in drbd_resource drbdconf adjust_master_score stop_outdates_secondary wfc_timeout ignore_missing_notifications \
	remove_master_score_if_peer_primary fail_promote_early_if_peer_primary unfence_if_all_uptodate unfence_extra_args \
	require_drbd_module_version_ge require_drbd_module_version_lt connect_only_after_promote; do
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
# The version is 8.4.11.
from=OCF_RESKEY_require_drbd_module_version_ge
below=OCF_RESKEY_require_drbd_module_version_lt
agent 0 validate-all $from=8.4.0 $below=9.0.0
agent 0 validate-all $from=8.4.11 $below=8.4.12
agent 5 validate-all $from=8.4.12
agent 5 start $below=8.4.11
agent 7 monitor $from=9.0.0 OCF_RESKEY_CRM_meta_interval=0
agent 0 validate-all $from=8.3.010
for version in 9 8.4 8.4.x 8.4.256 8.4.1.1 "8.4. 1" -8.4.1; do
	agent 6 validate-all "$from=$version"
	agent 6 validate-all "$below=$version"
done
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
# What keeps the peer from becoming Master goes when all is well.
unfences=OCF_RESKEY_unfence_if_all_uptodate=true
device_is Connected Primary Secondary UpToDate UpToDate
agent 8 monitor $unfences
called "crm_master -Q -l reboot -v 10000
crm-unfence-peer.sh --quiet --flock-required --flock-timeout 0 --unfence-only-if-owner-match
for r0 of $work/drbd.conf"
agent 8 monitor $unfences OCF_RESKEY_unfence_extra_args=
called "crm_master -Q -l reboot -v 10000
crm-unfence-peer.sh
for r0 of $work/drbd.conf"
for state in "SyncSource Primary Secondary UpToDate Inconsistent" "WFConnection Primary Unknown UpToDate DUnknown"; do
	device_is "$state"
	agent 8 monitor $unfences
	called 'crm_master -Q -l reboot -v 10000'
done

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

# --- no connection before a promotion -------------------------------------------------------------------------------------

late=OCF_RESKEY_connect_only_after_promote=true
device_is Unconfigured
agent 0 start $late
called $'drbdadm check-resize r0\ndrbdadm syncer r0\ndrbdadm attach r0\ncrm_master -Q -l reboot -v 1000'
# The other host has started, and is not Master either; nor does a reload connect.
agent 0 notify $late OCF_RESKEY_CRM_meta_notify_type=post OCF_RESKEY_CRM_meta_notify_operation=start \
	OCF_RESKEY_CRM_meta_notify_start_uname=data02
called 'crm_master -Q -l reboot -v 1000'
agent 0 reload $late
called ''
# This one is promoted, or the other one.
agent 0 promote $late
called $'drbdadm primary r0\ndrbdadm adjust r0\ncrm_master -Q -l reboot -v 10000'
device_is StandAlone Secondary Unknown UpToDate DUnknown
agent 0 notify $late OCF_RESKEY_CRM_meta_notify_type=pre OCF_RESKEY_CRM_meta_notify_operation=promote \
	OCF_RESKEY_CRM_meta_notify_promote_uname=data02 OCF_RESKEY_CRM_meta_notify_slave_uname="data01 data02"
called ''
agent 0 notify $late OCF_RESKEY_CRM_meta_notify_type=post OCF_RESKEY_CRM_meta_notify_operation=promote \
	OCF_RESKEY_CRM_meta_notify_promote_uname=data02 OCF_RESKEY_CRM_meta_notify_slave_uname="data01 data02"
called $'drbdadm --peer data02 -v adjust r0\ncrm_master -Q -l reboot -v 1000'
# A host that starts while the other one is Master connects at once; and a connection that is there stays adjusted.
device_is Unconfigured
agent 0 start $late OCF_RESKEY_wfc_timeout= OCF_RESKEY_CRM_meta_notify_master_uname=data02
called $'drbdadm check-resize r0\ndrbdadm syncer r0\ndrbdadm --peer data02 attach r0\ndrbdadm --peer data02 adjust r0\ncrm_master -Q -l reboot -v 1000'
device_is Connected Secondary Primary UpToDate UpToDate
agent 0 reload $late
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

# --- scripts of the systemd units --------------------------------------------------------------------------------------

export PATH="$work/bin:$PATH"
# Prints the file events2, and then waits, as long as nobody ends it.
stub drbdsetup <<'STUB'
echo $$ >events2.pid
cat events2
[ ! -e waits ] || exec sleep 60
STUB
rm bin/sleep
wait_promotable() { # STATUS
	: >calls
	timeout 30 bash "$top/packaging/systemd/wait-promotable.sh" r0 2>err
	status=$?
	[ "$status" -eq "$1" ] || fail "wait-promotable.sh: exit status $status, expected $1; $(cat err calls)"
	grep -qx 'drbdsetup events2 --full r0' calls || fail "wait-promotable.sh: $(cat calls)"
	tail --pid="$(cat events2.pid)" -f /dev/null
}
cat >events2 <<'TEXT'
exists resource name:r0 role:Secondary suspended:no may_promote:no promotion_score:0
exists device name:r0 volume:0 minor:0 backing_dev:/dev/sdb1 disk:Inconsistent client:no quorum:yes
exists -
change device name:r0 volume:0 minor:0 disk:UpToDate
change resource name:r0 may_promote:yes promotion_score:10101
TEXT
touch waits
wait_promotable 0
sed -i 's/^exists resource.*/exists resource name:r0 role:Secondary suspended:no may_promote:yes promotion_score:10101/; 4,$d' events2
wait_promotable 0
echo 'exists -' >events2
echo 'destroy resource name:r0' >>events2
wait_promotable 1
sed -i '$d' events2
rm waits
wait_promotable 1
grep -q 'r0 will not become promotable' err || fail "wait-promotable.sh does not say why: $(cat err)"

# An agent whose service is the file running.
mkdir -p ocf/resource.d/test
cat >ocf/resource.d/test/thing <<STUB
#!/bin/bash
cd "$work" || exit 1
echo "\$1 \$OCF_RESKEY_ip \$OCF_RESOURCE_INSTANCE \$OCF_RESOURCE_TYPE" >>calls
case \$1 in
start) [ ! -e no-start ] && touch running ;;
stop) rm -f running; [ ! -e no-stop ] ;;
monitor) [ -e running ] && exit \$(cat monitor.status 2>/dev/null || echo 0); exit 7 ;;
esac
STUB
chmod +x ocf/resource.d/test/thing
stub systemd-notify </dev/null
ocf_service() {
	: >calls
	env -i PATH="$PATH" OCF_ROOT="$work/ocf" AGENT=test:thing OCF_RESKEY_ip=10.0.0.7 MONITOR_INTERVAL=0.1 "$@" \
		bash "$top/packaging/systemd/ocf.ra.sh" ip >out 2>err &
	service=$!
}
ends() { # STATUS CALLS...
	wait "$service"
	status=$?
	[ "$status" -eq "$1" ] || fail "ocf.ra.sh: exit status $status, expected $1; $(cat err calls)"
	got=$(sed 's/^systemd-notify --ready.*/ready/; s/ 10.0.0.7 ip thing$//' calls | uniq | tr '\n' ' ')
	[ "$got" = "${2:+$2 }" ] || fail "ocf.ra.sh: $got, expected $2"
}
await_call() { until grep -q "^$1" calls; do read -rt 0.02 <> <(:); done; }
ocf_service
await_call monitor
kill "$service"
ends 0 "start ready monitor stop"
[ ! -e running ] || fail "ocf.ra.sh leaves the service"
# Promoted; then it is found not running.
echo 8 >monitor.status
ocf_service
await_call monitor
rm running
ends 1 "start ready monitor stop"
rm monitor.status
touch no-start
ocf_service
ends 1 "start stop"
rm no-start
touch no-stop
ocf_service
await_call monitor
kill "$service"
ends 1 "start ready monitor stop"
rm no-stop
ocf_service "AGENT=$work/ocf/resource.d/test/thing" MONITOR_INTERVAL=60
await_call systemd-notify
kill "$service"
ends 0 "start ready stop"
ocf_service AGENT=test:nothing
ends 1 ""
grep -q 'is no resource agent' err || fail "ocf.ra.sh with an unknown agent: $(cat err)"

# What the units call, with a daemon and a disk that is a file: the first line that begins so, for r0.
unit_command() { # UNIT KEYWORD
	sed -e ':join' -e '/\\$/N' -e 's/\\\n//' -e 't join' "$top/packaging/systemd/$1" |
		sed -n "s,^$2=,,; t ours; d; :ours s/%I/r0/g; s/\\$\\$/\$/g; s,/sbin/,$work/real/,g; s,@handlers@,$top/packaging/systemd,; p; q"
}
DRBDBOX=${DRBDBOX:-$top/target/release/drbdbox}
if [ -x "$DRBDBOX" ]; then
	rm bin/*
	mkdir -p real/run real/lib
	"$DRBDBOX" --install real >/dev/null 2>&1 || fail "drbdbox --install"
	export DRBDBOX_RUNDIR=$work/real/run DRBDBOX_LIBDIR=$work/real/lib DRBDBOX_LOCKDIR=$work/real DRBDD_AUTOSTART=no PATH=$work/real:$PATH
	truncate -s 64M real/disk
	cat >real/drbd.conf <<CONF
resource r0 {
	protocol C;
	on $(uname -n) { device minor 77; disk $work/real/disk; address 127.0.0.1:7877; meta-disk internal; }
	on other-host { device minor 77; disk $work/real/disk; address 127.0.0.2:7877; meta-disk internal; }
}
CONF
	cat >real/wrapper <<CONF
#!/bin/sh
exec "$DRBDBOX" drbdadm -c "$work/real/drbd.conf" "\$@"
CONF
	rm real/drbdadm
	mv real/wrapper real/drbdadm
	chmod +x real/drbdadm
	drbdd --foreground --door none >real/log 2>&1 &
	daemon=$!
	trap 'kill -9 "$daemon" 2>/dev/null; rm -rf "$work"' EXIT
	until drbdsetup proc >/dev/null 2>&1; do
		kill -0 "$daemon" 2>/dev/null || fail "drbdd: $(cat real/log)"
	done
	# unit STATUS UNIT KEYWORD ROLE
	unit() {
		timeout 60 bash -c "$(unit_command "$2" "$3")" >out 2>&1
		status=$?
		[ "$status" -eq "$1" ] || fail "$3 of $2, $(unit_command "$2" "$3"): exit status $status; $(cat out)"
		role=$(drbdadm role r0 2>/dev/null)
		[ "$role" = "$4" ] || fail "$3 of $2: role '$role', not '$4'"
	}
	drbdadm -- --force create-md r0 </dev/null >out 2>&1 || fail "create-md: $(cat out)"
	unit 0 drbd@.service ExecStart Secondary/Unknown
	drbdadm -- --overwrite-data-of-peer primary r0 >out 2>&1 || fail "primary: $(cat out)"
	unit 0 drbd-promote@.service ExecStop Secondary/Unknown
	unit 0 drbd-wait-promotable@.service ExecStart Secondary/Unknown
	unit 0 drbd-promote@.service ExecStart Primary/Unknown
	unit 0 drbd-wait-promotable@.service ExecStart Primary/Unknown
	unit 0 drbd-demote-or-escalate@.service ExecStart Secondary/Unknown
	unit 0 drbd@.service ExecStopPost ''
	# The resource has gone from the configuration: nothing to escalate for.
	sed -i 's/resource r0/resource r1/' real/drbd.conf
	timeout 60 bash -c "$(unit_command drbd-demote-or-escalate@.service ExecStart)" >out 2>&1 || fail "no resource, and no end: $(cat out)"
	kill "$daemon"
	wait "$daemon" || fail "drbdd: $(cat real/log)"
else
	echo "no $DRBDBOX: what the units call was not tried with it"
fi

echo "ocf:linbit:drbd, scripts of systemd units, drbd.sh of rgmanager: exit status and calls are as they should be"
