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
mod scope;
mod scout;
mod seccomp;
mod skips;
pub(crate) mod system;
mod unread;

pub(crate) use self::{
    live::{Live, Options, StartError},
    pace::Ceilings,
    presence::runtime_folder,
    privileges::{keep_file_access_alone, keep_nothing},
    scope::Scope,
    scout::Described,
    seccomp::try_seccomp,
};
