//! The scenarios of other files with every backend in a container behind a bridge: its own network
//! namespace and address. Cause and confidence have to be as on loopback.

#[path = "backend_closes.rs"]
mod backend_closes;
#[path = "backend_dies.rs"]
mod backend_dies;
#[path = "backend_stalls.rs"]
mod backend_stalls;
#[path = "connect_refused.rs"]
mod connect_refused;
#[path = "keepalive.rs"]
mod keepalive;
#[path = "queues.rs"]
mod queues;
#[path = "responses.rs"]
mod responses;
#[path = "restart_gap.rs"]
mod restart_gap;
#[path = "retries.rs"]
mod retries;
#[path = "timeouts.rs"]
mod timeouts;
