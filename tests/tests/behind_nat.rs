//! The scenarios of other files with every backend in a container that nginx reaches by a
//! translated address (DNAT), as a cluster's services are. Cause and confidence have to be as on
//! loopback.

#[path = "backend_closes.rs"]
mod backend_closes;
#[path = "backend_dies.rs"]
mod backend_dies;
#[path = "backend_stalls.rs"]
mod backend_stalls;
#[path = "connect_refused.rs"]
mod connect_refused;
#[path = "queues.rs"]
mod queues;
#[path = "stream.rs"]
mod stream;
#[path = "tls_upstream.rs"]
mod tls_upstream;
