# data-integrity-alg: a byte of the data is changed on the way; the connection is dropped and made again, no disk has it
# planted: digest|error receiving|short read
between
for version in $(versions 87 95 101); do
	at "$version"
	for algorithm in crc32c md5 sha1; do
		for side in kernel box; do
			situation "a byte is changed on the way, data-integrity-alg $algorithm: a write" "$(role_of $side)"
			in_sync "data-integrity-alg $algorithm;"
			on $side primary r0
			fill_on $side 0 8 good
			change_passing "$(printf 'seed %8s' spoil)"
			fill_on $side 2 4 spoil
			[ ! -e "$WORK/change" ] || die "nothing was changed"
			logged "$(other $side)" 'Digest integrity check FAILED: [0-9]*s +[0-9]*'
			synced
			holds_on $side 2 4 spoil
			situation "a byte is changed on the way, data-integrity-alg $algorithm: a block of a resync" "$(role_of $side)"
			on "$(other $side)" disconnect r0
			until_on $side '[ $(cs) = WFConnection ]'
			fill_on $side 4 40 again
			change_passing "$(printf 'seed %8s' again)"
			kernel 'dmesg -C'
			failures=$(grep -c 'Digest integrity check FAILED' "$LOG")
			on "$(other $side)" connect r0
			if [ $side = kernel ]; then
				await 20 "[ \$(grep -c 'Digest integrity check FAILED' '$LOG') -gt $failures ]"
			else
				logged kernel 'Digest integrity check FAILED: [0-9]*s +[0-9]*'
			fi
			[ ! -e "$WORK/change" ] || die "nothing was changed"
			synced
			on $side secondary r0
			on "$(other $side)" primary r0
			holds_on "$(other $side)" 4 40 again
			on "$(other $side)" secondary r0
			equal
		done
	done
done
between_ends
