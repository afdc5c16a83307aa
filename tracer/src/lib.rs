//! tracer: one verdict per failed nginx request, from the kernel's own evidence.
//!
//! The folders are the data's way, in order: `kernel` and `probe` attach the hooks, `source` reads
//! what they and the host say, `event` makes it a stream, `correlate` makes cases of it, `causes`
//! verdicts, `render` words and files; `engine` runs these for a live run and for captures, which
//! `capture` writes and reads. What is said on the way goes through `say`.
//!
//! The library exports what the program needs, and nothing that is stable.

mod capture;
mod causes;
mod chain;
mod check;
mod clean;
mod cli;
mod correlate;
mod engine;
mod event;
mod http;
#[doc(hidden)]
pub mod internals;
mod kernel;
mod metrics;
mod nginx;
mod otlp;
mod plural;
mod probe;
mod process;
mod render;
mod say;
mod series;
mod source;
mod top;
mod verdict;

pub use self::{
    cli::{Exit, report_faults, run},
    say::error as say_error,
};
