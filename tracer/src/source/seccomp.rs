//! System calls that tracer never makes once its hooks are attached, refused by the kernel from
//! then on (`EPERM`): whoever made a parser of hostile bytes run code of theirs could not execute a
//! program, open namespaces or load a module.
//!
//! A list of what is refused, not of what is allowed: the C libraries' own calls differ by version.
//! Not on it: `bpf`, `perf_event_open` and `setns`, which a later nginx needs; the last is of no
//! use to threads without `CAP_SYS_ADMIN`. A kernel without seccomp refuses the filter; tracer goes
//! on without, and `tracer doctor` reports it.

use std::{collections::BTreeMap, thread};

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter, apply_filter_all_threads,
};

/// Refused whatever their arguments.
const REFUSED: &[i64] = &[
    // Another program, or a look into one otherwise than through /proc.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_personality,
    // Namespaces, roots and mounts.
    libc::SYS_unshare,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_vhangup,
    // Parts of it that are often attacked and that tracer has no use for.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
];

/// The x32 calls of a 64-bit x86 kernel: the same numbers with this bit, and some of their own
/// (arch/x86/entry/syscalls/syscall_64.tbl).
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;
#[cfg(target_arch = "x86_64")]
const OWN_X32: &[i64] = &[
    // execve, ptrace, kexec_load, process_vm_readv, process_vm_writev, execveat
    520, 521, 528, 539, 540, 545,
];

/// The filters, compiled; allocated before they are needed.
#[derive(Debug)]
pub(super) struct Filters {
    refusing: BpfProgram,
    /// glibc starts threads by `clone` where `clone3` is not there, and its flags can be looked at.
    without_clone3: BpfProgram,
}

impl Filters {
    pub(super) fn new() -> Result<Self, Error> {
        let refused = SeccompAction::Errno(libc::EPERM as u32);
        let absent = SeccompAction::Errno(libc::ENOSYS as u32);
        let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
        Ok(Self {
            refusing: compile(refusing()?, refused)?,
            without_clone3: compile(clone3, absent)?,
        })
    }

    /// For every thread that there is and that these start. It cannot be undone.
    pub(super) fn apply(&self) -> Result<(), Error> {
        apply_filter_all_threads(&self.without_clone3)?;
        apply_filter_all_threads(&self.refusing)
    }

    /// For the calling thread.
    fn apply_here(&self) -> Result<(), Error> {
        apply_filter(&self.without_clone3)?;
        apply_filter(&self.refusing)
    }
}

/// Whether this kernel takes the filters: tried on a thread that ends.
///
/// # Errors
/// Why not.
pub(crate) fn try_seccomp() -> Result<(), Error> {
    let filters = Filters::new()?;
    thread::scope(|scope| {
        let tried = scope.spawn(|| filters.apply_here()).join();
        tried.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn refusing() -> Result<BTreeMap<i64, Vec<SeccompRule>>, Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|&call| (call, Vec::new())).collect();
    // A thread is started, never a process: a process could get a user namespace, and all
    // capabilities in it.
    let thread = libc::CLONE_THREAD as u64;
    let no_thread = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(thread),
        0,
    )?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![no_thread])?]);
    #[cfg(target_arch = "x86_64")]
    {
        let own = OWN_X32.iter().map(|call| (call | X32, Vec::new()));
        let same = rules.clone();
        let same = same.into_iter().map(|(call, rules)| (call | X32, rules));
        rules.extend(own.chain(same));
        rules.insert(libc::SYS_clone3 | X32, Vec::new());
    }
    Ok(rules)
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    action: SeccompAction,
) -> Result<BpfProgram, Error> {
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, machine)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use super::*;

    /// Calls that the filter refuses, with arguments by which they do nothing where it is not
    /// there: null pointers, no descriptor, no process, no flags; `clone` with flags that exclude
    /// each other.
    const CALLS: [(&str, i64, [i64; 5]); 14] = [
        ("execve", libc::SYS_execve, [0; 5]),
        ("execveat", libc::SYS_execveat, [-1, 0, 0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [2, NOBODY, 0, 0, 0]),
        ("writev", libc::SYS_process_vm_writev, [NOBODY, 0, 0, 0, 0]),
        ("unshare", libc::SYS_unshare, [0; 5]),
        ("chroot", libc::SYS_chroot, [0; 5]),
        ("mount", libc::SYS_mount, [0; 5]),
        ("umount2", libc::SYS_umount2, [0; 5]),
        ("init_module", libc::SYS_init_module, [0; 5]),
        ("finit_module", libc::SYS_finit_module, [-1, 0, 0, 0, 0]),
        ("add_key", libc::SYS_add_key, [0; 5]),
        ("open_by", libc::SYS_open_by_handle_at, [-1, 0, 0, 0, 0]),
        (
            "personality",
            libc::SYS_personality,
            [0xffff_ffff, 0, 0, 0, 0],
        ),
        (
            "clone",
            libc::SYS_clone,
            [libc::CLONE_SIGHAND as i64, 0, 0, 0, 0],
        ),
    ];
    const NOBODY: i64 = i32::MAX as i64;

    fn error_of(call: i64, with: [i64; 5]) -> Option<i32> {
        // SAFETY: nothing of ours is pointed to, and the arguments change nothing.
        let answer = unsafe { libc::syscall(call, with[0], with[1], with[2], with[3], with[4]) };
        let error = io::Error::last_os_error().raw_os_error();
        error.filter(|_| answer == -1)
    }

    /// The names of those that the kernel refuses with `EPERM`.
    fn refused() -> Vec<&'static str> {
        let calls = CALLS.iter();
        let refused = calls.filter(|(_, call, with)| error_of(*call, *with) == Some(libc::EPERM));
        refused.map(|(name, ..)| *name).collect()
    }

    /// What a thread finds refused under the filters, and what it can do.
    #[test]
    fn what_tracer_never_does_is_refused_and_what_it_does_is_not() {
        let filters = Filters::new().unwrap();
        let before = refused();
        let after = thread::spawn(move || {
            filters.apply_here().unwrap();
            // A thread of its own, and what hooks and namespaces need.
            assert_eq!(thread::spawn(|| 7).join().unwrap(), 7);
            assert!(!fs::read("/proc/self/status").unwrap().is_empty());
            let calls = [libc::SYS_setns, libc::SYS_bpf, libc::SYS_perf_event_open];
            for call in calls {
                let error = error_of(call, [-1, 0, 0, -1, 0]);
                assert!(!matches!(error, None | Some(libc::ENOSYS)), "{call}");
            }
            refused()
        });
        let after = after.join().unwrap();
        let all: Vec<&str> = CALLS.iter().map(|(name, ..)| *name).collect();
        assert_eq!(after, all);
        assert!(before.len() < all.len() / 2, "{before:?}");
    }

    #[test]
    fn this_kernel_takes_the_filters_and_the_caller_has_none() {
        try_seccomp().unwrap();
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(!status.contains("Seccomp:\t2"));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn no_call_is_open_by_its_x32_number() {
        let rules = refusing().unwrap();
        for call in REFUSED {
            assert!(rules.contains_key(&(call | X32)), "{call}");
        }
        assert!(rules.contains_key(&(545 | X32)));
    }
}
