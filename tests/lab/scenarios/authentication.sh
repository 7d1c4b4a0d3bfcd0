# cram-hmac-alg: the right secret connects; another one, or one on one side only, does not
# planted: Digest|Unexpected data packet AuthChallenge|error receiving AuthChallenge
for version in $(versions 86 95 101); do
	at "$version"
	for algorithm in sha1 md5; do
		situation "authentication, $algorithm" both
		in_sync "cram-hmac-alg $algorithm; shared-secret \"FooFunFactory\";"
		kernel 'drbdadm primary r0 && fill 0 64 one && drbdadm secondary r0'
		equal
	done
	situation "authentication with another secret is refused" both
	sed -i 's/FooFunFactory/another/' "$CONF"
	kernel 'drbdadm up r0'
	box up r0
	await 20 '[ "$(cs)" = StandAlone ]'
	kernel 'until_true 20 "[ \$(cs) = StandAlone ]"; drbdadm down r0'
	box down r0
	situation "authentication by one side only is refused" both
	sed -i 's/cram-hmac-alg [a-z0-9]*; shared-secret "[a-zA-Z]*";//' "$CONF"
	kernel 'drbdadm up r0'
	box up r0
	await 30 'grep -q "expected AuthChallenge packet" "$LOG" || quiet "dmesg | tail -n 30 | grep \"expected AuthChallenge packet\"" || [ "$(cs)" = StandAlone ]'
	[ "$(cs)" != Connected ] || die "connected without a secret"
	[ "$(quiet cs)" != Connected ] || die "the kernel connected without a secret"
	kernel 'drbdadm down r0'
	box down r0
	configuration "cram-hmac-alg sha1; shared-secret \"FooFunFactory\";"
	quiet "sed -i 's/cram-hmac-alg [a-z0-9]*; shared-secret \"[a-zA-Z]*\";//' /etc/drbd.conf" || die "no configuration in the machine"
	cat "$LOG" >>"$WORK/log.all"
	: >"$LOG"
	kernel 'drbdadm up r0'
	box up r0
	await 30 'grep -q "expected AuthChallenge packet" "$LOG"'
	[ "$(cs)" != Connected ] || die "connected without a secret"
	[ "$(quiet cs)" != Connected ] || die "the kernel connected without a secret"
done
