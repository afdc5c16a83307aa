//! tracer: one verdict per failed nginx request, from the kernel's own evidence.
//!
//! The folders are the data's way, in order: `kernel` and `probe` attach the hooks, `source` reads
//! what they and the host say, `event` makes it a stream, `correlate` makes cases of it, `causes`
//! verdicts, `render` words and files; `engine` runs these for a live run and for captures, which
//! `capture` writes and reads. What is said on the way goes through `say`.

pub mod capture;
pub mod causes;
mod chain;
mod clean;
pub mod cli;
pub mod correlate;
pub mod engine;
pub mod event;
pub mod kernel;
pub mod nginx;
mod plural;
pub mod probe;
pub mod process;
pub mod render;
pub mod say;
pub mod series;
pub mod source;
pub mod verdict;
