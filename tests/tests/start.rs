//! How long the tracer takes from its start to the line that says that it traces; from that line on
//! it misses nothing.

use anyhow::{Result, ensure};
use tests::counters::programs_of;
use tests::expected::Expected;
use tests::programs;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::{self, Tracer};

#[test]
fn from_the_line_that_says_tracing_on_nothing_is_missed() -> Result<()> {
    let expected = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    let site = Stage::new()?.start(vec![Fault::proxy(expected, "")])?;
    let mut tracer = Tracer::start(&mut tracer::live(site.nginx.master)?)?;
    let took = tracer.tracing()?;
    // At once: a hook that is attached later misses the first of these.
    let sent = site.send(Load::default())?;
    let hooks = programs_of(tracer.pid())?;
    let said = tracer.says("tracing")?.text;
    ensure!(!hooks.is_empty(), "no program is attached: {said}");
    let master = site.nginx.master.to_string();
    ensure!(said.contains(&master), "it does not name {master}: {said}");
    let bytes = std::fs::metadata(programs::tracer()?)?.len();
    println!(
        "NOTE: start to `tracing`: {} ms, by a binary of {}.{} MB",
        took.as_millis(),
        bytes / 1_000_000,
        bytes / 100_000 % 10
    );
    site.check(&sent, tracer).map(drop)
}
