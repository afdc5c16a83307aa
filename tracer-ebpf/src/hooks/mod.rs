//! The entry points, one file a hook family. Each leaves at once unless it meets something of a
//! followed worker's.

mod attempt;
mod backend;
mod closing;
mod drop;
mod error;
mod log;
mod overflow;
mod process;
mod request;
mod reset;
mod retransmit;
mod route;
mod security;
mod state;
mod transfer;
