//! Where events come from: the kernel's ring buffer and the host observer.

pub(crate) mod clock;
mod descriptors;
mod following;
pub(crate) mod host;
mod live;
mod memory;
mod pace;
mod presence;
mod privileges;
mod questions;
mod queues;
mod scope;
mod scout;
mod seccomp;
mod skips;
pub(crate) mod system;
mod unread;

pub(crate) use self::{
    host::Depth,
    live::{Live, Options, StartError},
    memory::resident as resident_memory,
    pace::Ceilings,
    presence::runtime_folder,
    privileges::{keep_file_access_alone, keep_nothing},
    queues::watch_queues,
    scope::Scope,
    scout::Described,
    seccomp::try_seccomp,
};
