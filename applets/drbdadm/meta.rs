//! Commands of drbdmeta, and those that ask drbdsetup first. spec/drbdadm.md 5.3, 5.4, 13.1.

use drbdbox::sys::child::Stream;

use super::exec::{Manner, Program};
use super::session::{words, Exit, Session};
use super::table::Limit;

/// Refused by the state of the device, or no up-to-date disk: final answers of drbdsetup.
const FINAL: [u8; 2] = [11, 17];
/// Most bytes of drbdsetup's complaint that are kept.
const CAUGHT_MAX: usize = 4096;

impl Session {
    /// `MIN v08 MD MIDX CMD`
    fn meta_words(&self, at: usize, volume: usize, command: &str) -> Result<Vec<String>, Exit> {
        let minor = self.minor(at, volume)?;
        let volume = self.volume(at, volume)?;
        Ok(words([&minor, "v08", volume.meta_device(), volume.meta_index_for_drbdmeta(), command]))
    }

    /// A command of drbdmeta with the pass-through words.
    pub fn meta_command(&self, at: usize, volume: usize, command: &str) -> Result<u8, Exit> {
        let call = self.with_pass_through(self.meta_words(at, volume, command)?);
        let name = &self.resource(at).name;
        let manner = Manner::default();
        Ok(self.call(Program::Drbdmeta, &call, name, Limit::Verbose, manner)?.0)
    }

    /// The step before 8.4's attach. Options typed for drbdsetup are none of drbdmeta's.
    pub fn apply_al(&self, at: usize, volume: usize) -> Result<u8, Exit> {
        let mut call = self.meta_words(at, volume, "apply-al")?;
        let typed = self.options.typed.len();
        let before = self.options.pass_through.len().saturating_sub(typed);
        call.extend_from_slice(&self.options.pass_through[..before]);
        let name = &self.resource(at).name;
        let manner = Manner::default();
        Ok(self.call(Program::Drbdmeta, &call, name, Limit::Verbose, manner)?.0)
    }

    /// dump-md, wipe-md, set-gi, apply-al.
    pub fn meta(&mut self, at: usize, volume: usize) -> Result<u8, Exit> {
        self.meta_command(at, volume, self.command.name)
    }

    /// invalidate, dstate, show-gi, get-gi.
    pub fn setup_then_meta(&mut self, at: usize, volume: usize) -> Result<u8, Exit> {
        let command = self.command.name;
        let call = self.with_pass_through(self.on_minor(at, volume, command)?);
        let manner = Manner { stderr: Stream::Catch, ..Manner::default() };
        let name = &self.resource(at).name;
        let (result, mut caught) = self.call(Program::Drbdsetup, &call, name, Limit::Short, manner)?;
        if FINAL.contains(&result) {
            caught.truncate(CAUGHT_MAX);
            self.complain(&drbdbox::conf::text::from_bytes(&caught));
            return Ok(result);
        }
        if result == 0 && self.options.dry_run == 0 {
            return Ok(0);
        }
        self.meta_command(at, volume, command)
    }

    pub fn outdate(&mut self, at: usize, volume: usize) -> Result<u8, Exit> {
        let call = self.with_pass_through(self.on_minor(at, volume, "outdate")?);
        let manner = Manner { stderr: Stream::Null, ..Manner::default() };
        let name = &self.resource(at).name;
        let (result, _) = self.call(Program::Drbdsetup, &call, name, Limit::Short, manner)?;
        match result {
            17 => Ok(17),
            0 if self.options.dry_run == 0 => Ok(0),
            5 => Ok(match self.meta_command(at, volume, "outdate")? {
                0 => 0,
                _ => 5,
            }),
            _ => self.meta_command(at, volume, "outdate"),
        }
    }

    /// Makes meta data; a device uuid that is there is kept.
    pub fn create_md(&mut self, at: usize, volume: usize) -> Result<u8, Exit> {
        let name = self.resource(at).name.clone();
        let mut uuid = 0;
        if self.options.dry_run == 0 {
            let call = self.with_pass_through(self.meta_words(at, volume, "read-dev-uuid")?);
            let manner = Manner { stdout: Stream::Catch, stderr: Stream::Null, ..Manner::default() };
            let (_, output) = self.call(Program::Drbdmeta, &call, &name, Limit::Short, manner)?;
            uuid = hexadecimal(&output);
        }
        let result = self.meta_command(at, volume, "create-md")?;
        if result != 0 || self.options.dry_run > 0 {
            return Ok(result);
        }
        if uuid == 0 {
            uuid = random().unwrap_or(1);
        }
        let mut call = self.meta_words(at, volume, "write-dev-uuid")?;
        call.push(format!("{uuid:016X}"));
        let manner = Manner::default();
        self.call(Program::Drbdmeta, &call, &name, Limit::Verbose, manner)?;
        Ok(result)
    }
}

/// The number at the start of a text; 0 without any.
fn hexadecimal(bytes: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start();
    let text = text.strip_prefix("0x").unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(text.len()).min(16);
    u64::from_str_radix(&text[..end], 16).unwrap_or(0)
}

/// A random number that is not 0.
fn random() -> Option<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes).max(1))
}

#[cfg(test)]
mod tests {
    use super::hexadecimal;

    #[test]
    fn numbers_of_read_dev_uuid() {
        assert_eq!(hexadecimal(b"00000000000012AB\n"), 0x12ab);
        assert_eq!(hexadecimal(b""), 0);
        assert_eq!(hexadecimal("é".as_bytes()), 0);
    }
}
