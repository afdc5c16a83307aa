//! Ways to make an upstream fail for real, one file a part of the kernel that says no.

pub mod apparmor;
mod bpf;
pub mod cgroup;
pub mod firewall;
pub mod fuse;
pub mod landlock;
pub mod listeners;
pub mod lsm_program;
pub mod memory;
pub mod pretended;
pub mod seccomp;
pub mod unix_files;
pub mod user_namespace;
