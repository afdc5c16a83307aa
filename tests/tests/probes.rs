//! The probe table: each attached program runs when what it watches happens, and each fallback
//! leads to the verdicts of the best way, or to weaker ones as the table says.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::counters::{Counters, link_kinds};
use tests::expected::Expected;
use tests::faults::memory::{self, Memory};
use tests::faults::{firewall, listeners};
use tests::folder::Folder;
use tests::process;
use tests::programs;
use tests::service::Service;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;

/// Causes whose proof needs hooks that some kernels lack.
fn faults() -> Vec<Fault> {
    let no_listener =
        |upstream| Fault::proxy(Expected::new("no-listener", upstream, "ECONNREFUSED"), "");
    let reject = |upstream| {
        Fault::proxy(
            Expected::new("firewall-reject", upstream, "ECONNREFUSED"),
            "",
        )
    };
    let full = Expected::timeout("accept-queue-full", "127.0.0.1:9004").at_best_proven();
    let unread = Expected::reset("backend-reset", "127.0.0.1:9005").at_best_proven();
    vec![
        no_listener("127.0.0.1:9001"),
        no_listener("[::1]:9001"),
        reject("127.0.0.1:9002"),
        reject("127.0.0.1:9003"),
        // Long enough for the first retransmission.
        Fault::proxy(full, "proxy_connect_timeout 2s;"),
        Fault::proxy(unread, ""),
    ]
}

const LOAD: Load = Load {
    failing: 5,
    healthy: 5,
    concurrency: 10,
    front: tests::client::Front::Http,
};

struct Arranged {
    stage: Stage,
    _full: listeners::Full,
    _unread: Service,
}

fn arranged() -> Result<Arranged> {
    let stage = Stage::new()?;
    firewall::rule(&stage.netns, "output", "tcp dport 9002 reject")?;
    let reset = "tcp dport 9003 reject with tcp reset";
    firewall::rule(&stage.netns, "output", reset)?;
    Ok(Arranged {
        _full: listeners::full(&stage.netns, "127.0.0.1:9004")?,
        _unread: Service::start(&stage.netns, &["127.0.0.1:9005", "unread"])?,
        stage,
    })
}

/// Of a program that no cgroup with a limit can be made for.
const OUT_OF_MEMORY: &str = "oom_victim";

/// Whether the running kernel has links of many breakpoints, by its own types.
fn has_multi_links() -> Result<bool> {
    const NAME: &[u8] = b"BPF_LINK_TYPE_UPROBE_MULTI";
    let types = std::fs::read("/sys/kernel/btf/vmlinux")?;
    Ok(types.windows(NAME.len()).any(|window| window == NAME))
}

/// Runs each program, the best ways `without` these, and looks at how often the kernel ran it.
fn each_runs(without: &[&str]) -> Result<()> {
    let Arranged {
        stage,
        _full,
        _unread,
    } = arranged()?;
    let folder = Folder::new()?;
    let unix = format!("unix:{}", folder.join("unread.sock").display());
    let _others = [
        Service::start(&stage.netns, &["[::1]:9006", "unread"])?,
        Service::start(&stage.netns, &[&unix, "unread"])?,
    ];
    let mut faults = faults();
    let reset = |upstream| Expected::reset("backend-reset", upstream).at_best_proven();
    faults.push(Fault::proxy(reset("[::1]:9006"), ""));
    let pass = format!("proxy_pass http://{unix}:/;");
    faults.push(Fault::location(pass, reset(&unix)));
    let failed = (LOAD.failing * faults.len()) as u64;
    // It tries no upstream, so it is none of the attempts.
    let returned = Expected::untried("returned-by-config", "");
    let returned = returned.unlogged().status(503);
    faults.push(Fault::location("return 503;", returned));
    let site = stage.start(faults)?;
    let counters = Counters::new()?;
    let arguments: Vec<&str> = without
        .iter()
        .flat_map(|word| ["--without", word])
        .collect();
    let tracer = Tracer::follow_with(site.nginx.master, &arguments)?;
    let sent = site.send(LOAD)?;
    site.verdict_lines(&sent, &tracer)?;
    site.nginx.reload()?;
    // A program, a fatal signal, an end.
    let mut victim = Command::new("sleep").arg("60").spawn()?;
    process::signal(victim.id(), libc::SIGTERM);
    victim.wait()?;
    let no_memory = memory::missing();
    if no_memory.is_none() {
        let memory = Memory::new(8 << 20)?;
        let mut hog = Command::new("dd");
        hog.args(["if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
        memory.place(&mut hog)?;
        ensure!(!hog.status()?.success(), "64 MiB fit into 8");
    }

    let kinds = link_kinds(tracer.pid())?;
    let is_multi = has_multi_links()? && !without.contains(&"uprobe-multi");
    ensure!(kinds.contains("uprobe_multi") == is_multi, "{kinds:?}");
    let runs = counters.of(tracer.pid())?;
    println!("{runs:?}");
    ensure!(runs.len() > 10, "only {} programs: {runs:?}", runs.len());
    let silent: Vec<&String> = runs
        .iter()
        .filter(|(name, runs)| {
            **runs == 0 && !(no_memory.is_some() && name.starts_with(OUT_OF_MEMORY))
        })
        .map(|(name, _)| name)
        .collect();
    ensure!(silent.is_empty(), "{silent:?} never ran: {runs:?}");
    let of = |program: &str| {
        let found = runs
            .iter()
            .find(|(name, _)| program.starts_with(name.as_str()));
        found.map_or(0, |(_, runs)| *runs)
    };
    // At least: the hooks stand in the binary, which other tests run too.
    ensure!(of("special_response") >= failed, "{runs:?}");
    // By the sockets, or each call.
    let attempts = failed + LOAD.healthy as u64;
    let closed = of("closed_at_once") >= failed;
    ensure!(closed || of("connect_peer") >= attempts, "{runs:?}");
    Ok(())
}

#[test]
fn each_program_runs_when_what_it_watches_happens() -> Result<()> {
    each_runs(&[])
}

#[test]
fn each_function_s_program_runs_in_place_of_a_tracepoint() -> Result<()> {
    each_runs(&NEWER)
}

#[test]
fn each_attempt_s_call_runs_a_program_where_sockets_do_not_lead_to_requests() -> Result<()> {
    each_runs(&["closed_at_once"])
}

#[test]
fn each_breakpoint_is_a_perf_event_where_the_kernel_has_no_better_link() -> Result<()> {
    each_runs(&["uprobe-multi"])
}

#[test]
fn each_breakpoint_s_program_runs_in_place_of_a_trampoline() -> Result<()> {
    each_runs(&[
        "fentry",
        "security",
        "send_reset_reason",
        "error_report",
        "icmp_send",
    ])
}

/// The hooks that `tracer doctor` says are not attached in any way without these kinds of places or
/// programs.
fn lost(without: &[&str]) -> Result<Vec<String>> {
    let mut doctor = Command::new(programs::tracer()?);
    doctor.args(["doctor", "--format", "json"]);
    for word in without {
        doctor.args(["--without", word]);
    }
    let said: Value = serde_json::from_str(&programs::output(&mut doctor)?)?;
    let hooks = said["hooks"].as_array().context("hooks")?.iter();
    let lost = hooks.filter(|hook| hook["lost"].is_string());
    Ok(lost
        .filter_map(|hook| hook["name"].as_str())
        .map(str::to_owned)
        .collect())
}

/// The same causes, whatever they are seen by. Proven by all ways that the table has; less where it
/// says that all are lost.
fn told_without(without: &[&str]) -> Result<()> {
    let Arranged {
        stage,
        _full,
        _unread,
    } = arranged()?;
    let lost = lost(without)?;
    let lost = |sight: &str| lost.iter().any(|name| name == sight);
    let faults = faults()
        .into_iter()
        .map(|mut fault| {
            let weak = match fault.expected.cause {
                // A drop of the SYN for want of a socket proves as much as the RST.
                "no-listener" => lost("send_reset"),
                "firewall-reject" => lost("drop_packet") || lost("icmp_send"),
                _ => true,
            };
            if weak {
                fault.expected = fault.expected.at_best_proven();
            } else {
                fault.expected.confidence = &["proven"];
            }
            fault
        })
        .collect();
    let site = stage.start(faults)?;
    let without: Vec<&str> = without
        .iter()
        .flat_map(|word| ["--without", word])
        .collect();
    let tracer = Tracer::follow_with(site.nginx.master, &without)?;
    let sent = site.send(LOAD)?;
    site.check(&sent, tracer).map(drop)
}

/// The tracepoints that kernels after 5.10 brought.
const NEWER: [&str; 5] = [
    "send_reset_reason",
    "error_report",
    "icmp_send",
    "received",
    "sent",
];

#[test]
fn without_the_newer_tracepoints_functions_show_the_same() -> Result<()> {
    told_without(&NEWER)
}

#[test]
fn without_reads_or_writes_alone_nothing_is_wrong() -> Result<()> {
    told_without(&["received", "fexit"])?;
    told_without(&["sent", "fexit"])
}

#[test]
fn without_sockets_that_lead_to_requests_each_call_shows_the_same() -> Result<()> {
    told_without(&["closed_at_once"])
}

#[test]
fn without_trampolines_breakpoints_show_the_same() -> Result<()> {
    told_without(&[NEWER.as_slice(), &["fentry", "fexit"]].concat())
}

#[test]
fn without_functions_the_tracepoints_suffice() -> Result<()> {
    told_without(&["fentry", "fexit", "kprobe", "kretprobe"])
}

#[test]
fn with_the_oldest_tracepoints_alone_nothing_is_wrong() -> Result<()> {
    told_without(
        &[
            NEWER.as_slice(),
            &["fentry", "fexit", "kprobe", "kretprobe"],
        ]
        .concat(),
    )
}

/// A program that the table does not know is a usage error, not silently nothing.
#[test]
fn an_unknown_word_is_refused() -> Result<()> {
    let ended = Command::new(programs::tracer()?)
        .args(["doctor", "--without", "nothing-such"])
        .output()?;
    ensure!(ended.status.code() == Some(2), "{ended:?}");
    Ok(())
}
