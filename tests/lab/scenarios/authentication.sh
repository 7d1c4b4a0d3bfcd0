# cram-hmac-alg sha1 and md5: the right secret connects, another one leaves both StandAlone
for algorithm in sha1 md5; do
	in_sync "cram-hmac-alg $algorithm; shared-secret \"FooFunFactory\";"
	kernel 'drbdadm primary r0 && fill 0 64 one && drbdadm secondary r0'
	equal
done
sed -i 's/FooFunFactory/another/' "$CONF"
kernel 'drbdadm up r0'
box up r0
await 20 '[ "$(cs)" = StandAlone ]'
kernel 'until_true 20 "[ \$(cs) = StandAlone ]"'
