//! What hooks keep of attempts, connections and their ends, and what they report of them.

pub mod at_once;
pub mod attempt;
pub mod cgroup;
pub mod connection;
pub mod ending;
pub mod join;
pub mod reply;
pub mod resolver;
pub mod unix_end;
