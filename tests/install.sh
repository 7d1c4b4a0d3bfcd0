#!/bin/bash
# configure takes the how-to's options and warns of unknown ones; make install puts the files where people look for them.
# Environment: DRBDBOX=the binary to install.

set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
binary=${DRBDBOX:-$top/target/release/drbdbox}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
fail() {
	echo "FAILED: $*" >&2
	exit 1
}

# configure writes config.mk where it is called, so the tree stays as it is.
"$top/configure" --prefix=/usr/local/drbd --with-km --with-distro=redhat >out 2>err || fail "configure: $(cat err)"
grep -q 'no kernel module is needed' out || fail "configure does not say that no module is needed"
[ ! -s err ] || fail "configure warns of the how-to's options: $(cat err)"
"$top/configure" --prefix=/usr/local/drbd --with-distro=redhat --with-teapot --enable-kettle=on >out 2>err ||
	fail "configure does not go on after unknown options"
grep -qx 'configure: WARNING: unrecognized options: --with-teapot, --enable-kettle' err || fail "unknown options: $(cat err)"
! "$top/configure" --frobnicate >out 2>err || fail "configure takes --frobnicate"
grep -q "unrecognized option: \`--frobnicate'" err || fail "a word that is no option: $(cat err)"

# What hosts of RHEL5's age get is small. The GNU C library may be in a binary for this host only.
if ! grep -q -e 'The futex facility returned an unexpected error code' -e ld-linux "$binary"; then
	[ "$(stat -c %s "$binary")" -lt $((4 << 20)) ] || fail "$binary has $(stat -c %s "$binary") bytes, more than 4 MiB"
fi

mapfile -t settings < <(sed 's/ *= */=/' config.mk)
make -s --no-print-directory -C "$top" install BINARY="$binary" DESTDIR="$work/root" "${settings[@]}" >out 2>err ||
	fail "make install: $(cat out err)"
for program in drbdadm drbdsetup drbdmeta drbdd drbd-overview; do
	[ "$work/root/sbin/$program" -ef "$work/root/sbin/drbdbox" ] || fail "/sbin/$program is no link to drbdbox"
done
for file in etc/drbd.conf etc/drbd.d/global_common.conf etc/rc.d/init.d/drbd var/lib/drbd var/lock sbin/drbd-overview; do
	[ -e "$work/root/usr/local/drbd/$file" ] || [ -L "$work/root/usr/local/drbd/$file" ] || fail "$file is missing"
done
for file in etc/udev/rules.d/65-drbd.rules etc/ha.d/resource.d/drbddisk etc/bash_completion.d/drbdadm lib/drbd/outdate-peer.sh \
	lib/drbd/notify-split-brain.sh lib/drbd/crm-unfence-peer.sh lib/drbd/unsnapshot-resync-target-lvm.sh lib/drbd/start-daemon; do
	[ -e "$work/root/usr/local/drbd/$file" ] || fail "$file is missing"
done
[ -e root/usr/local/drbd/share/man/man8/drbdadm.8 ] || fail "no pages of the manual below the prefix"
# The agent is in the only place where Pacemaker looks, and knows where the handlers are.
grep -qx 'LIBDIR=/usr/local/drbd/lib/drbd' "$work/root/usr/lib/ocf/resource.d/linbit/drbd" || fail "the agent does not know where the handlers are"
[ ! -e "$work/root/usr/lib/systemd" ] || fail "units are installed unasked"
[ -x "$work/root/usr/local/drbd/etc/rc.d/init.d/drbd" ] || fail "the init script is not executable"

# A configuration that is there is not touched.
echo "# mine" >"$work/root/usr/local/drbd/etc/drbd.conf"
make -s --no-print-directory -C "$top" install BINARY="$binary" DESTDIR="$work/root" "${settings[@]}" >out 2>err ||
	fail "a second make install: $(cat out err)"
[ "$(cat "$work/root/usr/local/drbd/etc/drbd.conf")" = "# mine" ] || fail "make install replaces drbd.conf"

# Parts are left out or added as configure is told; uninstall leaves nothing but the configuration.
"$top/configure" --prefix=/usr --with-distro=generic --mandir='${prefix}/man' --without-heartbeat --with-udev=no --with-pacemaker=yes --with-systemd >out 2>err ||
	fail "configure with parts: $(cat err)"
[ ! -s err ] || fail "configure with parts: $(cat err)"
mapfile -t settings < <(sed 's/ *= */=/' config.mk)
make -s --no-print-directory -C "$top" install BINARY="$binary" DESTDIR="$work/parts" "${settings[@]}" >out 2>err || fail "make install: $(cat out err)"
[ ! -e parts/etc/ha.d ] && [ ! -e parts/etc/udev ] && [ -e parts/usr/lib/ocf/resource.d/linbit/drbd ] || fail "parts: $(find parts)"
# The pages of the manual: all of them, with nothing that a reader of roff complains about, and every option of the table.
for page in man5/drbd.conf.5 man8/drbd{,adm,setup,meta,d,disk,-overview}.8; do
	[ -s "parts/usr/man/$page" ] || fail "no page $page"
	if type -P mandoc >/dev/null; then
		mandoc -T lint "parts/usr/man/$page" >out 2>&1 || fail "$page: $(cat out)"
	fi
	if type -P man >/dev/null; then
		MANWIDTH=80 LC_ALL=C man --warnings=all -l "parts/usr/man/$page" >out 2>err || fail "$page: $(cat err)"
		[ -s out ] && [ ! -s err ] || fail "$page: $(cat err)"
	fi
done
[ "$(find parts/usr/man -type f | wc -l)" -eq "$("$binary" man | wc -l)" ] || fail "pages: $(find parts/usr/man)"
# Words of other releases are told by "drbdadm check".
sed -n -e '/^<!-- table: retired/,/^## /d' -e 's/^| `\([a-z0-9-]*\)` |.*/\1/p' "$top/docs/drbd.conf.md" | while read -r word; do
	grep -qF "\\fB${word//-/\\-}\\fR" parts/usr/man/man5/drbd.conf.5 || echo "$word"
done >missing
[ ! -s missing ] || fail "drbd.conf(5) does not have: $(tr '\n' ' ' <missing)"
grep -qx 'ExecStart=/etc/init.d/drbd start' parts/usr/lib/systemd/system/drbd.service || fail "drbd.service does not call the init script"
grep -rqx 'ExecStart=/usr/lib/drbd/wait-promotable.sh %I' parts/usr/lib/systemd/system && [ -x parts/usr/lib/drbd/wait-promotable.sh ] ||
	fail "drbd-wait-promotable@.service does not know its script"
! grep -rn '@[a-z]*@' parts/usr/lib/systemd/system || fail "a unit has a path that was not filled in"
if type -P systemd-analyze >/dev/null; then
	# In a root of its own: only the units are looked at, not what this host has.
	for unit in drbdd.service drbd.service drbd@r0.service drbd-promote@r0.service drbd-wait-promotable@r0.service \
		drbd-demote-or-escalate@r0.service ocf.ra@ip.service; do
		! systemd-analyze --root="$work/parts" verify "$unit" 2>&1 | grep -i -e unknown -e 'failed to parse' || fail "$unit"
	done
fi
make -s --no-print-directory -C "$top" uninstall DESTDIR="$work/parts" "${settings[@]}" >out 2>err || fail "make uninstall: $(cat out err)"
left=$(find parts ! -type d)
[ "$left" = $'parts/etc/drbd.conf\nparts/etc/drbd.d/global_common.conf' ] || [ "$left" = $'parts/etc/drbd.d/global_common.conf\nparts/etc/drbd.conf' ] ||
	fail "make uninstall leaves $left"

# chkconfig reads all comments: what it needs must be there, and only once.
for keyword in 'chkconfig:' 'description:' 'Provides:' 'Required-Start:' 'Required-Stop:' 'Default-Start:' \
	'Default-Stop:' 'Short-Description:'; do
	[ "$(grep -c "^# *$keyword" "$top/packaging/init.d/drbd")" -eq 1 ] || fail "init script: not one line '# $keyword'"
done
grep -qx '# chkconfig: - 70 08' "$top/packaging/init.d/drbd" || fail "init script: chkconfig's priorities"

# The init script through a link, without tools: exit 5; the how-to's insmod line does no harm.
for shell in dash bash; do
	type -P $shell >/dev/null || continue
	sed 's|^start)$|start)\ninsmod /lib/modules/2.6.18-164.el5/kernel/drivers/block/drbd.ko|; s|^DRBDADM=.*|DRBDADM='"$work"'/no-drbdadm|' \
		"$top/packaging/init.d/drbd" >edited
	ln -sf edited link
	$shell link start >out 2>&1
	[ $? -eq 5 ] || fail "init script without tools: not exit 5"
	printf '#!/bin/sh\nexit 0\n' >no-drbdadm
	chmod +x no-drbdadm
	$shell link wrong >out 2>&1
	[ $? -eq 1 ] || fail "init script with a wrong word: not exit 1"
	grep -qx 'Usage: /etc/init.d/drbd {start|stop|status|reload|restart|force-reload}' out || fail "usage: $(cat out)"
	rm no-drbdadm
done

# The list of names and the version. A reader that has gone, or a disk that is full, makes no program panic.
for words in --help --version man "man drbd" "drbdd --help"; do
	# shellcheck disable=SC2086 # words
	"$binary" $words >/dev/full 2>err || fail "$words with standard output full: exit status $?; $(cat err)"
done
"$binary" | grep -q '^  drbdadm ' || fail "drbdbox does not list drbdadm"
"$binary" --version | grep -qE '^drbdbox [0-9.]+ \(compatible with DRBD 8\.3\.16/8\.4\.11, proto 86-101\)$' || fail "--version"
echo "configure, make install and the init script's conventions: all hold"
