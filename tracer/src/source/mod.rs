//! Where events come from.

pub mod host;
