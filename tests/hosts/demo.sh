#!/bin/bash
# The how-to of DRBD 8.3, from the first command to the last, on two hosts that are made on this machine; each command is
# shown with its output as a user would see it. Ends with a line that says that all steps held.
# As root: make demo. Without root it shows the replication between two daemons on loopback: demo-user.sh.

if [ "$(id -u)" -ne 0 ]; then
	exec "${BASH_SOURCE[0]%/*}/demo-user.sh" "$@"
fi
# shellcheck source=lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
hosts_begin

DISK_MIB=256

# Checksums of all files below /data, and of their names.
SUMS="cd /data && find . -type f -print0 | sort -z | xargs -0 md5sum | md5sum | cut -d ' ' -f 1"
sums() { inside "$1" "$SUMS"; }

# KiB of the last resynchronisation that a host began, from its log.
resync_kib() {
	sed -n 's/^.*Began resync as [A-Za-z]* (will sync \([0-9]*\) KB.*$/\1/p' "$WORK/$1/var/log/messages" | tail -n 1
}

# between LOW HIGH NUMBER WHAT
between() {
	[ -n "$3" ] && [ "$3" -ge "$1" ] && [ "$3" -le "$2" ] || die "$4: ${3:-nothing} is not between $1 and $2"
	say "[$4: $3 KiB of $((DISK_MIB * 1024))]"
}

host_disk data01 sdb1 $DISK_MIB
host_disk data02 sdb1 $DISK_MIB
host_on data01 $MASTER
host_on data02 $SLAVE
say "Two hosts: data01 $MASTER and data02 $SLAVE, each with a disk /dev/sdb1 of $DISK_MIB MiB."

step "both: what make install has put there"
on data01 'ls /sbin/drbd*; ls /usr/local/drbd/etc /usr/local/drbd/etc/rc.d/init.d'
CONFIGURATION="cat > /etc/drbd.conf <<EOF
$(configuration 60M)
EOF"
for host in data01 data02; do
	on $host 'ln -s /usr/local/drbd/etc/drbd.conf /etc/drbd.conf'
	on $host 'ln -s /usr/local/drbd/etc/rc.d/init.d/drbd /etc/init.d/drbd'
	on $host "$CONFIGURATION"
done

step "a disk that holds a file system is refused"
on data01 'mkfs.ext3 -q /dev/sdb1'
refused 40 data01 'drbdadm create-md r0'
shows '^Found ext3 filesystem'
shows '^Operation refused\.'
shows "^Command 'drbdmeta 0 v08 /dev/sdb1 internal create-md' terminated with exit code 40"
shows '^drbdadm create-md r0: exited with code 40'

step "both: meta data on an empty disk"
on data01 'dd if=/dev/zero bs=1M count=1 of=/dev/sdb1; sync'
for host in data01 data02; do
	on $host 'drbdadm create-md r0'
	shows '^New drbd meta data block successfully created\.'
done

step "both: start"
together '/etc/init.d/drbd start' data01 data02
shows 'd\(r0\) s\(r0\) n\(r0\)'
await 10 data01 "grep -q cs:Connected $PROC"
for host in data01 data02; do
	on $host "cat $PROC"
	shows '^ 0: cs:Connected ro:Secondary/Secondary ds:Inconsistent/Inconsistent C r-----'
done
on data01 '/etc/init.d/drbd status'
shows '^0:r0 +Connected +Secondary/Secondary +Inconsistent/Inconsistent +C'

step "no host has good data yet: neither can become Primary"
refused 17 data01 'drbdadm primary r0'
shows '\(-2\) Need access to UpToDate data'
refused 20 data01 'drbdadm -- --do-what-I-say primary r0'
shows "^drbdsetup primary: unrecognized option '--do-what-I-say'"
shows "^Command 'drbdsetup 0 primary --do-what-I-say' terminated with exit code 20"
shows '^drbdadm primary r0: exited with code 20'

step "two connections on the port, and nobody listens any more"
on data01 'ss -ant'
[ "$(grep -c "^ESTAB.*:$PORT\b" "$WORK/last")" -eq 2 ] || die "there must be two connections on port $PORT"
shows_not "LISTEN.*:$PORT\b"

step "a Secondary cannot be mounted"
on data02 'mkdir /data'
fails data02 'mount /dev/drbd0 /data'
on data02 "cat /proc/mounts | grep -c ' /data ' || true"
shows '^0$'

step "data01 becomes Primary, and its disk is copied to data02"
on data01 'drbdsetup /dev/drbd0 primary -o'
await 10 data01 "grep -q \"sync'ed:\" $PROC"
on data01 "cat $PROC"
shows '^ 0: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r---[n-]-'
shows "\[[=>.]+\] sync'ed: +[0-9.]+% \([0-9]+/[0-9]+\)K"
shows 'finish: [0-9:]+ speed: [0-9,]+ \([0-9,]+\) K/sec'
on data02 'drbd-overview'
await 30 data01 "grep -q cs:Connected $PROC"
on data01 "cat $PROC"
shows '^ 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----'
shows 'oos:0$'
DATA_BYTES=$(inside data01 'blockdev --getsize64 /dev/drbd0')
say "[the device has $DATA_BYTES bytes]"

step "there is one Primary"
refused 11 data02 'drbdadm primary r0'
shows '\(-1\) Multiple primaries not allowed by config'
on data01 'drbdadm primary r0'

step "a file system on it"
on data01 'mkfs.ext3 -q /dev/drbd0'
on data01 'mkdir /data && mount -o rw /dev/drbd0 /data'
on data01 'df -h /data'
shows '^/dev/drbd0 .* /data$'
on data01 'dd if=/dev/zero of=/data/drbdtest count=100 bs=100000'
on data01 'ls -lh /data'

step "2000 small files"
on data01 'cat > /root/test.sh <<EOF
for i in \$(seq 1 \$1); do dd if=/dev/zero of=/data/\$i count=20 bs=1000 2>/dev/null || exit 1; done
EOF
time sh /root/test.sh 2000'
on data01 'ls /data | wc -l; grep " /data " /proc/mounts'
shows '^2002$'
shows '^/dev/drbd0 /data ext[34] rw'
on data01 'dd if=/dev/urandom of=/data/random bs=1M count=20'

step "data02 takes over"
refused 11 data01 'drbdadm secondary r0'
shows '\(-12\) Device is held open by someone'
SUMS_01=$(sums data01)
on data01 'umount /data && drbdadm secondary r0'
on data02 'drbdadm primary r0 && mount /dev/drbd0 /data && df -h /data; ls /data | wc -l'
shows '^2003$'
[ "$(sums data02)" = "$SUMS_01" ] || die "the files on data02 are not those of data01"
say "[all files have the same checksums]"

step "and data01 again, after data02 has written"
on data02 'for i in $(seq 1 2000); do rm /data/$i; done; dd if=/dev/urandom of=/data/random bs=1M count=10'
SUMS_02=$(sums data02)
on data02 'umount /data && drbdadm secondary r0'
on data01 'drbdadm primary r0 && mount /dev/drbd0 /data && ls -lh /data'
[ "$(sums data01)" = "$SUMS_02" ] || die "the files on data01 are not those of data02"
say "[all files have the same checksums]"

step "the daemon of data02 is killed; data01 goes on"
on data02 'kill -9 $(cat /run/drbd/drbdd.pid)'
await 10 data01 "grep -q cs:WFConnection $PROC"
on data01 "cat $PROC"
shows '^ 0: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r-----'
on data01 'dd if=/dev/urandom of=/data/while-away bs=1M count=5 conv=fsync'
on data02 '/etc/init.d/drbd start'
await 20 data01 "$IN_SYNC"
between 5120 20480 "$(resync_kib data01)" "resynchronised"

step "data02 loses its power; data01 goes on"
host_off data02
on data01 'dd if=/dev/urandom of=/data/without-power bs=1M count=5 conv=fsync'
await 15 data01 "grep -q cs:WFConnection $PROC"
on data01 "cat $PROC"
host_on data02
on data02 '/etc/init.d/drbd start'
await 20 data01 "$IN_SYNC"
between 5120 20480 "$(resync_kib data01)" "resynchronised"

step "both disks hold the same, and the file system has no fault"
on data01 'umount /data && e2fsck -f -n /dev/drbd0'
on data01 'drbdadm secondary r0'
together '/etc/init.d/drbd stop' data02 data01
for host in data01 data02; do
	refused 3 $host '/etc/init.d/drbd status'
done
cmp -n "$DATA_BYTES" "$(disk_file data01 sdb1)" "$(disk_file data02 sdb1)" ||
	die "the two disks differ"
say "[the $DATA_BYTES bytes of the device are the same on both disks]"

printf '\nAll %d steps held, in %d seconds.\n' "$STEP" "$SECONDS"
