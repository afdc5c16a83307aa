//! Runs of our programs that the kernel skipped, as it counts them
//! (`bpf_prog_info.recursion_misses`).
//!
//! A program does not run on a CPU where it runs already: an interrupt's packet came in the middle
//! of it, or, where tracepoints can be preempted (7.x), another task's. What that run would have
//! reported is missing. The kernel counts such runs of trampolines since 5.12, of tracepoints since
//! 6.1, of breakpoints since 6.7; trampolines and tracepoints of earlier kernels skip none. nginx's
//! own functions can not interrupt each other on a CPU.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use super::{outcome::Outcome, probes::Probes};

/// `bpf(2)`.
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// `struct bpf_prog_info` of 5.12 as far as it is read, in words; an earlier kernel leaves the last
/// at 0.
const INFO_WORDS: usize = 27;
const RECURSION_MISSES: usize = 26;

/// `union bpf_attr` of that command.
#[repr(C)]
struct Attributes {
    fd: u32,
    len: u32,
    info: u64,
}

impl Probes {
    /// Returns the attached programs that were skipped, and how often since they were loaded.
    pub(crate) fn skipped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let standing = self.outcome.iter();
        let standing = standing.filter(|(_, outcome)| **outcome == Outcome::Attached);
        standing.filter_map(|(&name, _)| {
            let fd = self.loaded(name)?.fd().ok()?;
            let runs = misses(fd.as_fd()).filter(|runs| *runs > 0)?;
            Some((name, runs))
        })
    }
}

/// `None`: the kernel does not say.
fn misses(program: BorrowedFd<'_>) -> Option<u64> {
    let mut info = [0u64; INFO_WORDS];
    let attributes = Attributes {
        fd: program.as_raw_fd().cast_unsigned(),
        len: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the kernel reads the attributes and writes at most `len` bytes to `info`; all else in
    // there is a buffer that is asked for by its own length, 0.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET_INFO_BY_FD,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    (result == 0).then_some(info[RECURSION_MISSES])
}
