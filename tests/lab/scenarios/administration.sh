# invalidate, invalidate-remote, pause-sync and resume-sync from either side
in_sync
kernel 'drbdadm primary r0 && fill 0 64 old && drbdadm secondary r0'
box invalidate r0
sleep 0.5
synced
kernel 'drbdadm invalidate r0; sleep 0.5'
synced
box invalidate-remote r0
sleep 0.5
synced
kernel 'drbdadm invalidate-remote r0; sleep 0.5'
synced
box pause-sync r0
kernel 'drbdadm invalidate r0; until_true 10 "[ \$(cs) = PausedSyncT ]"'
await 10 '[ "$(cs)" = PausedSyncS ]'
box resume-sync r0
synced
kernel 'drbdadm pause-sync r0; drbdadm invalidate r0; until_true 10 "[ \$(cs) = PausedSyncT ]"'
await 10 '[ "$(cs)" = PausedSyncS ]'
kernel 'drbdadm resume-sync r0'
synced
equal
