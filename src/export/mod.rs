//! Doors: how an application gets a block device.
