//! Names with `*`, `?` and `[ ]`, as glob(3) expands them without flags. spec/config.md 4.

use std::path::Path;

/// Most names that one pattern may expand to.
const NAMES_MAX: usize = 100_000;
/// Most folders that are read for one pattern: `/*/*/*/*` must not walk through all file systems.
const FOLDERS_MAX: usize = 10_000;

/// Whether a name has something to expand.
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// The existing files that `pattern` means, sorted by bytes, spelt as in the pattern: relative ones
/// are relative to `directory`.
pub fn expand(directory: &Path, pattern: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut rest = pattern;
    let mut folders = 0;
    while !rest.is_empty() {
        let slashes = rest.len() - rest.trim_start_matches('/').len();
        let (lead, tail) = rest.split_at(slashes);
        let end = tail.find('/').unwrap_or(tail.len());
        let (component, next) = tail.split_at(end);
        rest = next;
        let mut grown = Vec::new();
        for base in found {
            let base = format!("{base}{lead}");
            if component.is_empty() {
                grown.push(base);
            } else if is_pattern(component) {
                folders += 1;
                if folders > FOLDERS_MAX {
                    return Vec::new();
                }
                grown.extend(matching(directory, &base, component));
            } else {
                grown.push(format!("{base}{}", unescape(component)));
            }
            if grown.len() > NAMES_MAX {
                return Vec::new();
            }
        }
        found = grown;
    }
    found.retain(|name| !name.is_empty() && directory.join(name).symlink_metadata().is_ok());
    found.sort_unstable();
    found
}

fn matching(directory: &Path, base: &str, component: &str) -> Vec<String> {
    let place = if base.is_empty() { directory.to_path_buf() } else { directory.join(base) };
    let Ok(entries) = std::fs::read_dir(place) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with('.') <= component.starts_with('.'))
        .filter(|name| matches(component.as_bytes(), name.as_bytes()))
        .map(|name| format!("{base}{name}"))
        .collect()
}

fn unescape(component: &str) -> String {
    let mut text = String::new();
    let mut chars = component.chars();
    while let Some(c) = chars.next() {
        text.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    text
}

/// Whether a name matches; linear in pattern times name, without recursion.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on if what follows the last star does not fit.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p + 1, n));
            p += 1;
            continue;
        }
        if p == pattern.len() && n == name.len() {
            return true;
        }
        let step = match (pattern.get(p), name.get(n)) {
            (Some(_), Some(byte)) => one(&pattern[p..], *byte),
            _ => None,
        };
        match (step, &mut retry) {
            (Some(length), _) => {
                p += length;
                n += 1;
            }
            (None, Some((after_star, from))) if *from < name.len() => {
                *from += 1;
                (p, n) = (*after_star, *from);
            }
            _ => return false,
        }
    }
}

/// Matches one byte against the first element of a pattern: the element's length if it fits.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern[0] {
        b'?' => Some(1),
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        b'[' => match set(pattern, byte) {
            Some((length, fits)) => fits.then_some(length),
            None => (byte == b'[').then_some(1),
        },
        literal => (literal == byte).then_some(1),
    }
}

/// `[abc]`, `[a-z]`, `[!a]`: its length and whether the byte is in it. None: no closing bracket.
fn set(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let start = if negated { 2 } else { 1 };
    let close = pattern.iter().skip(start + 1).position(|b| *b == b']')? + start + 1;
    let members = &pattern[start..close];
    let mut inside = false;
    let mut i = 0;
    while i < members.len() {
        if i + 2 < members.len() && members[i + 1] == b'-' {
            inside |= (members[i]..=members[i + 2]).contains(&byte);
            i += 3;
        } else {
            inside |= members[i] == byte;
            i += 1;
        }
    }
    Some((close + 1, inside != negated))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_patterns() {
        for (pattern, name, fits) in [
            ("*.res", "r0.res", true),
            ("*.res", "r0.conf", false),
            ("r?.res", "r0.res", true),
            ("r[0-2].res", "r1.res", true),
            ("r[!0-2].res", "r1.res", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("[", "[", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
        ] {
            let found = matches(pattern.as_bytes(), name.as_bytes());
            assert_eq!(found, fits, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_end_soon() {
        let pattern = "*a".repeat(40);
        assert!(!matches(pattern.as_bytes(), "b".repeat(4000).as_bytes()));
    }

    /// 20 folders with 20 each, seven levels deep by a link to the first: more than anybody waits for.
    #[test]
    fn a_pattern_that_grows_without_end_is_given_up() {
        let directory = tempfile::tempdir().expect("a directory");
        for number in 0..20 {
            let folder = directory.path().join(format!("d{number}"));
            std::fs::create_dir(&folder).expect("made");
            std::os::unix::fs::symlink(directory.path(), folder.join("up")).expect("link");
        }
        assert_eq!(expand(directory.path(), "*/up/*").len(), 20 * 20);
        assert_eq!(expand(directory.path(), &"*/up/".repeat(20)), [""; 0]);
    }

    #[test]
    fn names_are_sorted_and_hidden_ones_left_out() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("d")).expect("made");
        for name in ["d/b.res", "d/a.res", "d/.c.res", "d/a.conf"] {
            std::fs::write(directory.path().join(name), "").expect("written");
        }
        assert_eq!(expand(directory.path(), "d/*.res"), ["d/a.res", "d/b.res"]);
        assert_eq!(expand(directory.path(), "*/a.conf"), ["d/a.conf"]);
        assert_eq!(expand(directory.path(), "nothing"), [""; 0]);
    }
}
