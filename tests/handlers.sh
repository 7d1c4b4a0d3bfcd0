#!/bin/bash
# The handlers of packaging/handlers, with programs of the cluster, of LVM and of the mail system that note their calls, and a
# drbdsetup that says what the test wants: exit status, calls, and what would be changed.

set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
fail() {
	echo "FAILED: $*" >&2
	exit 1
}

mkdir bin handlers
cp "$top"/packaging/handlers/* handlers/
make -s --no-print-directory -C "$top" handler-links DIRECTORY="$work/handlers" || fail "make handler-links"

# shellcheck source=stubs.sh
. "$top/tests/stubs.sh"
stub logger </dev/null
stub reboot </dev/null
stub uname <<<'echo data01'
stub mail <<'STUB'
cat >mail
exit $(cat mail-status 2>/dev/null || echo 0)
STUB
# The answers are files: state-MINOR, proc; no file, no answer.
stub drbdsetup <<'STUB'
case ${2:-} in
sh-status) cat "state-$1" ;;
*) cat "$1" ;;
esac
STUB
stub drbdadm <<'STUB'
[ "$1" != -c ] || shift 2
words=$*
cat "adm-${words// /-}" 2>/dev/null
STUB

# runs STATUS NAME WORDS...: a handler, in an environment as drbdadm makes it. CONTEXT: more of it.
CONTEXT=()
runs() {
	local wanted=$1 name=$2 status
	shift 2
	: >calls
	env -i PATH="$work/bin:/usr/sbin:/usr/bin:/sbin:/bin" DRBD_RESOURCE=r0 DRBD_PEER=data02 DRBD_PEERS=data02 DRBD_MINOR=0 \
		DRBD_CONF=/etc/drbd.conf DRBD_LOCK_DIRECTORY="$work/lock" "${CONTEXT[@]}" "handlers/$name" "$@" >out 2>err </dev/null
	status=$?
	[ "$status" -eq "$wanted" ] || fail "$name $*: exit status $status, expected $wanted; $(cat out err calls)"
}
# Apart from the log and from questions, these were the calls.
called() {
	local got
	got=$(grep -v -e '^logger' -e '^uname' -e '^drbd' calls)
	[ "$got" = "$1" ] || fail "called: $got; expected: $1"
}
# says LOCAL/PEER DISK/PEER_DISK [MINOR]
says() {
	cat >"state-${3:-0}" <<STATE
_minor=${3:-0}
_res_name=r0
_known=Configured

_cstate=Connected
_role=${1%/*}
_peer=${1#*/}
_disk=${2%/*}
_pdsk=${2#*/}

_flags_susp=
_resynced_percent=

_sh_status_process


STATE
}
echo 0 >adm-sh-minor-r0

# --- notify -----------------------------------------------------------------------------------------------------------

says Primary/Unknown UpToDate/DUnknown
runs 0 notify-split-brain.sh
called 'mail -s DRBD split brain on resource r0 root'
grep -q 'discard-my-data connect r0' mail || fail "the mail does not say what to do: $(cat mail)"
grep -qx 'State: 0: cs:Connected ro:Primary/Unknown ds:UpToDate/DUnknown *' mail || fail "the mail has no state: $(cat mail)"
grep -q '^logger .* local5.info ' calls || fail "nothing is logged: $(cat calls)"
runs 0 notify-io-error.sh ops@example.org
called 'mail -s DRBD I/O error on resource r0 ops@example.org'
for kind in out-of-sync pri-on-incon-degr pri-lost-after-sb pri-lost emergency-reboot emergency-shutdown; do
	runs 0 notify-$kind.sh
	grep -q '^mail -s DRBD .*r0.* root$' calls || fail "notify-$kind.sh: $(cat calls)"
done
echo 1 >mail-status
runs 0 notify-split-brain.sh
grep -q '^logger .*no mail could be sent to root' calls || fail "a mail that was not sent is not logged"
CONTEXT=(DRBD_PEER=)
runs 1 notify-split-brain.sh
called ''
CONTEXT=(DRBD_RESOURCE=)
runs 1 notify-split-brain.sh
CONTEXT=()
runs 1 notify.sh
called ''

# --- outdate-peer -----------------------------------------------------------------------------------------------------

# What each address does: its exit status, or hangs.
stub ssh <<'STUB'
address=${*: -2:1}
what=$(cat "ssh-${address#root@}" 2>/dev/null || echo 255)
[ "$what" != hangs ] || exec sleep 60
exit "$what"
STUB
arguments=(on data01 10.0.0.1 10.1.0.1 on data02 10.0.0.2 10.1.0.2)
for pair in 0:4 5:3 17:6 255:5 20:1 1:1; do
	echo "${pair%:*}" >ssh-10.0.0.2
	runs "${pair#*:}" outdate-peer.sh "${arguments[@]}"
	! grep -q '10.0.0.1' calls || fail "outdate-peer.sh calls this host"
done
for address in 10.0.0.2 10.1.0.2; do
	grep -q "^ssh .* root@$address drbdadm outdate r0\$" calls || fail "outdate-peer.sh does not try $address: $(cat calls)"
done
# One way that hangs does not hold up the other, and does not last for ever.
echo hangs >ssh-10.0.0.2
echo 0 >ssh-10.1.0.2
runs 4 outdate-peer.sh "${arguments[@]}"
echo hangs >ssh-10.1.0.2
runs 5 outdate-peer.sh "${arguments[@]}"
CONTEXT=(DRBD_RESOURCE=)
echo 0 >ssh-10.0.0.2
runs 4 outdate-peer.sh on data02 10.0.0.2 on data01 10.0.0.1
grep -q 'drbdadm outdate r0$' calls || fail "outdate-peer.sh without DRBD_RESOURCE: $(cat calls)"
CONTEXT=()
for words in '' 'on' 'data01' 'on data01 10.0.0.1' 'on data01 10.0.0.1 on data02' 'on data02 10.0.0.2 on data03 10.0.0.3'; do
	# shellcheck disable=SC2086 # words
	runs 10 outdate-peer.sh $words
	called ''
done

# --- stonith_admin ----------------------------------------------------------------------------------------------------

stub stonith_admin <<'STUB'
exit $(cat stonith-status 2>/dev/null || echo 0)
STUB
runs 7 stonith_admin-fence-peer.sh
called 'stonith_admin --fence data02'
CONTEXT=("DRBD_PEERS=data02 data03")
runs 7 stonith_admin-fence-peer.sh
called $'stonith_admin --fence data02\nstonith_admin --fence data03'
CONTEXT=()
echo 1 >stonith-status
runs 1 stonith_admin-fence-peer.sh
rm stonith-status
# Whoever has no good data fences nobody: one of two volumes is not good, or nothing is known.
says Secondary/Unknown Consistent/DUnknown 1
CONTEXT=("DRBD_MINOR=0 1")
runs 1 stonith_admin-fence-peer.sh
called ''
CONTEXT=(DRBD_MINOR=7)
runs 1 stonith_admin-fence-peer.sh
called ''
CONTEXT=()

# --- crm-fence-peer ---------------------------------------------------------------------------------------------------

# A cluster: of its configuration the files nodes (node_state elements) and constraint are parts.
stub cibadmin <<'STUB'
[ ! -e cib-is-down ] || exit 62
case $1 in
-Q*)
	cat <<XML
<cib validate-with="pacemaker-1.0" crm_feature_set="3.0.1" have-quorum="1">
  <configuration>
    <crm_config/>
    <nodes><node id="1" type="normal" uname="data01"/></nodes>
    <resources>
      <primitive class="ocf" id="ip" provider="heartbeat" type="IPaddr2"/>
      <master id="ms_other">
        <primitive class="ocf" id="p_other" provider="linbit" type="drbd">
          <instance_attributes id="a1"><nvpair id="n1" name="drbd_resource" value="r00"/></instance_attributes>
        </primitive>
      </master>
      <master id="ms_r0">
        <meta_attributes id="m"><nvpair id="n2" name="notify" value="true"/></meta_attributes>
        <primitive class="ocf" id="p_r0" provider="linbit" type="drbd">
          <instance_attributes id="a2">
            <nvpair id="n3" name="drbd_resource" value="r0"/>
          </instance_attributes>
        </primitive>
      </master>
    </resources>
    <constraints>
$(cat constraint 2>/dev/null)
    </constraints>
  </configuration>
  <status>
$(cat nodes)
  </status>
</cib>
XML
	;;
-C)
	while [ "$1" != -X ]; do shift; done
	[ ! -e cib-is-read-only ] || exit 13
	[ ! -e lost-race ] || mv lost-race constraint
	[ ! -e constraint ] || exit 76
	echo "$2" >constraint
	;;
-D)
	while [ "$1" != -X ]; do shift; done
	[ ! -e cib-is-read-only ] || exit 13
	echo "$2" >deleted
	rm -f constraint
	;;
esac
STUB
stub crmadmin <<<'[ -e peer-answers ]'
stub crm_attribute <<<'echo rack-7'
node() { printf '<node_state id="2" uname="data02" %s><lrm id="2"/></node_state>\n' "$1" >nodes; }
reachable='ha="active" in_ccm="true" crmd="online" join="member" expected="member"'
lost='ha="active" in_ccm="false" crmd="offline" join="down" expected="member"'
down='ha="dead" in_ccm="false" crmd="offline" join="down" expected="down"'
fence=(crm-fence-peer.sh --dc-timeout 0)
# What was made, on one line, or nothing.
constraint() { tr -d '\n' <constraint 2>/dev/null; }
own='<rsc_location rsc="ms_r0" id="drbd-fence-by-handler-r0-ms_r0"> <rule role="Master" score="-INFINITY" id="drbd-fence-by-handler-r0-rule-ms_r0">  <expression attribute="#uname" operation="ne" value="data01" id="drbd-fence-by-handler-r0-expr-ms_r0"/> </rule></rsc_location>'
fences() { # STATUS placed|nothing
	rm -f constraint
	runs "$1" "${fence[@]}"
	case $2 in
	placed) [ "$(constraint)" = "$own" ] || fail "constraint: $(constraint)" ;;
	nothing) [ ! -e constraint ] || fail "a constraint: $(constraint)" ;;
	esac
}

says Primary/Unknown UpToDate/DUnknown
node "$reachable"
touch peer-answers
fences 4 placed
# It is there already; that of the other host is none of ours, and that is so, too, if it comes between.
runs 4 "${fence[@]}"
! grep -q '^cibadmin -C' calls || fail "a constraint that is there is made again"
sed -i 's/value="data01"/value="data02"/' constraint
runs 1 "${fence[@]}"
! grep -q '^cibadmin -C' calls || fail "a constraint is made beside the peer's"
mv constraint lost-race
runs 1 "${fence[@]}"
echo "$own" >lost-race
rm constraint
runs 4 "${fence[@]}"
says Secondary/Unknown Consistent/DUnknown
fences 4 placed
says Secondary/Unknown Outdated/DUnknown
fences 1 nothing
# The peer is in the cluster's list but does not answer; or is lost; or was fenced.
says Primary/Unknown UpToDate/DUnknown
rm peer-answers
fences 5 placed
node "$lost"
fences 5 placed
: >nodes
fences 5 placed
node "$down"
fences 7 placed
# Since Pacemaker 2.1 there are times in these attributes.
node 'in_ccm="1700000000" crmd="1700000001" join="member" expected="member"'
touch peer-answers
fences 4 placed
node 'in_ccm="0" crmd="0" join="down" expected="down"'
fences 7 placed
says Secondary/Unknown Consistent/DUnknown
fences 7 nothing
node "$lost"
fences 5 nothing
# The other volume of the resource counts, too.
says Primary/Unknown UpToDate/DUnknown
says Primary/Unknown Inconsistent/DUnknown 1
CONTEXT=("DRBD_MINOR=0 1")
fences 5 nothing
node "$reachable"
fences 1 nothing
# Still connected.
CONTEXT=()
says Primary/Secondary UpToDate/UpToDate
fences 1 nothing
grep -q 'logger .*warning .*still connected' calls || fail "no warning that the peer is connected: $(cat calls)"
# The cluster refuses, does not answer, or has no such resource; without a peer; wrong words.
says Primary/Unknown UpToDate/DUnknown
touch cib-is-read-only
fences 1 nothing
! grep -q ^reboot calls || fail "a reboot nobody asked for"
runs 1 "${fence[@]}" --suicide-on-failure-if-primary
grep -q '^reboot' calls || fail "--suicide-on-failure-if-primary does not reboot"
says Secondary/Unknown UpToDate/DUnknown
runs 1 "${fence[@]}" --suicide-on-failure-if-primary
! grep -q ^reboot calls || fail "--suicide-on-failure-if-primary reboots a Secondary"
rm cib-is-read-only
touch cib-is-down
fences 1 nothing
rm cib-is-down
CONTEXT=(DRBD_RESOURCE=r7)
fences 1 nothing
CONTEXT=(DRBD_PEER=)
fences 1 nothing
CONTEXT=()
runs 1 crm-fence-peer.sh --frobnicate 1
runs 1 crm-fence-peer.sh --timeout
runs 1 crm-fence-peer.sh --timeout=soon
# Options.
rm -f constraint
runs 4 crm-fence-peer.sh --dc-timeout=0 --net-hickup 1 --timeout 7 --master-id ms_x --id-prefix p --role Promoted \
	--fencing-attribute rack --logfacility daemon
[ "$(constraint)" = '<rsc_location rsc="ms_x" id="p-ms_x"> <rule role="Promoted" score="-INFINITY" id="p-rule-ms_x">  <expression attribute="rack" operation="ne" value="rack-7" id="p-expr-ms_x"/> </rule></rsc_location>' ] ||
	fail "options: $(constraint)"
grep -q 'cibadmin -C -o constraints -t 7 ' calls || fail "--timeout: $(cat calls)"
grep -q '^logger .*-p daemon.info' calls || fail "--logfacility: $(cat calls)"

# unfence
rm -f constraint
runs 0 crm-unfence-peer.sh
! grep -q '^cibadmin -D' calls || fail "a constraint that is not there is removed"
fences 4 placed
sed -i 's/value="data01"/value="data02"/' constraint
says Secondary/Primary UpToDate/UpToDate
runs 0 crm-unfence-peer.sh
[ "$(cat deleted)" = '<rsc_location rsc="ms_r0" id="drbd-fence-by-handler-r0-ms_r0"/>' ] || fail "removed: $(cat deleted)"
# Not while a volume of the resource is not good on both sides.
printf '0\n1\n' >adm-sh-minor-r0
says Secondary/Primary Inconsistent/UpToDate 1
echo "$own" >constraint
runs 1 crm-unfence-peer.sh
[ -e constraint ] || fail "removed while a volume is Inconsistent"
says Primary/Secondary UpToDate/Inconsistent 1
runs 1 crm-unfence-peer.sh
[ -e constraint ] || fail "removed while a volume of the peer is Inconsistent"
says Secondary/Primary UpToDate/UpToDate 1
touch cib-is-read-only
runs 1 crm-unfence-peer.sh
rm cib-is-read-only
runs 0 crm-unfence-peer.sh
[ ! -e constraint ] || fail "not removed"
# A cluster that does not answer may have one.
touch cib-is-down
runs 1 crm-unfence-peer.sh
runs 1 crm-unfence-peer.sh -r ms_r0
rm cib-is-down
echo 0 >adm-sh-minor-r0
# That of the other host stays, if that is wanted.
sed 's/value="data01"/value="data02"/' <<<"$own" >constraint
runs 0 crm-unfence-peer.sh --unfence-only-if-owner-match
[ -e constraint ] || fail "the other host's constraint was removed"
grep -q '^logger .*is that of data02 and stays' calls || fail "nothing is logged of the other host's constraint: $(cat calls)"
runs 0 crm-unfence-peer.sh --unfence-only-if-owner-match --quiet
! grep -q '^logger' calls || fail "--quiet: $(cat calls)"
echo "$own" >constraint
runs 0 crm-unfence-peer.sh --unfence-only-if-owner-match --quiet
[ ! -e constraint ] || fail "the own constraint was not removed"
grep -q '^logger .*removed' calls || fail "--quiet: a change is not logged"
# One run at a time.
if type -P flock >/dev/null; then
	echo "$own" >constraint
	exec 8>>lock/fence.r0
	flock 8
	runs 1 crm-unfence-peer.sh --flock-required --flock-timeout 0 --quiet
	[ -e constraint ] || fail "removed while another run has the lock"
	! grep -q '^logger' calls || fail "--quiet: $(cat calls)"
	runs 0 crm-unfence-peer.sh --flock-timeout=0
	[ ! -e constraint ] || fail "not removed without --flock-required"
	grep -q '^logger .*warning .*under way' calls || fail "no warning of another run: $(cat calls)"
	exec 8>&-
	CONTEXT=("DRBD_LOCK_DIRECTORY=/dev/null/lock")
	runs 1 crm-unfence-peer.sh --flock-required
	runs 0 crm-unfence-peer.sh
	CONTEXT=()
	runs 1 crm-unfence-peer.sh --flock-timeout soon
fi

# --- rhcs_fence -------------------------------------------------------------------------------------------------------

stub cman_tool <<'STUB'
cat "cman-$1" 2>/dev/null
STUB
stub fence_node <<<'exit $(cat fence-status 2>/dev/null || echo 0)'
stub sleep </dev/null
cman() { # NODE_ID [QUORUM]
	printf 'Version: 6.2.0\nCluster Name: x\nMembership state: Cluster-Member\nNodes: 1\nQuorum: %s  \nNode name: data0%s\nNode ID: %s\n' \
		"${2:-1}" "$1" "$1" >cman-status
}
cat >cman-nodes <<'TEXT'
Node  Sts   Inc   Joined               Name
   1   M      4   2026-01-01 10:00:00  data01.example.org
   2   X      8                        data02.example.org
   3   M      8   2026-01-01 10:00:00  data020.example.org
   4   M      8   2026-01-01 10:00:00  data01.example.com
TEXT
says Primary/Unknown UpToDate/DUnknown
cman 1
runs 7 rhcs_fence
called $'cman_tool status\ncman_tool nodes\nfence_node data02.example.org'
# Another host than number 1 gives that one the time to be first.
cman 2
runs 7 rhcs_fence
called $'cman_tool status\ncman_tool nodes\nsleep 9\nfence_node data02.example.org'
cman 77
runs 7 rhcs_fence
grep -qx 'sleep 30' calls || fail "rhcs_fence waits for ever: $(cat calls)"
cman 1
echo 1 >fence-status
runs 1 rhcs_fence
rm fence-status
# Two hosts that could be meant, one that is not there; no quorum; a cluster that is down, or that this host is not in.
refuses() {
	runs 1 rhcs_fence
	! grep -q ^fence_node calls || fail "rhcs_fence: $1: $(cat calls)"
	grep -q '^logger .*\.err ' calls || fail "rhcs_fence: $1: nothing is logged"
}
CONTEXT=(DRBD_PEERS=data01)
refuses "a name that two hosts have"
CONTEXT=(DRBD_PEERS=data02.example.com)
refuses "a name in another domain"
CONTEXT=(DRBD_PEERS=data03)
refuses "an unknown peer"
CONTEXT=()
cman 1 '2 Activity blocked'
refuses "no quorum"
cman ''
refuses "no member"
rm cman-status
refuses "no cluster"
cman 1
says Secondary/Unknown Consistent/DUnknown
refuses "no good disk"
says Primary/Unknown UpToDate/DUnknown
CONTEXT=(DRBD_MINOR=7)
refuses "nothing is known of the disk"
CONTEXT=(DRBD_PEER= DRBD_PEERS=)
refuses "no peer"
CONTEXT=(DRBD_RESOURCE=)
refuses "no resource"
CONTEXT=()
rm bin/sleep

# --- snapshots --------------------------------------------------------------------------------------------------------

cat >proc <<'TEXT'
version: 8.3.16 (api:88/proto:86-101)
GIT-hash: 0 build by x@y
 0: cs:WFBitMapT ro:Secondary/Primary ds:Outdated/UpToDate C r-----
    ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:b oos:4096

10: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r-----
    ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:b oos:0
TEXT
echo /dev/vg0/lv0 >adm-sh-ll-dev-r0
# 1 GiB. The snapshot is there if its file is.
stub lvs <<'STUB'
case ${*: -1} in
/dev/vg0/lv0) echo '  vg0 lv0 2097152' ;;
*) [ -e "${*: -1}" ] ;;
esac
STUB
mkdir vg0
stub lvcreate <<<'[ ! -e vg-is-full ] && touch "vg0/$3"'
stub lvremove <<<'rm "$2"'
snapshot=snapshot-resync-target-lvm.sh
changes() { grep -e '^lvcreate' -e '^lvremove' calls; }
runs 0 $snapshot
# 4096 + 10240 + 10 % of 1048576
[ "$(changes)" = 'lvcreate -s -n lv0-before-resync -L 119193k vg0/lv0' ] || fail "lvcreate: $(cat calls)"
runs 0 $snapshot
[ -z "$(changes)" ] || fail "a second snapshot: $(changes)"
runs 0 unsnapshot-resync-target-lvm.sh
[ "$(changes)" = 'lvremove -f vg0/lv0-before-resync' ] || fail "lvremove: $(cat calls)"
runs 0 unsnapshot-resync-target-lvm.sh
[ -z "$(changes)" ] || fail "lvremove of nothing"
runs 0 $snapshot -p 0 -a 100 -v -- -c 16k
[ "$(changes)" = 'lvcreate -s -n lv0-before-resync -L 4196k -c 16k vg0/lv0' ] || fail "options: $(cat calls)"
[ -s err ] || fail "-v says nothing"
rm vg0/*
touch vg-is-full
runs 0 $snapshot
runs 1 $snapshot -n
rm vg-is-full
CONTEXT=(DRBD_MINOR=3)
runs 0 $snapshot
runs 1 $snapshot -n
[ -z "$(changes)" ] || fail "a snapshot of unknown size"
CONTEXT=()
echo /dev/sdb1 >adm-sh-ll-dev-r0
runs 0 $snapshot
runs 1 $snapshot -n
[ -z "$(changes)" ] || fail "a snapshot of a disk"
runs 1 $snapshot -n -p ten
# Stacked: the volume is that of the resource below.
echo r0 >adm--S-sh-lr-of-r1
echo /dev/vg0/lv0 >adm-sh-ll-dev-r0
CONTEXT=(DRBD_RESOURCE=r1 DRBD_MINOR=10)
runs 0 $snapshot
[ "$(changes)" = 'lvcreate -s -n lv0-before-resync-stacked -L 115097k vg0/lv0' ] || fail "stacked: $(cat calls)"
runs 0 unsnapshot-resync-target-lvm.sh
[ "$(changes)" = 'lvremove -f vg0/lv0-before-resync-stacked' ] || fail "stacked: $(cat calls)"

echo "handlers: exit status and calls are as they should be"
