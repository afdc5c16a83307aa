//! The hooks: what each gives, what is lost without it, loading and attaching them.

mod diagnostics;
mod load;
mod table;

pub use self::{
    load::{Attached, LoadError, Probes},
    table::{HOOKS, Hook, Place},
};
