//! What happens to processes of nginx's, and to such as may turn out to be: who is followed depends
//! on it, no verdict.

use tracer_ebpf::abi::{Members, ProgramKey};

use super::{Process, ProcessKind, Time};

/// Something happened to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// Its pid on the host.
    pub pid: u32,
    /// When.
    pub at: Time,
    /// What.
    pub kind: LifeKind,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LifeKind {
    /// A followed process forked it; it is followed since.
    Forked {
        /// Who did.
        parent: u32,
    },
    /// It executed a program.
    Executed {
        /// The program's file.
        program: ProgramKey,
        /// It is followed since: the program is known to be nginx.
        is_followed: bool,
        /// It was followed before.
        was_followed: bool,
    },
    /// It was followed, and ended.
    Exited {
        /// `task_struct.exit_code`: signal in the low 7 bits, exit code above 8.
        code: u32,
    },
    /// Who executed a program of late, not known to be nginx, forked it.
    YoungForked {
        /// Who did.
        parent: u32,
    },
    /// Its memory showed members of nginx's objects elsewhere than they were expected.
    Layout {
        /// Where its version and build have them; unknown of a build that was never looked at.
        expected: Members,
        /// Where they are; unknown if its memory does not show it.
        shown: Members,
    },
    /// It should be followed, and there is no place.
    Refused {
        /// Who forked it, or itself.
        parent: u32,
    },
}

impl Life {
    /// What of it is an event.
    #[must_use]
    pub(crate) fn event(&self) -> Option<Process> {
        let kind = match self.kind {
            LifeKind::Forked { parent } => ProcessKind::Forked { master: parent },
            LifeKind::Exited { code } => ProcessKind::Exited { code },
            _ => return None,
        };
        Some(Process {
            at: self.at,
            pid: self.pid,
            kind,
        })
    }
}
