# shellcheck shell=bash
# Hosts on one machine, for scripts in bash: name spaces for network, mounts, processes and host name, with cables (veth) to a
# switch (a bridge in a network name space of its own): a host that loses its power leaves the others' cables alone.
# Each has directories of its own where a host has its own: /etc, /var, /run, /dev, /tmp, /sbin, /usr/local, /root.
#
#   hosts_begin                     checks what is needed, makes the work directory, sets the cleanup trap
#   host_on data01 192.168.197.134  switches a host on (again); host_off data01 takes its power
#   host_disk data01 sdb1 256       gives it a disk: a block device of so many MiB
#   host_faulty_disk data01 sdb1 256    one that obeys orders, and has a volatile cache: tests/support/faulty_disk.rs
#   disk_order data01 sdb1 hold     an order for it
#   host_unplug data01, host_plug   its cable
#   host_mute data01 data02         what data01 sends to data02 is lost, without an error; host_unmute
#   on data01 'COMMAND'             shows and runs a command there; it must exit with 0
#   refused 17 data01 'COMMAND'     the same; it must exit with that status
#   together 'COMMAND' data01 data02    on both at the same time
#   shows 'TEXT'                    the output of the last command must hold TEXT (grep -E)
#   quiet data01 'COMMAND'          runs it without showing it; the caller looks at the status
#   await 20 data01 'COMMAND'       runs it quietly until it succeeds
#
# $SHARED is a directory that all hosts see at the same path.
# A script may have a function on_failure: it is called before everything is taken away, if the script fails.
# Environment: DRBDBOX=the binary to test (target/release/drbdbox). HOST_PROGRAMS=directory of host-helper,
# write-checker and faulty-disk (target/release/examples). HOST_ENVIRONMENT="NAME=VALUE ...": for all commands on hosts.
# HOSTS_KEEP=1 leaves the work directory.

set -u
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
DRBDBOX=${DRBDBOX:-$TOP/target/release/drbdbox}
HOST_PROGRAMS=${HOST_PROGRAMS:-$TOP/target/release/examples}
WORK=
SHARED=
STEP=0
SWITCH=
declare -A INIT=() ADDRESS=() DISKS=() FAULTY=()
MASTER=192.168.197.134
SLAVE=192.168.197.135
PORT=7801
PROC=/run/drbd/proc
HOST_PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin

say() { printf '%s\n' "$*"; }

# A headline of the walk-through.
step() {
	STEP=$((STEP + 1))
	printf '\n--- %d. %s\n' "$STEP" "$*"
}

# Ends the script with what went wrong; the trap cleans up.
die() {
	printf '\nFAILED: %s\n' "$*" >&2
	exit 1
}

# need PROGRAM PACKAGE ...: names what is missing, with the package that has it. Returns 1 if anything is.
need() {
	local missing=0
	while [ $# -ge 2 ]; do
		if ! PATH=$HOST_PATH:$PATH type -P "$1" >/dev/null; then
			say "missing: $1 (Debian package $2)" >&2
			missing=1
		fi
		shift 2
	done
	return $missing
}

# What the machine must have for two hosts. Prints what it has not; returns 1 then.
hosts_possible() {
	local ok=0
	if [ "$(id -u)" -ne 0 ]; then
		say "not root: name spaces and block devices cannot be made" >&2
		return 1
	fi
	need unshare util-linux nsenter util-linux losetup util-linux mount mount umount mount pivot_root util-linux \
		setsid util-linux ip iproute2 mkfs.ext3 e2fsprogs e2fsck e2fsprogs cmp diffutils awk mawk \
		md5sum coreutils df coreutils make make || ok=1
	[ -c /dev/loop-control ] || { say "missing: /dev/loop-control (kernel module loop)" >&2; ok=1; }
	[ -c /dev/fuse ] || { say "missing: /dev/fuse (kernel module fuse)" >&2; ok=1; }
	grep -qwE 'ext3|ext4' /proc/filesystems || modprobe ext4 2>/dev/null ||
		{ say "missing: a kernel that mounts ext3 (module ext4 or ext3)" >&2; ok=1; }
	if [ $ok -eq 0 ] && ! unshare --net --mount --pid --uts --fork true 2>/dev/null; then
		say "this machine does not let root make name spaces (a container?)" >&2
		ok=1
	fi
	return $ok
}

hosts_begin() {
	hosts_possible || { say "two hosts cannot be made on this machine: see above" >&2; exit 77; }
	local program
	for program in "$DRBDBOX" "$HOST_PROGRAMS"/{host-helper,write-checker,faulty-disk}; do
		[ -x "$program" ] || die "no program at $program: make demo builds it"
	done
	local base=${TMPDIR:-/tmp}
	# The disks are sparse files in memory if there is enough of it.
	[ "$(stat -f -c %T /dev/shm 2>/dev/null)" != tmpfs ] || [ "$(df -m --output=avail /dev/shm | tail -n 1)" -lt 1500 ] ||
		base=/dev/shm
	WORK=$(mktemp -d "$base/drbdbox-hosts.XXXXXX") || exit 1
	SHARED=$WORK/shared
	mkdir "$SHARED"
	trap hosts_end EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	install_to "$WORK/installed"
	setsid unshare --net sh -c 'ip link add switch type bridge && ip link set switch up && echo up; exec sleep infinity' \
		</dev/null >"$WORK/switch.log" 2>&1 &
	SWITCH=$!
	disown $SWITCH
	until [ -s "$WORK/switch.log" ]; do sleep 0.02; done
	grep -q up "$WORK/switch.log" || die "no bridge can be made: $(cat "$WORK/switch.log")"
}

# Takes everything away that this script made, in whatever state it is.
hosts_end() {
	local status=$? host loop disk
	trap - EXIT
	trap '' INT TERM HUP
	set +e
	if [ $status -ne 0 ] && [ $status -lt 77 ]; then
		for host in "${!INIT[@]}"; do
			say "--- the end of the log of $host:" >&2
			tail -n 40 "$WORK/$host/var/log/messages" 2>/dev/null | sed "s/^/[$host] /" >&2
		done
		! declare -F on_failure >/dev/null || on_failure
	fi
	# What waits for a disk cannot end.
	for disk in "${!FAULTY[@]}"; do
		disk_order ${disk/:/ } go
	done
	for host in "${!INIT[@]}"; do
		host_off "$host"
	done
	for disk in "${!FAULTY[@]}"; do
		disk_order ${disk/:/ } end || kill "${FAULTY[$disk]}"
	done
	[ ${#FAULTY[@]} -eq 0 ] || "$HOST_PROGRAMS/host-helper" clean-doors "$WORK/disks"
	[ -z "$SWITCH" ] || kill "$SWITCH" 2>/dev/null
	for loop in "${DISKS[@]}"; do
		losetup -d "$loop"
	done
	if [ -n "${HOSTS_KEEP:-}" ]; then
		say "left for a look: $WORK" >&2
	else
		rm -rf --one-file-system "$WORK"
	fi
	exit $status
}

# make install, with the prefix of the how-to, into a directory.
install_to() {
	make -s --no-print-directory -C "$TOP" install BINARY="$DRBDBOX" DESTDIR="$1" prefix=/usr/local/drbd \
		sysconfdir=/usr/local/drbd/etc localstatedir=/usr/local/drbd/var \
		initdir=/usr/local/drbd/etc/rc.d/init.d >"$WORK/install.log" 2>&1 ||
		{ cat "$WORK/install.log" >&2; die "make install"; }
}

# --- a host ----------------------------------------------------------------------------------------------------------

# What is on a host's own disk: survives host_off.
furnish() {
	local home=$WORK/$1 file
	mkdir -p "$home"/{root,run,etc,var/{lib/drbd,log,tmp,cache},sbin,dev,usr-local,home-root,data}
	cp -a /etc/. "$home/etc/" 2>/dev/null
	rm -rf "$home/etc/drbd.conf" "$home/etc/drbd.d" "$home/etc/init.d/drbd" "$home/etc/default/drbd"
	mkdir -p "$home/etc/init.d" "$home/etc/default"
	: >"$home/etc/fstab"
	echo "$1" >"$home/etc/hostname"
	# No service of the real machine is to be asked anything.
	rm -f "$home/etc/mtab" && ln -s /proc/self/mounts "$home/etc/mtab"
	ln -s /run "$home/var/run"
	ln -s /run/lock "$home/var/lock"
	for file in /usr/sbin/* /sbin/*; do
		[ -e "$home/sbin/${file##*/}" ] || ln -s "/usr/sbin/${file##*/}" "$home/sbin/${file##*/}"
	done
	cp -a "$WORK/installed/sbin/." "$home/sbin/"
	cp -a "$WORK/installed/usr/local/." "$home/usr-local/"
	mkdir -p "$home/usr-local/bin"
	cp "$HOST_PROGRAMS/host-helper" "$HOST_PROGRAMS/write-checker" "$home/usr-local/bin/"
}

host_on() {
	local host=$1 home=$WORK/$1 tries=0
	[ -d "$home" ] || furnish "$host"
	ADDRESS[$host]=${2:-${ADDRESS[$host]}}
	rm -rf "$home/run" "$home/up"
	mkdir -p "$home/run/lock"
	touch "$home/disks"
	setsid unshare --net --mount --pid --uts --fork --kill-child "$TOP/tests/hosts/host-init.sh" "$host" "$home" "$TOP" "$SHARED" \
		</dev/null >"$home/init.log" 2>&1 &
	local outer=$!
	disown $outer
	until [ -e "$home/up" ]; do
		tries=$((tries + 1))
		if [ $tries -gt 200 ] || ! kill -0 $outer 2>/dev/null; then
			cat "$home/init.log" >&2
			kill $outer 2>/dev/null
			die "host $host did not come up"
		fi
		sleep 0.05
	done
	INIT[$host]=$(awk '{print $1; exit}' "/proc/$outer/task/$outer/children")
	[ -n "${INIT[$host]}" ] || die "host $host has no first process"
	ip link add eth0 netns "${INIT[$host]}" type veth peer name "$host" netns "$SWITCH" || die "no veth pair"
	nsenter -t "$SWITCH" -n ip link set "$host" master switch up
	quiet "$host" "ip link set lo up && ip addr add ${ADDRESS[$host]}/24 dev eth0 && ip link set eth0 up" ||
		die "the network of $host: $(cat "$WORK/quiet.out")"
}

# As if the power failed: every process of the host is gone at once. What it left in the kernel goes too, as it would.
host_off() {
	local host=$1 init=${INIT[$1]:-} loop
	[ -n "$init" ] || return 0
	unset "INIT[$host]"
	# First the cable: the dying processes must not say good-bye to the peer.
	host_unplug "$host" 2>/dev/null
	kill -9 "$init" 2>/dev/null
	local tries=0
	while [ -e "/proc/$init" ] && [ $tries -lt 200 ]; do
		tries=$((tries + 1))
		sleep 0.05
	done
	[ ! -e "/proc/$init" ] || say "the first process of $host ($init) does not end" >&2
	nsenter -t "$SWITCH" -n ip link del "$host" 2>/dev/null
	# The loop devices of a daemon that was killed do not end with it.
	"$HOST_PROGRAMS/host-helper" clean-doors "$WORK/$host/run/drbd"
}

# host_disk HOST NAME MIB: /dev/NAME there. The host must be off.
host_disk() {
	local host=$1 name=$2 mib=$3 file loop
	[ -d "$WORK/$host" ] || furnish "$host"
	[ -z "${INIT[$host]:-}" ] || die "host_disk: $host is on"
	file=$WORK/$host-$name.img
	truncate -s "${mib}M" "$file" || die "cannot make $file"
	loop=$(losetup --find --show "$file") || die "no loop device for $file"
	DISKS[$host:$name]=$loop
	echo "$name $(lsblk_numbers "$loop")" >>"$WORK/$host/disks"
}

# host_faulty_disk HOST NAME MIB: as host_disk.
host_faulty_disk() {
	local host=$1 name=$2 file=$WORK/$1-$2.img tries=0
	[ -d "$WORK/$host" ] || furnish "$host"
	[ -z "${INIT[$host]:-}" ] || die "host_faulty_disk: $host is on"
	mkdir -p "$WORK/disks"
	truncate -s "${3}M" "$file" || die "cannot make $file"
	setsid "$HOST_PROGRAMS/faulty-disk" serve "$file" ${#FAULTY[@]} "$WORK/disks" "$WORK/$host-$name.orders" \
		</dev/null >"$WORK/$host-$name.numbers" 2>"$WORK/$host-$name.log" &
	FAULTY[$host:$name]=$!
	disown $!
	until [ -s "$WORK/$host-$name.numbers" ]; do
		tries=$((tries + 1))
		[ $tries -lt 500 ] || die "no faulty disk: $(cat "$WORK/$host-$name.log")"
		sleep 0.02
	done
	echo "$name $(cat "$WORK/$host-$name.numbers")" >>"$WORK/$host/disks"
}

# disk_order HOST NAME ORDER...
disk_order() { "$HOST_PROGRAMS/faulty-disk" tell "$WORK/$1-$2.orders" "${@:3}"; }

# 7:3
lsblk_numbers() {
	local numbers
	numbers=$(stat -L -c '0x%t 0x%T' "$1")
	printf '%d:%d' $numbers
}

# disk_file HOST NAME: the file behind a disk.
disk_file() { printf '%s' "$WORK/$1-$2.img"; }

# host_unplug HOST, host_plug HOST: the cable between a host and the switch.
host_unplug() { nsenter -t "$SWITCH" -n ip link set "$1" down; }
host_plug() { nsenter -t "$SWITCH" -n ip link set "$1" up; }

# host_mute HOST PEER, host_unmute HOST PEER: HOST's packets to PEER go to a station that does not exist; PEER's arrive.
host_mute() {
	quiet "$1" "ip neigh replace ${ADDRESS[$2]} lladdr 02:00:00:00:00:01 nud permanent dev eth0" ||
		die "host_mute: $(cat "$WORK/quiet.out")"
}
host_unmute() { quiet "$1" "ip neigh del ${ADDRESS[$2]} dev eth0"; }

# --- commands on a host ----------------------------------------------------------------------------------------------

# Runs a command there; stdin, stdout and stderr are the caller's.
inside() {
	local host=$1
	shift
	# shellcheck disable=SC2086 # several words
	nsenter -t "${INIT[$host]}" -m -n -p -u env -i PATH=$HOST_PATH HOME=/root LANG=C LC_ALL=C TERM=dumb \
		${HOST_ENVIRONMENT:-} bash -c "$*"
}

quiet() {
	local host=$1
	shift
	inside "$host" "$@" </dev/null >"$WORK/quiet.out" 2>&1
}

# Runs and shows a command; its output is kept in $WORK/last for `shows`.
show() {
	local host=$1
	shift
	printf '[%s]# %s\n' "$host" "$*"
	inside "$host" "$@" </dev/null 2>&1 | tee "$WORK/last"
	return "${PIPESTATUS[0]}"
}

on() {
	show "$@" || die "exit status $? of '${*:2}' on $1, expected 0"
}

# together 'COMMAND' HOST...: runs it on all of them at the same time, then shows it as `on` does for each.
together() {
	local command=$1 host failed=
	shift
	for host; do
		{
			inside "$host" "$command" </dev/null >"$WORK/together.$host" 2>&1
			echo $? >"$WORK/status.$host"
		} &
	done
	wait
	for host; do
		printf '[%s]# %s\n' "$host" "$command"
		cat "$WORK/together.$host"
		[ "$(cat "$WORK/status.$host")" -eq 0 ] || failed=$host
	done
	cat "${@/#/$WORK/together.}" >"$WORK/last"
	[ -z "$failed" ] || die "exit status $(cat "$WORK/status.$failed") of '$command' on $failed, expected 0"
}

refused() {
	local expected=$1 status=0
	shift
	show "$@" || status=$?
	[ $status -eq "$expected" ] || die "exit status $status of '${*:2}' on $1, expected $expected"
	say "[exit status $status, as it must be]"
}

# fails HOST 'COMMAND': it must exit with any status but 0.
fails() {
	local status=0
	show "$@" || status=$?
	[ $status -ne 0 ] || die "'${*:2}' on $1 succeeded, it must fail"
	say "[exit status $status: refused, as it must be]"
}

shows() {
	grep -qE -- "$1" "$WORK/last" || die "the output above does not hold: $1"
}

shows_not() {
	! grep -qE -- "$1" "$WORK/last" || die "the output above holds: $1"
}

await() {
	local seconds=$1 host=$2 end
	shift 2
	end=$((SECONDS + seconds))
	until quiet "$host" "$@"; do
		if [ $SECONDS -ge $end ]; then
			cat "$WORK/quiet.out" >&2
			die "after $seconds seconds on $host still not true: $*"
		fi
		sleep 0.1
	done
}

# --- a pair ----------------------------------------------------------------------------------------------------------

# configuration RATE [NET_OPTIONS [SYNCER_OPTIONS [DISK_OPTIONS [PROTOCOL]]]]: the how-to's drbd.conf, with another speed of
# resynchronisation.
configuration() {
	cat <<END
global {
    usage-count yes;
}
common {
    protocol ${5:-C};
    syncer { rate $1;${3:+ $3} }${4:+
    disk { $4 \}}
    startup {
        wfc-timeout 10;
        degr-wfc-timeout 120;
        outdated-wfc-timeout 5;
    }
}
resource r0 {
    device minor 1;
    meta-disk internal;
    # 节点间的消息使用的摘要算法
    net {
        cram-hmac-alg sha1;
        shared-secret "secret string";${2:+
        $2}
    }
    on data01 {
        device /dev/drbd0;
        disk /dev/sdb1;
        address $MASTER:$PORT;
    }
    on data02 {
        device /dev/drbd0;
        disk /dev/sdb1;
        address $SLAVE:$PORT;
    }
}
END
}

# pair_up MIB RATE [NET_OPTIONS...]: data01 and data02, started and connected, data01 Primary, both disks UpToDate; quietly.
# The arguments behind MIB are those of `configuration`. DISK_KIND=host_faulty_disk for such disks.
pair_up() {
	local host text
	text=$(configuration "${@:2}")
	${DISK_KIND:-host_disk} data01 sdb1 "$1"
	${DISK_KIND:-host_disk} data02 sdb1 "$1"
	host_on data01 $MASTER
	host_on data02 $SLAVE
	for host in data01 data02; do
		printf '%s\n' "$text" >"$WORK/$host/etc/drbd.conf"
		ln -s /usr/local/drbd/etc/rc.d/init.d/drbd "$WORK/$host/etc/init.d/drbd"
		quiet $host 'drbdadm create-md r0' || die "create-md on $host: $(cat "$WORK/quiet.out")"
	done
	together '/etc/init.d/drbd start' data01 data02 >"$WORK/start.out" || die "$(cat "$WORK/start.out")"
	await 10 data01 "grep -q cs:Connected $PROC"
	# Nanoseconds of the clock: bench.sh makes a speed of them.
	SYNC_BEGAN=$(date +%s%N)
	quiet data01 'drbdsetup /dev/drbd0 primary -o' || die "primary -o: $(cat "$WORK/quiet.out")"
	quiet data01 "for i in \$(seq 6000); do $IN_SYNC && exit 0; sleep 0.02; done; exit 1" ||
		die "the first resynchronisation does not end: $(inside data01 "cat $PROC")"
	SYNC_ENDED=$(date +%s%N)
}

# Succeeds on a host whose device is connected and good on both sides.
IN_SYNC="grep -q 'cs:Connected .* ds:UpToDate/UpToDate' $PROC"
