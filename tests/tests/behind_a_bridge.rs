//! The scenarios of other files with every backend in a container behind a bridge: its own network
//! namespace and address. Cause and confidence have to be as on loopback.

#[path = "backend_closes.rs"]
mod backend_closes;
#[path = "backend_dies.rs"]
mod backend_dies;
#[path = "backend_stalls.rs"]
mod backend_stalls;
#[path = "client_aborts.rs"]
mod client_aborts;
#[path = "client_got.rs"]
mod client_got;
#[path = "connect_refused.rs"]
mod connect_refused;
#[path = "denied.rs"]
mod denied;
#[path = "forwarders.rs"]
mod forwarders;
#[path = "fronts.rs"]
mod fronts;
#[path = "keepalive.rs"]
mod keepalive;
#[path = "masked.rs"]
mod masked;
#[path = "mixed.rs"]
mod mixed;
#[path = "neighbours.rs"]
mod neighbours;
#[path = "no_live_upstreams.rs"]
mod no_live_upstreams;
#[path = "one_connection.rs"]
mod one_connection;
#[path = "passed_through.rs"]
mod passed_through;
#[path = "protocols.rs"]
mod protocols;
#[path = "queues.rs"]
mod queues;
#[path = "responses.rs"]
mod responses;
#[path = "restart_gap.rs"]
mod restart_gap;
#[path = "retries.rs"]
mod retries;
#[path = "stream.rs"]
mod stream;
#[path = "supervised.rs"]
mod supervised;
#[path = "timeouts.rs"]
mod timeouts;
#[path = "tls_backends.rs"]
mod tls_backends;
#[path = "tls_upstream.rs"]
mod tls_upstream;
