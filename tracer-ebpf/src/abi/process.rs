//! Processes that came, changed or went.

use super::Header;

/// Tag of [`Process`].
pub const PROCESS: u16 = 7;

/// A master forked `header.pid`.
pub const FORKED: u32 = 1;
/// `header.pid` executed a program.
pub const EXECUTED: u32 = 2;
/// `header.pid` ended.
pub const EXITED: u32 = 3;

/// A process came, changed or went.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Tag [`PROCESS`].
    pub header: Header,
    /// `FORKED`, `EXECUTED` or `EXITED`.
    pub kind: u32,
    /// `FORKED`: the master; `EXITED`: `task_struct.exit_code`.
    pub value: u32,
}
