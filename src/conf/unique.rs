//! What may be used only once: sections, minors, disks, addresses. spec/config.md 10.

use std::collections::HashMap;

/// Keys and where each was first used.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    first_use: HashMap<String, (String, u32)>,
}

impl Registry {
    /// Registers a key of a kind such as `device-minor` at a place.
    ///
    /// # Errors
    /// The two lines to print if the key is taken.
    pub fn register(&mut self, what: &str, key: &str, file: &str, line: u32) -> Result<(), String> {
        if let Some((first_file, first_line)) = self.first_use.get(key) {
            return Err(format!(
                "{file}:{line}: conflicting use of {what} '{key}' ...\n\
                 {first_file}:{first_line}: {what} '{key}' first used here.\n"
            ));
        }
        self.first_use.insert(key.to_string(), (file.to_string(), line));
        Ok(())
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.first_use.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first_use.is_empty()
    }

    /// `FILE:LINE` where a key was registered.
    pub fn place(&self, key: &str) -> Option<String> {
        self.first_use.get(key).map(|(file, line)| format!("{file}:{line}"))
    }
}

/// Whether an address is unique per host only. spec/config.md 10: exactly these two.
pub fn is_loopback(address: &str) -> bool {
    address == "127.0.0.1" || address == "::1"
}
