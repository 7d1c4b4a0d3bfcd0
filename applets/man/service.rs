//! Pages of the manual about what is no program of this binary: drbd(8), the service, and drbddisk(8).

use super::page::Page;

/// drbd(8).
pub fn drbd() -> Page {
    let mut page = Page::new("drbd", 8, "starts and stops mirrored devices at boot and shutdown");
    page.heading("SYNOPSIS");
    page.text("`/etc/init.d/drbd` {`start` | `stop` | `status` | `reload` | `restart` | `force-reload`}");
    page.heading("DESCRIPTION");
    page.text(
        "The init script of drbdbox. Hosts with systemd can have units instead, a service for each resource.",
    );
    page.item(
        "`start`",
        "Starts the daemon, drbdd(8), configures what drbd.conf(5) says, waits for the peer as its section startup says, and makes Primary \
         what `become-primary-on` names.",
    );
    page.item(
        "`stop`",
        "Unmounts what is mounted from the devices, makes them Secondary, takes them down and ends the daemon. A file system that is still in use is \
         remounted read-only and stays, with its device and the daemon, unless `KILL_USERS=yes` ends the processes that use it.",
    );
    page.item("`status`", "Prints a table of the devices.");
    page.item("`reload`", "Compares the configuration with what is running, and makes them equal.");
    page.item("`restart`, `force-reload`", "Does `stop`, then `start`.");
    page.heading("EXIT STATUS");
    page.text("0 done; 1 a wrong word; 3 with `status`: no daemon runs; 5 the tools are missing; 20 the daemon or a resource does not start.");
    page.heading("FILES");
    page.item("`/etc/default/drbd`", "Settings of the script: `DRBDD_OPTIONS`, `START_TIMEOUT`, `STOP_TIMEOUT`, `KILL_USERS`, `UDEV_TIMEOUT`.");
    page.item(
        "`/run/drbd/proc`",
        "The text that a kernel module would have in /proc/drbd; `drbdsetup proc` prints it, too.",
    );
    page.heading("NOTES");
    page.text(
        "drbdbox does what DRBD does, without a kernel module. The device `/dev/drbd0` is a node with the numbers of an nbd device, or of a loop device, \
         of the kernel. While a host is Secondary nothing is behind it, and it cannot be opened.",
    );
    page.see_also(super::ALL);
    page
}

/// drbddisk(8).
pub fn drbddisk() -> Page {
    let mut page = Page::new("drbddisk", 8, "makes a resource Primary where Heartbeat wants it");
    page.heading("SYNOPSIS");
    page.text("`/etc/ha.d/resource.d/drbddisk` [RESOURCE] {`start` | `stop` | `status`}");
    page.heading("DESCRIPTION");
    page.text("In haresources of Heartbeat, as `drbddisk::r0`. Without a RESOURCE it means all of them.");
    page.item("`start`", "Makes the resource Primary; tries six times.");
    page.item("`stop`", "Makes it Secondary; tries three times.");
    page.item("`status`", "Prints `running` or `stopped`, with the role.");
    page.heading("EXIT STATUS");
    page.text("0 done, or Primary; 1 failed, or a wrong word; 3 Secondary or not configured; 4 the role is not known; 10 no RESOURCE behind `status`.");
    page.see_also(super::ALL);
    page
}
