//! Functions and tracepoints have fewer or more parameters from kernel to kernel: what is attached
//! is the program for as many as this kernel's have, and it reads no queue as full that is not.

use anyhow::{Context, Result, ensure};
use tests::counters::Counters;
use tests::expected::Expected;
use tests::kernel;
use tests::service::Service;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;

/// Each tracepoint with two programs: the one attached if it has so many arguments, and the one if
/// it has fewer.
const VARIANTS: [(&str, usize, &str, &str); 3] = [
    ("tcp_send_reset", 3, "send_reset_reason", "send_reset_plain"),
    ("kfree_skb", 3, "drop_packet", "drop_packet_site"),
    ("mark_victim", 2, "oom_victim", "oom_victim_pid"),
];

/// Connections through a queue that is never full, all seen by the programs for a full one; those
/// that then fail do so for another reason.
fn no_false_overflow(without: &[&str]) -> Result<()> {
    let stage = Stage::new()?;
    let (v4, v6) = ("127.0.0.1:9001", "[::1]:9001");
    let _services = [
        Service::start(&stage.netns, &[v4, "answer", ""])?,
        Service::start(&stage.netns, &[v6, "answer", ""])?,
    ];
    let words = "upstream prematurely closed connection while reading response header";
    let early = |upstream| {
        let expected = Expected::connected("backend-closed-early", upstream, words);
        Fault::proxy(expected, "")
    };
    let site = stage.start(vec![early(v4), early(v6)])?;
    let counters = Counters::new()?;
    let tracer = Tracer::follow_with(site.nginx.master, without)?;
    let sent = site.send(Load {
        failing: 20,
        healthy: 40,
        ..Load::default()
    })?;
    site.verdict_lines(&sent, &tracer)?;
    let runs = counters.of(tracer.pid())?;

    // The kernel's own name for a program has 15 bytes.
    let is_loaded = |program: &str| {
        let short = &program[..program.len().min(15)];
        runs.contains_key(program) || runs.contains_key(short)
    };
    for (tracepoint, least, more, fewer) in VARIANTS {
        let Some(count) = kernel::arguments(tracepoint) else {
            continue;
        };
        let (stands, spare) = if count >= least {
            (more, fewer)
        } else {
            (fewer, more)
        };
        ensure!(
            is_loaded(stands) && !is_loaded(spare),
            "{tracepoint} has {count} arguments: {stands} is to stand and {spare} is not: {runs:?}"
        );
    }
    let (functions, connections) = (kernel::shows_functions(), 80);
    for function in ["syn", "ack"] {
        // Each family has its own.
        let prefix = format!("overflow_{function}");
        let seen: u64 = runs
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix))
            .map(|(_, runs)| *runs)
            .sum();
        ensure!(
            !functions || seen >= connections,
            "overflow_{function} ran {seen} times for {connections} connections: {runs:?}"
        );
    }
    for verdict in site.check(&sent, tracer)? {
        let text = verdict.to_string();
        ensure!(
            !text.contains("OVERFLOW") && !text.contains("accept queue"),
            "a queue that was never full: {text}"
        );
    }
    Ok(())
}

#[test]
fn six_or_seven_parameters_make_no_queue_full() -> Result<()> {
    let count =
        |function| kernel::parameters(function).with_context(|| format!("BTF has no {function}"));
    println!(
        "NOTE: tcp_v4_syn_recv_sock has {} parameters, tcp_conn_request {}",
        count("tcp_v4_syn_recv_sock")?,
        count("tcp_conn_request")?
    );
    no_false_overflow(&[])
}

#[test]
fn nor_do_they_to_breakpoints() -> Result<()> {
    no_false_overflow(&["--without", "fentry"])
}
