# protocol A on a slow line with on-congestion pull-ahead: the Primary goes Ahead, the other Behind, then they resync
PROTOCOL=A
slow="tbf rate 4mbit burst 32k latency 400ms"
for version in $(versions 96 101); do
	at "$version"
	situation "congestion: Ahead and Behind, then a resync" Primary
	in_sync "on-congestion pull-ahead; congestion-fill 128k; sndbuf-size 1M;"
	kernel "drbdadm primary r0; modprobe sch_tbf; tc qdisc add dev eth0 root $slow"
	kernel 'mark=$(dmesg | wc -l); dd if=/dev/urandom of=/dev/drbd0 bs=64k count=64 oflag=direct status=none; dmesg | tail -n +$mark | grep Ahead'
	kernel 'tc qdisc del dev eth0 root'
	await 60 'grep -q Behind "$LOG"'
	synced
	kernel 'drbdadm secondary r0'
	equal
	situation
	# shellcheck disable=SC2086 # words
	if ! tc qdisc add dev cable root $slow 2>/dev/null; then
		say "left out: this host cannot slow down the cable for drbdbox as Primary"
		continue
	fi
	tc qdisc del dev cable root
	situation "congestion: Ahead and Behind, then a resync" Secondary
	in_sync "on-congestion pull-ahead; congestion-fill 128k; sndbuf-size 1M;"
	box primary r0
	# shellcheck disable=SC2086 # words
	tc qdisc add dev cable root $slow || die "this host cannot slow down the cable"
	dd if=/dev/urandom of="$DEVICE" bs=64k count=64 oflag=direct status=none || die "drbdbox cannot write"
	grep -q Ahead "$LOG" || die "drbdbox was not congested"
	tc qdisc del dev cable root
	synced
	box secondary r0
	equal
done
