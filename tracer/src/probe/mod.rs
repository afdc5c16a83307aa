//! The hooks: the table of what each gives and what is lost without it, loading and attaching them.

mod attach;
mod diagnostics;
mod load;
mod object;
mod outcome;
mod probes;
mod sizes;
mod skipped;
#[cfg(test)]
mod stack_depth;
mod table;
mod targets;
mod verify;

pub(crate) use self::{
    attach::{Executable, Moved},
    load::{Counters, Shed},
    outcome::{Outcome, State, Tally},
    probes::{LoadError, Probes},
    sizes::Sizes,
    table::{ICMP_RECEIVE, SIGHTS, Sight, Way, hooks, is_known},
};
