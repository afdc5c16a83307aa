//! `tracer top`: what fails now, as a picture that changes. `model` counts events and verdicts,
//! `snapshot` is what is shown of it (a terminal and a machine get the same), `view` draws it,
//! `state` is what the keys change.
//!
//! All of it is pure: no clock, no terminal, no I/O. Memory is bounded whatever comes: upstreams,
//! listeners and verdicts that are too many are counted or forgotten, the oldest first.

mod keys;
mod model;
mod snapshot;
mod spans;
mod state;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use self::{
    model::Model,
    snapshot::Snapshot,
    state::{State, Wish},
    view::{Look, draw},
};
