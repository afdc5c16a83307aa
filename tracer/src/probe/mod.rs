//! The hooks: the table of what each gives and what is lost without it, loading and attaching them.

mod attach;
mod diagnostics;
mod load;
mod sizes;
mod skipped;
#[cfg(test)]
mod stack_depth;
mod table;
mod targets;
mod verify;

pub use self::{
    attach::{Attached, Executable, Moved, Tally},
    load::{LoadError, Probes, Shed, Told},
    sizes::Sizes,
    table::{Hook, ICMP_RECEIVE, Place, SIGHTS, Sight, Way, hooks, is_known, nginx_functions},
};
