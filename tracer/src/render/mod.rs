//! Finished verdicts in, words and files out. Pure: no clock, no I/O but the given writer.
//!
//! Whatever came from the network or a process (names, paths, request lines) is shown with its
//! control and direction characters escaped, and no longer than a person reads.

pub(crate) mod chart;
pub(crate) mod coverage;
mod fold;
pub(crate) mod json;
pub(crate) mod notice;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
pub(crate) mod perfetto;
pub(crate) mod report;
mod summary;
#[cfg(test)]
mod tests;
pub(crate) mod text;
pub(crate) mod wrap;

pub(crate) use self::{
    fold::{Fold, Folder},
    summary::Summary,
};
use crate::clean;
