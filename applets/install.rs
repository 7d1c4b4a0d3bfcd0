//! `drbdbox --install`: the links by which the applets are called.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Makes a link to this program in `directory` for every name of `names`; replaces what stands there.
///
/// A hard link where the file system allows it, else, or with `symbolic`, a symbolic link to the program's path.
/// Returns the links that were made.
///
/// # Errors
/// The first link that could not be made, with its path.
pub fn install<'a>(
    directory: &Path,
    symbolic: bool,
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<PathBuf>, String> {
    let program =
        std::env::current_exe().map_err(|e| format!("cannot find the path of this program: {e}"))?;
    let mut made = Vec::new();
    for name in names {
        let link = directory.join(name);
        // The program itself must not become a link to itself.
        let itself = std::fs::canonicalize(directory).is_ok_and(|d| d.join(name) == program);
        if itself || (!symbolic && same_file(&program, &link)) {
            continue;
        }
        replace(&program, &link, symbolic).map_err(|e| format!("{}: {e}", link.display()))?;
        made.push(link);
    }
    Ok(made)
}

/// Makes the new link under another name first: at no moment is the applet missing.
fn replace(program: &Path, link: &Path, symbolic: bool) -> io::Result<()> {
    let mut fresh = link.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    if symbolic || std::fs::hard_link(program, &fresh).is_err() {
        symlink(program, &fresh)?;
    }
    let renamed = std::fs::rename(&fresh, link);
    if renamed.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    renamed
}

/// Whether both paths lead to one file by hard link (renaming one over the other would do nothing).
fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (std::fs::symlink_metadata(a), std::fs::symlink_metadata(b)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_replaced_is_named_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("two")).unwrap();
        let error = install(directory.path(), false, ["one", "two"].into_iter()).unwrap_err();
        assert!(error.starts_with(&directory.path().join("two").display().to_string()), "{error}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn links_of_both_kinds_lead_to_this_program() {
        let directory = tempfile::tempdir().unwrap();
        let program = std::fs::canonicalize(std::env::current_exe().unwrap()).unwrap();
        for symbolic in [false, true] {
            // A second round replaces what the first one made.
            for _ in 0..2 {
                install(directory.path(), symbolic, ["one", "two"].into_iter()).unwrap();
                for name in ["one", "two"] {
                    let link = directory.path().join(name);
                    let hard = same_file(&program, &link);
                    assert!(hard || std::fs::canonicalize(&link).unwrap() == program, "{name}");
                    if symbolic {
                        assert!(!hard, "{name} must be a symbolic link");
                    }
                }
            }
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let error = install(Path::new("/nonexistent/here"), true, ["one"].into_iter()).unwrap_err();
        assert!(error.starts_with("/nonexistent/here/one: "), "{error}");
    }
}
