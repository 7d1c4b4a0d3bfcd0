#!/bin/bash
# What cluster managers use, with real daemons: the agent of Pacemaker, the handlers that fence the peer and keep a snapshot,
# while the change of the state waits for them, and who is behind a device of the kernel. The cluster's own programs are played:
# its configuration is a file that both hosts see.

# shellcheck source=lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
hosts_begin
pair_up 64 1000M
cp "$WORK/installed/usr/lib/ocf/resource.d/linbit/drbd" "$SHARED/agent"

# stub NAME: a program of both hosts; its text comes from stdin.
stub() {
	local host
	cat >"$SHARED/stub"
	for host in data01 data02; do
		rm -f "$WORK/$host/sbin/$1"
		sed "s,SHARED,$SHARED,g" "$SHARED/stub" >"$WORK/$host/sbin/$1"
		chmod +x "$WORK/$host/sbin/$1"
	done
}
stub crm_master <<'STUB'
#!/bin/sh
echo "$*" >/tmp/score
STUB
stub crmadmin <<'STUB'
#!/bin/sh
exit 0
STUB
stub cibadmin <<'STUB'
#!/bin/bash
case $1 in
-Q*)
	cat <<XML
<cib><configuration><resources><master id="ms_r0"><primitive id="p" class="ocf" provider="linbit" type="drbd"><instance_attributes id="a">
<nvpair id="n" name="drbd_resource" value="r0"/></instance_attributes></primitive></master></resources><constraints>
$(cat SHARED/constraint 2>/dev/null)
</constraints></configuration><status>
<node_state id="1" uname="data01" in_ccm="true" crmd="online" join="member" expected="member"/>
<node_state id="2" uname="data02" in_ccm="true" crmd="online" join="member" expected="member"/>
</status></cib>
XML
	;;
-C)
	set -o noclobber
	echo "${*: -1}" >SHARED/constraint
	;;
-D) rm SHARED/constraint ;;
esac
STUB
AGENT="OCF_RESKEY_drbd_resource=r0 OCF_RESKEY_CRM_meta_notify=true OCF_RESKEY_CRM_meta_interval=10000 bash $SHARED/agent"

step "the agent of Pacemaker sees, stops, starts and promotes"
refused 8 data01 "$AGENT monitor"
on data01 'cat /tmp/score'
shows '^-Q -l reboot -v 10000$'
on data01 "$AGENT demote && $AGENT monitor"
for host in data01 data02; do
	on $host "$AGENT stop"
	refused 7 $host "$AGENT monitor"
done
on data01 "cat /tmp/score; cat $PROC"
shows '^-Q -l reboot -D$'
shows_not 'ds:'
together "$AGENT start" data01 data02
together "$AGENT monitor" data01 data02
on data02 "cat $PROC"
shows 'cs:Connected ro:Secondary/Secondary ds:UpToDate/UpToDate'
on data01 "$AGENT promote"
refused 8 data01 "$AGENT monitor"
refused 1 data02 "OCF_RESKEY_fail_promote_early_if_peer_primary=true $AGENT promote"
on data02 "$AGENT notify; $AGENT reload"

step "no daemon: not running; a start brings it back"
for host in data02 data01; do
	on $host 'drbdadm secondary r0; P=$(cat /run/drbd/drbdd.pid); kill $P; while kill -0 $P 2>/dev/null; do sleep 0.02; done'
	refused 7 $host "$AGENT monitor"
	on $host "$AGENT stop"
done
handlers=/usr/local/drbd/lib/drbd
cat >"$SHARED/fencing" <<EOF
    disk { fencing resource-and-stonith; }
    handlers {
        fence-peer $handlers/crm-fence-peer.sh;
        before-resync-target "$handlers/snapshot-resync-target-lvm.sh -- -c 16k";
        after-resync-target $handlers/crm-unfence-peer.sh;
    }
EOF
for host in data01 data02; do
	on $host "sed -i '/^resource r0 {/r $SHARED/fencing' /etc/drbd.conf"
done
together "$AGENT start" data01 data02
await 10 data01 "$IN_SYNC"

step "the device behind /dev/drbd0 is known by its name, as long as it is"
on data01 'drbdadm primary r0; mkfs.ext3 -q /dev/drbd0; mkdir /data; mount /dev/drbd0 /data'
on data01 'drbdadm sh-udev-backing "$(basename "$(readlink -f "/sys/dev/block/$((0x$(stat -c %t /dev/drbd0))):$((0x$(stat -c %T /dev/drbd0)))")")"'
shows '^DRBD_DEVICE=drbd0$'
refused 1 data01 'drbdadm sh-udev-backing sdb1'
refused 1 data02 "drbdadm sh-udev-backing loop0"

step "the peer is lost: writes wait until crm-fence-peer.sh has placed a constraint, which asks the daemon meanwhile"
await 10 data01 "$IN_SYNC"
host_unplug data02
on data01 'echo content | dd of=/data/file conv=fsync status=none; drbdsetup proc'
shows 'ro:Primary/Unknown ds:UpToDate/Outdated'
on data01 "cat $SHARED/constraint; grep -e 'fence-peer' /var/log/messages"
shows 'rsc_location rsc="ms_r0" id="drbd-fence-by-handler-r0-ms_r0"'
shows 'attribute="#uname" operation="ne" value="data01"'
shows 'helper command: /sbin/drbdadm fence-peer minor-0 exit code 4 \(0x400\)$'
shows 'crm-fence-peer.sh.*data02 is reachable; placed'

step "the peer is back: a snapshot would be as large as what is out of sync, and the constraint goes when the disk is good"
stub lvs <<'STUB'
#!/bin/sh
case $* in
*/dev/sdb1) echo " vg0 lv0 131072" ;;
*) exit 5 ;;
esac
STUB
stub lvcreate <<'STUB'
#!/bin/sh
echo "lvcreate $*" >>SHARED/lvcreate
STUB
host_plug data02
await 20 data01 "$IN_SYNC"
await 10 data02 "! test -e $SHARED/constraint"
on data02 "cat $SHARED/lvcreate; grep -e resync-target /var/log/messages"
shows '^lvcreate -s -n lv0-before-resync -L [0-9]+k -c 16k vg0/lv0$'
shows 'helper command: /sbin/drbdadm after-resync-target minor-0 exit code 0 \(0x0\)$'

printf '\nAll %d steps held, in %d seconds.\n' "$STEP" "$SECONDS"
