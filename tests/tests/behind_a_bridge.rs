//! The scenarios of other files with every backend in a container behind a bridge: its own network
//! namespace and address. Cause and confidence have to be as on loopback.

use std::path::Path;

use anyhow::{Result, ensure};

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
#[path = "programs.rs"]
mod programs;
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

/// The files whose scenarios are not run here, and why.
const OTHERS: &[(&str, &[&str])] = &[
    (
        "the tracer, not a backend, is what is tried",
        &[
            "as_a_service",
            "aside",
            "blind",
            "capture_bombs",
            "captures",
            "check",
            "exported",
            "false_nginx",
            "flood",
            "forged_log",
            "healthy",
            "hostile_binaries",
            "hostile_names",
            "identity",
            "latency",
            "lifecycle",
            "logs",
            "long_run",
            "manners",
            "many_lives",
            "members",
            "messages",
            "metrics",
            "notices",
            "otlp",
            "presented",
            "privileges",
            "probes",
            "recorder",
            "schema",
            "service_unit",
            "shipped",
            "signatures",
            "skipped",
            "stalling_log",
            "start",
            "top",
        ],
    ),
    (
        "it has network namespaces of its own",
        &[
            "across_namespaces",
            "container",
            "containers_come_and_go",
            "elsewhere",
            "namespaces",
            "rootless",
            "same_addresses",
            "two_containers",
            "unreachable",
        ],
    ),
    ("this very list, with a translated address", &["behind_nat"]),
    (
        "nginx fails before a packet leaves its namespace",
        &["limits", "routes"],
    ),
    (
        "a socket's path is in no network namespace",
        &["unix_sockets"],
    ),
    ("the upstream is nginx itself", &["loops"]),
    ("nginx asks a DNS server, no backend", &["names"]),
    (
        "nginx differs, its backends do not",
        &["builds", "versions"],
    ),
];

#[test]
fn every_file_runs_here_or_has_its_reason() -> Result<()> {
    let here = include_str!("behind_a_bridge.rs");
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"))? {
        let file = file?.path();
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let runs = here.contains(&format!("#[path = \"{name}.rs\"]\n"));
        let is_left_out = OTHERS.iter().any(|(_, files)| files.contains(&&*name));
        ensure!(
            name == "behind_a_bridge" || runs != is_left_out,
            "{name}: run here is {runs}, left out is {is_left_out}"
        );
    }
    Ok(())
}
