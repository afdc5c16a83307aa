//! What the running kernel says of itself: BTF, and from it member offsets and the names of
//! reasons.

mod btf;
mod layout;
mod reasons;
mod sites;

pub(crate) use self::{
    btf::{Btf, BtfError},
    layout::{offsets, stack_registers},
    reasons::{names, wanted_drops},
    sites::drop_sites,
};
