//! `drbdbox man`: the pages of the manual, made of the tables that the programs themselves use.
//!
//! `man` lists them, `man PAGE` prints one as roff, `man --install DIRECTORY` writes all of them below it, as `man8/drbdadm.8`.

mod drbd_conf;
pub mod page;
mod service;

use page::Page;
use std::io;
use std::path::Path;

/// Everything that is in `SEE ALSO`.
pub const ALL: &[&str] = &[
    "drbd.conf(5)",
    "drbd(8)",
    "drbd-overview(8)",
    "drbdadm(8)",
    "drbdd(8)",
    "drbddisk(8)",
    "drbdmeta(8)",
    "drbdsetup(8)",
];

/// Every page.
fn pages() -> Vec<Page> {
    let programs = crate::APPLETS.iter().map(|applet| (applet.manual)());
    programs.chain([drbd_conf::page(), service::drbd(), service::drbddisk()]).collect()
}

/// `drbdbox man ...`; `words` is what follows. Returns the exit status.
pub fn main(words: &[&str]) -> u8 {
    match words {
        [] => {
            let names = pages().into_iter().map(|page| page.file_name() + "\n");
            crate::out(&names.collect::<String>());
        }
        ["--install", directory] => {
            if let Err(error) = install(Path::new(directory)) {
                eprintln!("drbdbox man --install: {directory}: {error}");
                return 1;
            }
        }
        [name] => match pages().into_iter().find(|page| page.name == *name || page.file_name() == *name) {
            Some(page) => crate::out(&page.finish()),
            None => {
                eprintln!("drbdbox man: no page '{name}'; 'drbdbox man' lists them");
                return 1;
            }
        },
        _ => {
            eprintln!("drbdbox man: one page at a time: drbdbox man [PAGE | --install DIRECTORY]");
            return 1;
        }
    }
    0
}

fn install(directory: &Path) -> io::Result<()> {
    for page in pages() {
        let directory = directory.join(format!("man{}", page.section));
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(page.file_name()), page.finish())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use drbdbox::conf::options::{self, Scope};

    #[test]
    fn every_page_is_named_in_the_others_and_names_others() {
        for page in pages() {
            let name = format!("{}({})", page.name, page.section);
            assert!(ALL.contains(&name.as_str()), "{name}");
            assert!(page.finish().contains(".SH \"SEE ALSO\""), "{name}");
        }
        assert_eq!(pages().len(), ALL.len());
    }

    #[test]
    fn every_option_of_the_table_is_in_drbd_conf_5() {
        let text = drbd_conf::page().finish();
        // As one line, so that it does not matter where lines end.
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("\\-", "-");
        for row in options::all().iter().filter(|row| row.scope != Scope::OneShot) {
            let name = row.name.replace('-', "\\-");
            assert!(text.contains(&format!(".TP\n\\fB{name}\\fR")), "{}", row.name);
            // The first word may have got a capital letter.
            let (_, help) = row.help.split_once(' ').unwrap_or_default();
            assert!(flat.contains(help), "{}", row.name);
        }
    }
}
