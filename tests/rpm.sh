#!/bin/bash
# The packages: what RHEL5's rpm 4.4.2 asks of them, what they hold, and what their scriptlets do at installation, upgrade and
# erasure, in a root of its own. And Heartbeat's resources with a drbdadm that notes its calls.
# Environment: DRBDBOX=the binary to package. Exit status 77: not possible here.

set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
DRBDBOX=${DRBDBOX:-$top/target/release/drbdbox}
for pair in rpmbuild:rpm rpm2cpio:rpm cpio:cpio busybox:busybox-static; do
	type -P "${pair%:*}" >/dev/null || { echo "no ${pair%:*} (Debian package ${pair#*:})"; exit 77; }
done
work=$(mktemp -d /tmp/drbdbox-rpm.XXXXXX) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
fail() {
	echo "FAILED: $*" >&2
	exit 1
}

BINARY=$DRBDBOX "$top/packaging/rpm/build.sh" first >out 2>&1 || fail "rpmbuild: $(cat out)"
BINARY=$DRBDBOX "$top/packaging/rpm/build.sh" second 99 >out 2>&1 || fail "rpmbuild: $(cat out)"
main=$(ls first/drbdbox-[0-9]*.rpm)

# What rpm 4.4.2 knows, and no library of this system.
known="CompressedFileNames PayloadIsBzip2 PayloadFilesHavePrefix PartialHardlinkSets VersionedDependencies"
for package in first/*.rpm; do
	for need in $(rpm -qp --requires "$package" | sed -n 's/^rpmlib(\(.*\)).*/\1/p'); do
		[[ " $known " == *" $need "* ]] || fail "$package needs rpmlib($need)"
	done
	! rpm -qp --requires "$package" | grep -E '\.so|GLIBC' || fail "$package needs libraries"
	[ "$(rpm -qp --qf '%{PAYLOADCOMPRESSOR} %{FILEDIGESTALGO}' "$package")" = "gzip 1" ] ||
		[ "$(rpm -qp --qf '%{PAYLOADCOMPRESSOR} %{FILEDIGESTALGO}' "$package")" = "gzip (none)" ] ||
		fail "$package: $(rpm -qp --qf '%{PAYLOADCOMPRESSOR} %{FILEDIGESTALGO}' "$package")"
done
rpm -qp --provides "$main" | grep -q '^drbd83 = 8.3' || fail "does not stand for drbd83"
rpm -qp --conflicts "$main" | grep -q '^kmod-drbd83' || fail "lets itself be installed beside the module's package"

mkdir content
(cd content && rpm2cpio "../$main" | cpio --quiet -idm) || fail "rpm2cpio"
cmp -s "$DRBDBOX" content/sbin/drbdbox || fail "/sbin/drbdbox is not the binary that was built"
for name in drbdadm drbdsetup drbdmeta drbdd; do
	[ content/sbin/$name -ef content/sbin/drbdbox ] || fail "/sbin/$name is no link to drbdbox"
done
# Each package's files, where those of DRBD 8.3 are.
holds() {
	local package=$1 path
	shift
	for path; do
		rpm -qpl "$package" | grep -qx -- "$path" || fail "$package has no $path"
	done
}
holds "$main" /etc/rc.d/init.d/drbd /usr/sbin/drbd-overview /var/lib/drbd /etc/drbd.conf /etc/drbd.d/global_common.conf \
	/usr/lib/drbd/{outdate-peer,snapshot-resync-target-lvm,unsnapshot-resync-target-lvm,notify}.sh \
	/usr/share/man/man5/drbd.conf.5 /usr/share/man/man8/drbd{,adm,setup,meta,d,disk,-overview}.8 /usr/lib/drbd/notify-{out-of-sync,split-brain,emergency-reboot,emergency-shutdown,io-error,pri-lost-after-sb,pri-lost,pri-on-incon-degr}.sh
holds first/drbdbox-pacemaker-*.rpm /usr/lib/drbd/{crm-fence-peer,crm-unfence-peer,stonith_admin-fence-peer}.sh /usr/lib/ocf/resource.d/linbit/drbd
holds first/drbdbox-heartbeat-*.rpm /etc/ha.d/resource.d/{drbddisk,drbdupper}
holds first/drbdbox-rgmanager-*.rpm /usr/share/cluster/drbd.{sh,metadata} /usr/lib/drbd/rhcs_fence
holds first/drbdbox-udev-*.rpm /etc/udev/rules.d/65-drbd.rules
holds first/drbdbox-bash-completion-*.rpm /etc/bash_completion.d/drbdadm
holds first/drbdbox-systemd-*.rpm /usr/lib/systemd/system/{drbdd,drbd,drbd@,drbd-promote@,drbd-wait-promotable@,drbd-demote-or-escalate@,ocf.ra@}.service \
	/usr/lib/drbd/{wait-promotable,ocf.ra}.sh /usr/lib/tmpfiles.d/drbd.conf /etc/multipath/conf.d/drbd.conf
[ "$(rpm -qpl first/*.rpm | grep -v -e '^/usr/share/doc' -e '^/usr/lib/debug' | sort | uniq -d)" = "" ] || fail "files are in two packages"
for name in pacemaker heartbeat rgmanager udev bash-completion; do
	rpm -qp --provides "$(echo first/drbdbox-$name-*.rpm)" | grep -qx "drbd-$name = 8.3.16" || fail "drbdbox-$name does not stand for drbd-$name"
	rpm -qp --conflicts "$(echo first/drbdbox-$name-*.rpm)" | grep -qx "drbd-$name" || fail "drbdbox-$name can be beside drbd-$name"
done
[ -x content/etc/rc.d/init.d/drbd ] || fail "no init script"
rpm -qp --configfiles "$main" | grep -qx /etc/drbd.conf || fail "drbd.conf would be overwritten by an upgrade"

if [ "$(id -u)" -eq 0 ]; then
	# A root with a shell, and a chkconfig and an init script that note their calls.
	root=$work/root
	mkdir -p "$root"/{bin,sbin,etc/rc.d/init.d,var/lib/rpm,tmp,dev}
	cp "$(type -P busybox)" "$root/bin/busybox"
	for name in sh grep echo; do ln -s busybox "$root/bin/$name"; done
	printf '#!/bin/sh\necho "chkconfig $*" >>/calls\n' >"$root/sbin/chkconfig"
	chmod +x "$root/sbin/chkconfig"
	: >"$root/calls"
	# The scriptlets' init script and drbdsetup: put in place of the installed ones, which want a host.
	note_calls() {
		printf '#!/bin/sh\necho "init $*" >>/calls\n' >"$root/etc/rc.d/init.d/drbd"
		rm -f "$root/sbin/drbdsetup"
		printf '#!/bin/sh\ncat /role 2>/dev/null || /bin/busybox cat /role\n' >"$root/sbin/drbdsetup"
		chmod +x "$root/sbin/drbdsetup" "$root/etc/rc.d/init.d/drbd"
	}
	: >"$root/role"
	# What the root has is a package, too, so that rpm looks at what each of ours needs; and the one of DRBD's module.
	for package in "host:/bin/sh udev" "kmod-drbd83:nothing" "drbd-heartbeat:nothing"; do
		printf 'Name: %s\nVersion: 8.3.16\nRelease: 1\nSummary: x\nLicense: x\nProvides: %s\nAutoReqProv: no\n%%description\n%%files\n' \
			"${package%%:*}" "${package#*:}" >host.spec
		rpmbuild -bb --quiet --define "_rpmdir $work/host" --define "_topdir $work/host/build" \
			--define '_rpmfilename %%{NAME}.rpm' host.spec >out 2>&1 || fail "rpmbuild of a host: $(cat out)"
	done
	refused_in_root() {
		! rpm --root "$root" --nosignature "$@" >out 2>&1 && grep -q 'conflicts with' out || fail "rpm $*: $(cat out)"
	}
	in_root() { rpm --root "$root" --nosignature "$@" >out 2>&1 || fail "rpm $*: $(cat out)"; }
	called() { [ "$(cat "$root/calls")" = "$1" ] || fail "$2: scriptlets called: $(cat "$root/calls")"; : >"$root/calls"; }
	in_root -i host/host.rpm
	! rpm --root "$root" --nosignature -i first/drbdbox-heartbeat*.rpm >out 2>&1 || fail "drbdbox-heartbeat can be alone"
	in_root -i host/kmod-drbd83.rpm
	refused_in_root -i "$main"
	called "" "an installation that is refused"
	in_root -e kmod-drbd83
	in_root -i first/*.rpm
	refused_in_root -i host/drbd-heartbeat.rpm
	called "chkconfig --add drbd" installation
	echo "# mine" >"$root/etc/drbd.conf"
	# The scriptlet that ends an upgrade runs what the new package has installed: here it fails quietly, or says what it leaves.
	in_root -U second/drbdbox-*.rpm
	called "chkconfig --add drbd" upgrade
	grep -q mine "$root/etc/drbd.conf" || fail "the upgrade has overwritten drbd.conf"
	note_calls
	echo ' 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----' >"$root/role"
	rpm -qp --qf '%{POSTUN}\n' "$main" >"$root/postun"
	chroot "$root" /bin/sh /postun 1 >out 2>&1 || fail "postun: $(cat out)"
	grep -q 'is Primary' out || fail "an upgrade does not say that a Primary keeps the old program"
	called "" "upgrade with a Primary"
	echo ' 0: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r-----' >"$root/role"
	chroot "$root" /bin/sh /postun 1 >out 2>&1 || fail "postun: $(cat out)"
	called "init condrestart" "upgrade of a Secondary"
	in_root -e drbdbox drbdbox-{heartbeat,pacemaker,rgmanager,udev,systemd,bash-completion}
	called $'init stop\nchkconfig --del drbd' erasure
	[ ! -e "$root/sbin/drbdbox" ] || fail "erasure leaves /sbin/drbdbox"
else
	echo "not root: scriptlets were not run"
fi

# Heartbeat's resources. The drbdadm notes its calls; FAILS of them fail, then they succeed.
mkdir heartbeat
cat >heartbeat/drbdadm <<'END'
#!/bin/sh
echo "$*" >>calls
case $* in
"role r0") cat role; exit 0 ;;
"sh-dev r0") echo /dev/drbd3; exit 0 ;;
"-S sh-lr-of r0-U") echo r0; exit 0 ;;
"-S role r0-U") cat role; exit 0 ;;
esac
left=$(cat fails)
[ "$left" -gt 0 ] || exit 0
echo $((left - 1)) >fails
exit 17
END
chmod +x heartbeat/drbdadm
cd heartbeat || exit 1
for name in drbddisk drbdupper; do
	sed -e "s,^DRBDADM=.*,DRBDADM=$PWD/drbdadm," -e "s,PROC_DRBD=/run/drbd/proc,PROC_DRBD=$PWD/proc," -e '/etc\/default/d' \
		"$top/packaging/heartbeat/$name" >$name
done
# runs STATUS OUTPUT COMMAND...
runs() {
	local wanted=$1 output=$2 status
	shift 2
	: >calls
	sh "$@" >out 2>err
	status=$?
	[ $status -eq "$wanted" ] && [ "$(cat out)" = "$output" ] || fail "$*: status $status, output $(cat out err), expected $wanted, $output"
}
echo 2 >fails
runs 0 "" drbddisk r0 start
[ "$(cat calls)" = $'primary r0\nprimary r0\nprimary r0' ] || fail "drbddisk start: $(cat calls)"
echo 9 >fails
runs 1 "" drbddisk r0 stop
[ "$(grep -c 'secondary r0' calls)" -eq 3 ] || fail "drbddisk stop tries: $(cat calls)"
echo 0 >fails
echo Primary/Secondary >role && runs 0 "running (Primary)" drbddisk r0 status
echo Secondary/Primary >role && runs 3 "stopped (Secondary)" drbddisk r0 status
: >role && runs 3 "stopped (Unconfigured)" drbddisk r0 status
printf ' 3: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n' >proc
runs 0 "running (Primary)" drbddisk r0 status
: >proc
runs 4 "cannot determine status, may be running ()" drbddisk r0 status
runs 10 "A resource name is required for status inquiries." drbddisk status
runs 1 "Usage: drbddisk [resource] {start|stop|status}" drbddisk r0 dance
runs 0 "" drbddisk start
[ "$(cat calls)" = "primary all" ] || fail "drbddisk without a name: $(cat calls)"
runs 0 "" drbdupper r0-U start
[ "$(cat calls)" = $'-S sh-lr-of r0-U\nprimary r0\n-S check-resize r0-U\n-S adjust r0-U\n-S wait-connect r0-U\n-S primary r0-U' ] ||
	fail "drbdupper start: $(cat calls)"
runs 0 "" drbdupper r0-U stop
[ "$(cat calls)" = $'-S down r0-U\n-S sh-lr-of r0-U\nsecondary r0' ] || fail "drbdupper stop: $(cat calls)"
echo Primary/Secondary >role && runs 0 running drbdupper r0-U status
echo Secondary/Secondary >role && runs 0 stopped drbdupper r0-U status
runs 10 "A resource name is required." drbdupper status
runs 10 "A resource name is required." drbdupper all start

# Completion, with the shell that runs this.
mkdir completion
cat >completion/drbdadm <<'END'
#!/bin/sh
case $* in
sh-resources) echo r0; echo r1 ;;
"role r0") echo Primary/Secondary ;;
"role r1") echo Secondary/Primary ;;
esac
END
chmod +x completion/drbdadm
completes() { # WORDS... : the last one is incomplete
	PATH=$PWD/completion:$PATH bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _drbdadm; echo "${COMPREPLY[*]}"' - \
		"$top/packaging/bash-completion/drbdadm" "$@"
}
[ "$(completes drbdadm prim)" = primary ] || fail "completion of a command: $(completes drbdadm prim)"
[ "$(completes drbdadm primary "")" = r1 ] || fail "completion of primary: $(completes drbdadm primary "")"
[ "$(completes drbdadm secondary "")" = r0 ] || fail "completion of secondary: $(completes drbdadm secondary "")"
[ "$(completes drbdadm adjust "")" = "r0 r1 all" ] || fail "completion of adjust: $(completes drbdadm adjust "")"
[ "$(completes drbdadm -- --ov)" = --overwrite-data-of-peer ] || fail "completion of an option"
echo "packages, Heartbeat's resources and completion are as they should be"
