//! Which configuration file a minor was configured with: links for handlers and sh-udev.
//! spec/drbdadm.md 10, spec/decisions.md 4, 5.3.

use std::io::{BufRead, Write};
use std::os::unix::fs::{symlink, DirBuilderExt};
use std::path::Path;

use drbdbox::conf::files::STANDARD_INPUT;
use drbdbox::conf::Dialect;
use drbdbox::sys::child::Stream;
use drbdbox::sys::paths;

use super::exec::{Manner, Program};
use super::session::{Exit, Session, EXIT_USAGE};
use super::table::{Action, Limit};

/// Largest minor that 8.3 registers.
const MINOR_MAX_83: u32 = 255;

impl Session {
    /// Runs a command on a resource within 8.3's registration check. `registers`: write the link
    /// after success; else only look.
    ///
    /// # Errors
    /// The user refused, or the command ends the program.
    pub fn framed(
        &mut self,
        at: usize,
        registers: bool,
        run: impl FnOnce(&mut Session) -> Result<u8, Exit>,
    ) -> Result<u8, Exit> {
        let looks = self.dialect() == Dialect::V83
            && self.options.dry_run == 0
            && self.config.file.display != STANDARD_INPUT
            && !self.resource(at).ignored
            && !self.command.is_dump()
            // The daemon waits for a handler: it is not to be asked back for a link that it has itself.
            && self.command.action != Action::Handler;
        if !looks {
            return run(self);
        }
        let wanted = self.look_at_registration(at)?;
        let result = run(self)?;
        if result == 0 && wanted && registers {
            let minor = self.volume(at, 0)?.minor.unwrap_or(0);
            if self.is_unconfigured(at)? {
                let _ = std::fs::remove_file(paths::minor_conf_83(minor));
            } else if minor > MINOR_MAX_83 {
                self.complain(&format!("register_minor: minor too big ({minor}).\n"));
            } else {
                self.link(&paths::minor_conf_83(minor));
            }
        }
        Ok(result)
    }

    /// Whether the current file is to be registered after success.
    fn look_at_registration(&mut self, at: usize) -> Result<bool, Exit> {
        let minor = self.volume(at, 0)?.minor.unwrap_or(0);
        let link = paths::minor_conf_83(minor);
        if self.is_unconfigured(at)? {
            let _ = std::fs::remove_file(link);
            return Ok(true);
        }
        let Ok(registered) = std::fs::read_link(&link) else {
            return Ok(true);
        };
        let current = self.config.file.absolute.clone();
        if registered == Path::new(&current) {
            return Ok(false);
        }
        self.complain(&format!(
            "Warning: resource {}\nlast used config file: {}\n  current config file: {current}\n",
            self.resource(at).name,
            registered.display()
        ));
        if !self.confirmed("Do you want to proceed and register the current config file?") {
            self.print("Operation canceled.\n");
            return Err(Exit(EXIT_USAGE));
        }
        Ok(true)
    }

    /// Asks; yes with `--force` and without a terminal.
    fn confirmed(&self, question: &str) -> bool {
        if self.options.force || self.no_terminal {
            self.print("\n*** confirmation forced via --force option ***\n");
            return true;
        }
        self.print(&format!("\n{question}\n[need to type 'yes' to confirm] "));
        let _ = std::io::stdout().flush();
        let mut answer = String::new();
        let _ = std::io::stdin().lock().read_line(&mut answer);
        self.print("\n");
        answer.trim_end() == "yes"
    }

    fn is_unconfigured(&self, at: usize) -> Result<bool, Exit> {
        let mut words = vec![self.minor(at, 0)?, "role".to_string()];
        words.extend_from_slice(&self.options.pass_through);
        let manner = Manner { stdout: Stream::Catch, stderr: Stream::Null, always: true };
        let name = &self.resource(at).name;
        let (_, output) = self.call(Program::Drbdsetup, &words, name, Limit::Short, manner)?;
        Ok(output.is_empty() || output.starts_with(b"Unconfigured"))
    }

    /// 8.4: after new-minor and new-resource.
    pub fn register_84(&self, link: &Path) {
        let from_standard_input = self.config.file.display == STANDARD_INPUT;
        let file = Path::new(&self.config.file.absolute);
        if self.options.dry_run == 0 && !from_standard_input && !file.starts_with(paths::rundir()) {
            self.link(link);
        }
    }

    /// A link that cannot be written is worth a line, not a failure.
    fn link(&self, link: &Path) {
        let target = Path::new(&self.config.file.absolute);
        if std::fs::read_link(link).is_ok_and(|old| old == target) {
            return;
        }
        if let Some(directory) = link.parent() {
            let _ = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory);
        }
        let _ = std::fs::remove_file(link);
        if let Err(error) = symlink(target, link) {
            self.complain(&format!("symlink({}): {error}\n", link.display()));
        }
    }
}

/// The file that was registered for a minor or a resource: RUNDIR, then LIBDIR.
pub fn registered_file(object: &str) -> Option<String> {
    let links = match object.strip_prefix("minor-").and_then(|m| m.parse().ok()) {
        Some(minor) => vec![paths::minor_conf_84(minor), paths::minor_conf_83(minor)],
        // A name with a slash would leave the directory.
        None if object.contains('/') => Vec::new(),
        None => vec![paths::resource_conf_84(object)],
    };
    links
        .iter()
        .filter_map(|link| std::fs::read_link(link).ok())
        .find(|file| file.exists())
        .map(|file| file.to_string_lossy().into_owned())
}
