//! Commands that are collected first and executed phase by phase. spec/drbdadm.md 6, 14.3.

use super::session::{Exit, Session};

/// The phases of both dialects; 8.3 uses `Disk`, `Resource` and `Net`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// new-resource, new-minor; adjust: detach, del-minor.
    Create,
    /// 8.3: detach, attach.
    Disk83,
    /// 8.3: syncer. 8.4: resource-options.
    Resource,
    /// adjust: new-minor.
    DiskPrerequisites,
    /// attach, disk-options, resize.
    Disk,
    /// disconnect, proxy.
    NetPrerequisites,
    /// connect, net-options.
    Net,
}

impl Phase {
    const ALL: [Phase; 7] = [
        Phase::Create,
        Phase::Disk83,
        Phase::Resource,
        Phase::DiskPrerequisites,
        Phase::Disk,
        Phase::NetPrerequisites,
        Phase::Net,
    ];

    /// What adjust-with-progress calls it.
    fn title(self) -> &'static str {
        match self {
            Phase::Create => "create res",
            Phase::Resource => "adjust res",
            Phase::DiskPrerequisites => "prepare disk",
            Phase::Disk83 | Phase::Disk => "adjust disk",
            Phase::NetPrerequisites => "prepare net",
            Phase::Net => "adjust net",
        }
    }
}

/// Something to do.
type Job = Box<dyn Fn(&mut Session) -> Result<u8, Exit>>;

/// One command that was put off.
pub struct Deferred {
    pub phase: Phase,
    /// Its name in messages.
    pub name: &'static str,
    /// Place of the resource in the configuration.
    pub resource: usize,
    /// 8.3: framed by the registration check, as a command of its own.
    pub registers: bool,
    pub job: Job,
}

impl Session {
    /// Puts a command off.
    pub fn defer(
        &mut self,
        phase: Phase,
        name: &'static str,
        resource: usize,
        job: impl Fn(&mut Session) -> Result<u8, Exit> + 'static,
    ) {
        self.deferred.push(Deferred { phase, name, resource, registers: true, job: Box::new(job) });
    }

    /// Executes all, phase by phase. A phase with a failure is the last. Returns 1 on failure.
    ///
    /// # Errors
    /// The program ends at once.
    pub fn run_deferred(&mut self, progress: bool) -> Result<u8, Exit> {
        let all = std::mem::take(&mut self.deferred);
        let mut skipped: Vec<usize> = Vec::new();
        let mut failed = false;
        if progress {
            self.print("[");
        }
        for phase in Phase::ALL {
            let mut of_phase = all.iter().filter(|d| d.phase == phase).peekable();
            if of_phase.peek().is_none() {
                continue;
            }
            if progress {
                self.print(&format!("\n{:>15}:", phase.title()));
            }
            for deferred in of_phase {
                let result = self.run_one(deferred, &skipped, progress)?;
                if result != 0 {
                    failed = true;
                    let drops = matches!(phase, Phase::Create | Phase::DiskPrerequisites);
                    if drops && !skipped.contains(&deferred.resource) {
                        skipped.push(deferred.resource);
                    }
                }
            }
            if failed && !progress {
                break;
            }
        }
        if progress {
            self.print("\n]\n");
        }
        Ok(u8::from(failed))
    }

    fn run_one(&mut self, deferred: &Deferred, skipped: &[usize], progress: bool) -> Result<u8, Exit> {
        let name = self.resource(deferred.resource).name.clone();
        if skipped.contains(&deferred.resource) {
            if progress {
                self.print(&format!(" [skipped:{name}]"));
            } else {
                self.complain(&format!(
                    "{}: {} {name}: skipped due to earlier error\n",
                    self.program, deferred.name
                ));
            }
            return Ok(0);
        }
        if progress {
            self.print(&format!(" {name}"));
        }
        let result = self.framed(deferred.resource, deferred.registers, |session| (deferred.job)(session))?;
        if result != 0 && progress {
            self.print(&format!(":failed({}:{result})", deferred.name));
        }
        if result >= 20 && !progress {
            self.complain_of_result(deferred.name, &name, result);
        }
        Ok(result)
    }

    /// 8.3's line about a result of 20 or more.
    pub fn complain_of_result(&self, command: &str, resource: &str, result: u8) {
        if self.dialect() == drbdbox::conf::Dialect::V83 {
            self.complain(&format!("{} {command} {resource}: exited with code {result}\n", self.program));
        }
    }
}
