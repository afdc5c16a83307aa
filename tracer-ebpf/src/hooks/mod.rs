//! The entry points, one file per hook family. Each returns early unless the event belongs to a
//! followed worker.

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
