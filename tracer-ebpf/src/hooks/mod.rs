//! The entry points, one file a hook family. Each leaves at once unless it meets something of a followed worker's.

pub mod attempt;
mod backend;
mod by_socket;
mod cgroup;
mod drop;
mod error;
mod log;
mod overflow;
mod process;
mod reply;
pub mod request;
mod reset;
mod resolver;
mod retransmit;
mod route;
mod security;
mod state;
mod transfer;
mod unix_end;
