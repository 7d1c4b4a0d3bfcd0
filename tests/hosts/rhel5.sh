#!/bin/bash
# What README.md tells the administrator of a RHEL5 host: one package, five commands, and what is seen when something is
# missing or in the way. The hosts are of this machine's kernel and programs; from RHEL5 they have the directories of the
# init scripts and a chkconfig that notes its calls.

# shellcheck source=lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
hosts_possible && need rpm rpm rpmbuild rpm || exit 77
grep -qw overlay /proc/filesystems || { say "missing: a kernel with overlay" >&2; exit 77; }
hosts_begin

for version in 1.2 1.3; do
	BINARY=$DRBDBOX "$TOP/packaging/rpm/build.sh" "$SHARED/rpm" $version >"$WORK/rpm.log" 2>&1 || die "rpmbuild: $(cat "$WORK/rpm.log")"
done
PACKAGE=$(cd "$SHARED/rpm" && echo drbdbox-1.2-1.*.rpm)
UPGRADE=$(cd "$SHARED/rpm" && echo drbdbox-1.3-1.*.rpm)

host_disk data01 sdb1 64
host_disk data02 sdb1 64
host_on data01 $MASTER
host_on data02 $SLAVE
for host in data01 data02; do
	# Nothing of make install; a /usr of its own, for the package writes there.
	quiet $host 'rm -rf /sbin/drbd* /usr/local/drbd /etc/init.d && mkdir -p /etc/rc.d/init.d && ln -s rc.d/init.d /etc/init.d &&
		mkdir /tmp/up /tmp/work /tmp/calls && mount -t overlay -o lowerdir=/usr,upperdir=/tmp/up,workdir=/tmp/work usr /usr &&
		rm -f /sbin/chkconfig && printf "#!/bin/sh\necho \"\$*\" >>/tmp/calls/chkconfig\n" >/sbin/chkconfig && chmod +x /sbin/chkconfig' ||
		die "a host like RHEL5: $(cat "$WORK/quiet.out")"
	# What the how-to calls /root is empty on such a host.
	quiet $host "cp $SHARED/rpm/$PACKAGE /root/" || die "copy the package"
done

step "both: the package; rpm of this machine does not know who provides /bin/sh"
for host in data01 data02; do
	on $host "rpm -i --nodeps /root/$PACKAGE"
	on $host 'cat /tmp/calls/chkconfig'
	shows '^--add drbd$'
	quiet $host "cat >/etc/drbd.conf <<EOF
$(configuration 1000M)
EOF"
done

step "both: drbdadm create-md r0"
for host in data01 data02; do
	on $host 'drbdadm create-md r0'
	shows '^New drbd meta data block successfully created\.'
done

step "both: the init script"
together '/etc/rc.d/init.d/drbd start' data01 data02
await 10 data01 "grep -q 'cs:Connected ro:Secondary/Secondary' $PROC"
on data01 '/etc/rc.d/init.d/drbd status'
shows '^0:r0 +Connected +Secondary/Secondary +Inconsistent/Inconsistent +C$'

step "data01: its disk is the good one; a file system"
on data01 'drbdsetup /dev/drbd0 primary -o'
on data01 'mkfs.ext3 -q /dev/drbd0 && mkdir /data && mount /dev/drbd0 /data && echo content >/data/file'
await 30 data01 "$IN_SYNC"

step "an upgrade does not stop a mounted device, and says so"
daemon=$(inside data01 'cat /run/drbd/drbdd.pid')
on data01 "rpm -U --nodeps $SHARED/rpm/$UPGRADE; rpm -q drbdbox; cat /data/file; grep ' /data ' /proc/mounts; cat /run/drbd/drbdd.pid"
shows 'a device is Primary; the old program goes on until /etc/init.d/drbd restart'
shows '^drbdbox-1.3-1'
shows '^content$'
shows '^/dev/drbd0 /data ext[34] rw'
shows "^$daemon\$"
on data01 'ls /sbin/drbdadm /etc/rc.d/init.d/drbd; cat /tmp/calls/chkconfig'
shows_not '^--del'

step "an upgrade of a Secondary takes the new program at once"
daemon=$(inside data02 'cat /run/drbd/drbdd.pid')
on data02 "rpm -U --nodeps $SHARED/rpm/$UPGRADE; cat /run/drbd/drbdd.pid"
shows_not "^$daemon\$"
await 10 data01 "$IN_SYNC"
await 10 data02 "$IN_SYNC"

step "over to data02"
on data01 'umount /data && drbdadm secondary r0'
on data02 'mkdir /data && drbdadm primary r0 && mount /dev/drbd0 /data && cat /data/file'
shows '^content$'

step "the end: erasing the package stops first"
on data02 'rpm -e drbdbox; grep -c drbd0 /proc/mounts || true; ls /sbin/drbd* /dev/drbd* 2>&1 || true; cat /tmp/calls/chkconfig'
shows '^0$'
shows '^--del drbd$'
shows_not '^/'
on data02 'cat /etc/drbd.conf.rpmsave | head -n 1'
on data02 "mv /etc/drbd.conf.rpmsave /etc/drbd.conf && rpm -i --nodeps /root/$PACKAGE"

step "what /etc/default/drbd names for an init script of DRBD 8.3: in place of modprobe and rmmod"
on data02 '/usr/lib/drbd/start-daemon -s drbd minor_count=32 && test -f /run/drbd/proc && /usr/lib/drbd/start-daemon -s drbd'
on data02 'drbdadm up r0'
await 10 data02 "$IN_SYNC"
on data01 'umount /data 2>/dev/null; drbdadm secondary r0; drbdadm primary r0; mount /dev/drbd0 /data'
on data01 'echo STOP_TIMEOUT=1 >/etc/default/drbd'
refused 1 data01 '/usr/lib/drbd/stop-daemon drbd'
shows 'goes on: a device is in use$'
on data01 'cat /data/file; umount /data; rm /etc/default/drbd'
shows '^content$'
on data02 '/usr/lib/drbd/stop-daemon drbd && ! test -e /run/drbd/proc && /usr/lib/drbd/stop-daemon drbd'

# --- what is in the way ----------------------------------------------------------------------------------------------

step "nbd is missing: the device is replicated, cannot be Primary, and the log says what to do"
on data01 '/etc/rc.d/init.d/drbd stop'
on data02 'echo DRBDD_OPTIONS=\"--door nbd\" >>/etc/default/drbd; printf "#!/bin/sh\nexit 1\n" >/tmp/modprobe; mount --bind /tmp/modprobe /sbin/modprobe'
together '/etc/rc.d/init.d/drbd start' data01 data02
await 10 data02 "$IN_SYNC"
refused 10 data02 'drbdadm primary r0'
shows 'cannot make the device available: connect an nbd device \(.*nbd'
on data02 'grep nbd /var/log/messages'
shows 'connect an nbd device \(.*nbd'
# The text of the state follows the state.
await 10 data02 "grep -q 'cs:Connected ro:Secondary/Secondary ds:UpToDate/UpToDate' $PROC"
on data02 '/etc/rc.d/init.d/drbd stop'

step "a real module is loaded and has the minor: refused, and it says why"
on data02 'rm /etc/default/drbd; sed "s/^Block devices:/&\n147 drbd/" /proc/devices >/tmp/devices; mount --bind /tmp/devices /proc/devices; mknod /dev/drbd0 b 147 0'
on data02 '/etc/rc.d/init.d/drbd start; ls -l /dev/drbd0'
shows "^/dev/drbd0 or its minor belongs to the kernel's DRBD driver: .*; unload the drbd kernel module, or choose another minor\$"
shows '147, *0'
# Its devices are not ours to stop either.
on data02 '/etc/rc.d/init.d/drbd stop'
shows_not Failure
on data02 'umount /proc/devices; rm -f /dev/drbd0'

step "SELinux: the node gets its label"
on data02 'mount -t tmpfs none /sys/fs && mkdir /sys/fs/selinux && echo 1 >/sys/fs/selinux/enforce'
on data02 'printf "#!/bin/sh\necho \"\$*\" >>/tmp/calls/restorecon\n" >/sbin/restorecon && chmod +x /sbin/restorecon'
on data02 '/etc/rc.d/init.d/drbd start; cat /tmp/calls/restorecon'
shows '^/dev/drbd0$'
on data02 '/etc/rc.d/init.d/drbd stop; umount /sys/fs'

printf '\nAll %d steps held, in %d seconds.\n' "$STEP" "$SECONDS"
