//! Page of the manual: drbd-overview(8).

use crate::man::{self, page::Page};

/// The page.
pub fn page() -> Page {
    let mut page = Page::new("drbd-overview", 8, crate::about("drbd-overview"));
    page.heading("SYNOPSIS");
    page.text("`drbd-overview` [`--proc-drbd` FILE] [`-d`]");
    page.heading("DESCRIPTION");
    page.text(
        "Prints a line for each replicated device: minor and resource, connection state, roles, disk states, protocol and flags, \
         and what uses the device: a mounted file system with its size, or a physical volume of LVM. A second line shows how far \
         a running resync is. On a terminal there are colours, unless `NO_COLOR` is set.",
    );
    page.heading("OPTIONS");
    page.item(
        "`--proc-drbd` FILE",
        "Read FILE instead of asking the daemon. It has the form of `/run/drbd/proc`.",
    );
    page.item("`-d`", "Show what the programs that are called (drbdadm, df, pvs) write to standard error.");
    page.heading("EXIT STATUS");
    page.text("0, also if no daemon runs; 1 for an unknown option.");
    page.see_also(man::ALL);
    page
}
