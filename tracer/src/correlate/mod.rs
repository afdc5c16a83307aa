//! From the stream of events to cases. Pure: no clock, no I/O; the same events give the same cases.

pub mod case;

pub use case::{Attempt, Case, Course, Facts};
