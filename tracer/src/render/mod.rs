//! Finished verdicts in, words and files out. Pure: no clock, no I/O but the given writer.
//!
//! Whatever came from the network or a process (names, paths, request lines) is shown with its
//! control and direction characters escaped, and no longer than a person reads.

pub mod chart;
pub mod coverage;
mod fold;
pub mod json;
pub mod notice;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod perfetto;
pub mod report;
mod summary;
#[cfg(test)]
mod tests;
pub mod text;
pub(crate) mod wrap;

pub use self::{
    fold::{Fold, Folder},
    summary::Summary,
};
use crate::clean;
