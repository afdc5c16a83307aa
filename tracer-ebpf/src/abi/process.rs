//! Processes that came, changed or went.

use super::{Header, ProgramKey};

/// Tag of [`Process`].
pub const PROCESS: u16 = 7;

/// A followed process forked `header.pid`, which is followed since.
pub const FORKED: u32 = 1;
/// `header.pid` executed a program.
pub const EXECUTED: u32 = 2;
/// `header.pid` ended.
pub const EXITED: u32 = 3;
/// A process that executed a program of late, which may turn out to be nginx, forked `header.pid`.
pub const YOUNG_FORKED: u32 = 4;
/// There is no place to follow `header.pid`: its family has used up its quota, or all places are
/// taken.
pub const REFUSED: u32 = 5;

/// In [`Process::value`] of one that was executed: it is followed since, as its program is known.
pub const FOLLOWED: u32 = 1;
/// It was followed before, as what forked it was.
pub const WAS_FOLLOWED: u32 = 2;

/// A process came, changed or went.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Tag [`PROCESS`].
    pub header: Header,
    /// `FORKED`, `EXECUTED`, `EXITED`, `YOUNG_FORKED` or `REFUSED`.
    pub kind: u32,
    /// `FORKED`, `YOUNG_FORKED`, `REFUSED`: the parent; `EXITED`: `task_struct.exit_code`;
    /// `EXECUTED`: [`FOLLOWED`] or [`WAS_FOLLOWED`] or neither.
    pub value: u32,
    /// What it runs; of `EXECUTED` alone.
    pub program: ProgramKey,
}
