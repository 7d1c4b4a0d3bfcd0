# resync-after: the resync of a second resource waits until that of the first is done, for the settings of either side or of both
LOWER=/dev/mapper/back0
SIZE=8M
RATE=1M
WHO_WAITS='resync-after r0;'
SECOND="resource r1 {
  net { protocol C; }
  disk { resync-rate 100M; c-plan-ahead 0; $WHO_WAITS }
  on kernel { device /dev/drbd1; disk /dev/mapper/back1; meta-disk internal; address 10.99.0.1:7790; }
  on box { device /dev/drbd1; disk $WORK/box1.img; meta-disk internal; address 10.99.0.2:7790; }
}"
# on both resources
both() {
	on "$1" "$2" r0
	on "$1" "$2" r1
}
second_is() { until_on "$1" "[ \$(MINOR=1 cs) = $2 ]"; }
for version in $(versions 95 101); do
	at "$version"
	for who in both kernel box; do
		for side in kernel box; do
			situation "resync-after set $([ $who = both ] && echo "on both sides" || { [ $who = box ] && echo "at drbdbox" || echo "at the kernel"; })" "$(role_of $side)"
			quiet 'drbdadm down all; modprobe dm_mod; dmsetup remove -f back0 back1; dmsetup create back0 --table "0 16384 linear /dev/data 0" &&
				dmsetup create back1 --table "0 16384 linear /dev/data 16384" && dmsetup mknodes' >/dev/null || die "no device mapper in the machine"
			in_sync
			truncate -s 0 "$WORK/box1.img"
			truncate -s 8M "$WORK/box1.img"
			[ $who != kernel ] || sed -i "s/$WHO_WAITS//" "$CONF"
			[ $who != box ] || quiet "sed -i 's/$WHO_WAITS//' /etc/drbd.conf"
			kernel 'drbdadm create-md --force r1 >/dev/null 2>&1; drbdadm up r1'
			drbdadm -c "$CONF" -- --force create-md r1 >/dev/null || die "no meta data"
			box up r1
			second_is box Connected
			kernel 'drbdadm new-current-uuid --clear-bitmap r1; until_true 20 "[ \$(MINOR=1 ds) = UpToDate/UpToDate ]"'
			both $side primary
			both "$(other $side)" disconnect
			until_on $side '[ $(cs) = WFConnection ]'
			if [ $side = kernel ]; then
				kernel 'fill 0 1500 first && DEVICE=/dev/drbd1 && fill 0 1500 second'
			else
				fill 0 1500 first && DEVICE=$WORK/dev/drbd1 fill 0 1500 second || die "drbdbox cannot write"
			fi
			both "$(other $side)" connect
			until_on $side '[ $(cs) = SyncSource ]'
			second_is $side PausedSyncS
			second_is "$(other $side)" PausedSyncT
			for node in box kernel; do
				until_on $node '[ $(MINOR=1 ds) = UpToDate/UpToDate ]'
				until_on $node '[ $(ds) = UpToDate/UpToDate ]'
			done
			both $side secondary
			both "$(other $side)" primary
			if [ $side = kernel ]; then
				holds 0 1500 first && DEVICE=$WORK/dev/drbd1 holds 0 1500 second || die "drbdbox does not have what the kernel wrote"
			else
				kernel 'holds 0 1500 first && DEVICE=/dev/drbd1 && holds 0 1500 second'
			fi
			both "$(other $side)" secondary
			on kernel down r1
			on box down r1
			equal
		done
	done
done
