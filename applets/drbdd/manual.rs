//! Page of the manual: drbdd(8), made of the text of `--help`.

use super::options;
use crate::man::{
    self,
    page::{sentence, Page},
};

/// The page.
pub fn page() -> Page {
    let mut page = Page::new("drbdd", 8, crate::about("drbdd"));
    page.heading("SYNOPSIS");
    page.text("`drbdd` [OPTION...]");
    let help = options::help();
    let mut items: Vec<(String, String)> = Vec::new();
    let (mut texts, mut notes) = (String::new(), String::new());
    let mut part = "";
    for line in help.lines() {
        match (part, line) {
            (_, "Options:") => part = "options",
            (_, "Notes:") => part = "notes",
            ("notes", line) => notes += &format!("{line}\n"),
            ("options", line) => take_option(&mut items, line),
            (_, line) if line.starts_with("Usage:") => {}
            (_, line) => texts += &format!("{line}\n"),
        }
    }
    page.heading("DESCRIPTION");
    page.text(&texts);
    page.heading("OPTIONS");
    for (option, text) in items {
        page.item(&option, &sentence(&text));
    }
    page.heading("FILES");
    page.text(notes.trim().trim_start_matches("Files: "));
    page.item(
        "`/etc/default/drbd`",
        "`DRBDD_OPTIONS` are the options that the init script and the units give to it.",
    );
    page.heading("ENVIRONMENT");
    page.item(
        "`DRBDBOX_RUNDIR`, `DRBDBOX_LIBDIR`, `DRBDBOX_LOCKDIR`",
        "Other directories than /run/drbd, /var/lib/drbd and /var/lock.",
    );
    page.heading("SIGNALS");
    page.text("`SIGTERM` and `SIGINT` are described above; `SIGHUP` is ignored.");
    page.heading("EXIT STATUS");
    page.text("0 after an orderly end, 1 if it could not start, 2 for wrong options.");
    page.see_also(man::ALL);
    page
}

/// `  --name text`, or the text of a line that goes on.
fn take_option(items: &mut Vec<(String, String)>, line: &str) {
    let (word, text) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    match items.last_mut() {
        _ if word.starts_with("--help") => {
            items.push(("`--help`".to_string(), "Print a summary.".to_string()))
        }
        _ if word.starts_with("--") => items.push((format!("`{word}`"), text.trim().to_string())),
        Some((option, more)) if option != "`--help`" => {
            more.push(' ');
            *more += line.trim();
        }
        _ => {}
    }
}
