#!/bin/bash
# The init script beyond the walk-through: what stop does with file systems that are mounted or in use, status, reload,
# restart and condrestart, errors of the configuration; under every POSIX shell that is installed.

# shellcheck source=lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
hosts_begin
pair_up 64 1000M
on data01 'mkfs.ext3 -q /dev/drbd0; mkdir /data "/a b"; mount /dev/drbd0 /data'

step "status shows what is mounted"
on data01 '/etc/init.d/drbd status'
shows '^0:r0 +Connected +Primary/Secondary +UpToDate/UpToDate +C +/data +ext3$'

step "start again, reload: nothing changes"
on data01 '/etc/init.d/drbd start'
on data01 '/etc/init.d/drbd reload'
shows 'Reloading DRBD configuration'
on data01 "cat $PROC"
shows 'cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate'

step "reload takes a changed setting over"
on data01 "sed -i 's/rate 1000M/rate 500M/' /etc/drbd.conf; /etc/init.d/drbd reload; drbdsetup 0 show"
shows 'rate[[:space:]]+512000k'

step "stop leaves a device that is in use, read-only, and says so"
on data01 'cd /data; sleep 60 >/dev/null 2>&1 & echo $! >/run/sleeper; cd /; /etc/init.d/drbd stop'
shows '^/dev/drbd0 is still in use and stays as it is$'
on data01 'grep " /data " /proc/mounts; /etc/init.d/drbd status'
shows '^/dev/drbd0 /data ext[34] ro'
shows 'Primary/Secondary'
on data01 'kill $(cat /run/sleeper); sleep 0.1; mount -o remount,rw /data; touch /data/alive'

step "stop unmounts, at every mount point, also under a name with a blank; both daemons end"
on data01 'mount --bind /data "/a b"; /etc/init.d/drbd stop; grep -c drbd0 /proc/mounts || true; ls /dev/drbd* 2>&1 || true'
shows '^0$'
shows 'No such file'
refused 3 data01 '/etc/init.d/drbd status'
shows '^drbd not loaded$'
on data01 '/etc/init.d/drbd stop'
on data01 '/etc/init.d/drbd condrestart'
refused 3 data01 '/etc/init.d/drbd status'

step "stop after the daemon was killed: what it left goes, and the next start does not bring it back"
on data01 '/etc/init.d/drbd start'
await 10 data01 "$IN_SYNC"
on data01 'drbdadm primary r0 && mount /dev/drbd0 /data && P=$(cat /run/drbd/drbdd.pid); kill -9 $P; while kill -0 $P 2>/dev/null; do sleep 0.02; done; /etc/init.d/drbd stop'
shows_not 'Could not connect'
on data01 'grep drbd0 /proc/mounts || ls /dev/drbd* /run/drbd/doors/* /run/drbd/running 2>&1 || true'
shows_not '^/'
refused 3 data01 '/etc/init.d/drbd status'
on data01 'drbdd --background && drbdsetup proc && kill $(cat /run/drbd/drbdd.pid)'
shows_not 'cs:'
await 10 data01 '! [ -e /run/drbd/drbdd.pid ]'

step "a device has the name that the configuration gives it; minors beyond 32; a secret with quotation marks"
on data01 "sed 's/r0/named/; s/7801/7802/; s,device /dev/drbd0,device /dev/drbd_my-data minor 147,; s,/dev/sdb1,/root/named.img,; s/\"secret string\"/\"a \\\\\"b;\"/; s/rate/al-extents 509; rate/' /etc/drbd.conf | tee /etc/named.conf; truncate -s 8M /root/named.img"
on data01 'drbdadm -c /etc/named.conf create-md named; drbdadm -c /etc/named.conf up named; drbdadm -c /etc/named.conf adjust named'
on data01 'drbdadm -d -c /etc/named.conf adjust named; ls -l /dev/drbd*; drbdsetup 147 show'
shows '/dev/drbd_my-data -> drbd147$'
shows 'al-extents[[:space:]]+509;'
shows_not '^drbdsetup'
on data01 'drbdsetup /dev/drbd_my-data primary -o; mkfs.ext3 -q /dev/drbd_my-data; mount /dev/drbd_my-data /data; df /data; umount /data'
shows '^/dev/drbd147 '
on data01 'P=$(cat /run/drbd/drbdd.pid); kill -9 $P; while kill -0 $P 2>/dev/null; do sleep 0.02; done; drbdd --background; drbdsetup /dev/drbd_my-data role'
shows '^Secondary/'
on data01 '/etc/init.d/drbd stop; ls /dev/drbd* 2>&1 || true'
shows 'No such file'

for shell in dash bash 'busybox sh'; do
	type -P "${shell%% *}" >/dev/null || continue
	step "under $shell: start, restart and condrestart, with a file system mounted"
	on data01 "$shell /etc/init.d/drbd start"
	await 10 data01 "$IN_SYNC"
	on data01 'drbdadm primary r0 && mount /dev/drbd0 /data && ls /data/alive'
	on data01 "$shell /etc/init.d/drbd restart"
	await 10 data01 "$IN_SYNC"
	on data01 "! grep drbd0 /proc/mounts; $shell /etc/init.d/drbd condrestart"
	await 10 data01 "$IN_SYNC"
	on data01 "$shell /etc/init.d/drbd status"
	shows '^0:r0 +Connected +Secondary/Secondary +UpToDate/UpToDate +C$'
	on data01 "$shell /etc/init.d/drbd stop"
done

step "KILL_USERS=yes ends the processes that use the file system"
if need fuser psmisc; then
	on data01 'echo KILL_USERS=yes >/etc/default/drbd; /etc/init.d/drbd start'
	await 10 data01 "$IN_SYNC"
	on data01 'drbdadm primary r0 && mount /dev/drbd0 /data; cd /data; sleep 60 >/dev/null 2>&1 & cd /; /etc/init.d/drbd stop; grep -c drbd0 /proc/mounts || true'
	shows '^0$'
	refused 3 data01 '/etc/init.d/drbd status'
fi

step "a configuration with an error: file and line are named, exit status 20"
on data01 'sed -i "s/meta-disk internal/meta-disk/" /etc/drbd.conf'
refused 20 data01 '/etc/init.d/drbd start'
shows '^/etc/drbd\.conf:[0-9]+: '

printf '\nAll %d steps held, in %d seconds.\n' "$STEP" "$SECONDS"
