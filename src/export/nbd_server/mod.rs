//! An NBD server: a device for those who need no kernel device (qemu, libnbd, fio), also without root.
