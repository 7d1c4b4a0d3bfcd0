# first copy of a disk, from the kernel and from drbdbox; then writes of both as Primary
situation "initial sync, then mixed writes from either side" Primary
fresh
kernel 'drbdadm primary --force r0'
synced
kernel 'mixed_writes && drbdadm secondary r0'
box primary r0
holds 0 64 one || die "drbdbox does not read what the kernel has written"
mixed_writes || die "drbdbox cannot write"
box secondary r0
equal
situation "initial sync, then mixed writes from either side" Secondary
fresh
box -- --force primary r0
synced
mixed_writes || die "drbdbox cannot write"
box secondary r0
kernel 'drbdadm primary r0 && holds 0 64 one && drbdadm secondary r0'
equal
