# the machine boots and shuts down through drbdbox's init script twice, with a mounted file system; the daemon is killed in between
# traffic: none
OPTIONS='startup { wfc-timeout 30; degr-wfc-timeout 30; become-primary-on kernel; }'
mkdir -p "$SHARE/bin"
cp "$DRBDBOX" "$HERE/../../packaging/init.d/drbd" "$SHARE/bin/"
cat >"$SHARE/bin/rc" <<'END'
# Sourced in the machine: what its distribution's init would do.
PROC=/run/drbd/proc
# The program in place of the kernel's driver and its tools.
installed() {
	rmmod drbd
	(cd /usr/sbin && rm -f drbdadm drbdsetup drbdmeta && cp /share/bin/drbdbox . && ./drbdbox --install -s /usr/sbin) &&
		mkdir -p /etc/init.d /data /var/lock/subsys && cp /share/bin/drbd /etc/init.d/ && cp /share/drbd.conf /etc/
}
start() { /etc/init.d/drbd start && [ -e /var/lock/subsys/drbd ]; }
# K08drbd, before file systems are unmounted and what still runs is killed.
shutdown() {
	/etc/init.d/drbd stop
	[ ! -e /var/lock/subsys/drbd ] && ! grep drbd /proc/mounts && ! pidof drbdd && ! ls /dev/drbd* 2>/dev/null && sync
}
files() { for number in 1 2 3 4; do blocks $number 100 "$1" >/data/$1-$number || return 1; done; }
hold() { for number in 1 2 3 4; do blocks $number 100 "$1" | cmp - /data/$1-$number || return 1; done; }
END
rc() { kernel ". /share/bin/rc; $1"; }

situation "init script: boot, a file system, shutdown; the next boot finds it" Primary
prepared
rc 'installed && drbdadm -- --force create-md r0'
box up r0
rc 'start && drbdadm -- --overwrite-data-of-peer primary r0'
await 60 '[ "$(ds)" = UpToDate/UpToDate ]'
rc 'mkfs.ext3 -q /dev/drbd0 && mount /dev/drbd0 /data && files one && grep "^/dev/drbd0 /data ext3" /proc/mounts'
rc 'shutdown'
await 30 '[ "$(cs)" = WFConnection ]'
machine_kill
machine
rc 'installed && start && grep ro:Primary/Secondary $PROC && mount /dev/drbd0 /data && hold one && files two'

situation "init script: shutdown after the daemon was killed under a mounted file system; the next boot finds it" Primary
rc 'sync; files three; kill -9 $(cat /run/drbd/drbdd.pid); hold two && shutdown'
await 30 '[ "$(cs)" = WFConnection ]'
machine_kill
machine
rc 'installed && start && grep ro:Primary/Secondary $PROC && fsck.ext3 -fn /dev/drbd0 && mount /dev/drbd0 /data'
rc 'hold one && hold two && hold three && shutdown'
box down r0
rc 'drbdmeta 0 v08 /dev/data internal dstate'
sectors=$(drbdadm -c "$CONF" dump-md r0 2>/dev/null | sed -n 's/^.*la-size-sect \([0-9]*\);.*/\1/p')
cmp -n $((sectors * 512)) "$BOX_DISK" "$KERNEL_DISK" || die "the disks differ"
