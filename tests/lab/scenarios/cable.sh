# the network goes away without a word, while either side writes
# planted: short read|Error receiving initial packet
for version in $(versions 86 95 101); do
	at "$version"
	situation "cable pulled while either side writes" Primary
	in_sync 'ping-int 2; timeout 20;'
	kernel 'drbdadm primary r0 && fill 0 16 old'
	cable out
	kernel 'fill 4 4 new'
	await 30 '[ "$(cs)" = WFConnection ]'
	kernel 'until_true 30 "[ \$(cs) = WFConnection ]" && fill 100 4 new'
	cable in
	synced
	kernel 'drbdadm secondary r0'
	situation "cable pulled while either side writes" Secondary
	box primary r0
	cable out
	fill 200 4 ours
	await 30 '[ "$(cs)" = WFConnection ]'
	fill 210 4 ours
	cable in
	synced
	box secondary r0
	equal
done
