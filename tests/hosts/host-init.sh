#!/bin/bash
# The first process of a host: makes the host's root directory within its name spaces, then waits for orphans.
# Arguments: name, directory of what is the host's own, source tree, directory of all hosts. Called by host_on in lib.sh.
set -e
export PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin
name=$1 home=$2 top=$3 shared=$4
root=$home/root
hostname "$name"
mount --make-rprivate /
mount -t tmpfs -o mode=755 root "$root"
cd "$root"
for entry in /usr /bin /lib* /opt /nix; do
	if [ -L "$entry" ]; then
		cp -a "$entry" ".$entry"
	elif [ -d "$entry" ]; then
		mkdir ".$entry"
		mount --rbind "$entry" ".$entry"
	fi
done
mkdir dev proc sys run tmp etc var sbin root mnt old
for own in etc var run sbin; do
	mount --bind "$home/$own" "$own"
done
mount --bind "$home/home-root" root
mount --bind "$home/usr-local" usr/local
mount -t proc proc proc
mount --bind /sys sys
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=755,nosuid dev dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mknod -m 600 dev/console c 1 3
mknod -m 600 dev/fuse c 10 229
mknod -m 600 dev/loop-control c 10 237
# The source tree and the work directory stay visible where they are, also below /tmp, /root and /dev/shm.
for seen in "$top" "$home" "$shared"; do
	mkdir -p ".$seen"
	mount --bind "$seen" ".$seen"
done
while read -r disk numbers; do
	mknod -m 660 "dev/$disk" b ${numbers%:*} ${numbers#*:}
done <"$home/disks"
pivot_root . old
umount -l /old
rmdir /old
cd /
host-helper syslog /dev/log /var/log/messages &
until [ -S /dev/log ]; do sleep 0.01; done
: >"$home/up"
# Bash waits for any child: it is the init that a pid name space needs.
while :; do sleep 1000 & wait $!; done
