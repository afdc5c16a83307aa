//! How long the tracer takes from its start to the line that says that it traces.

use anyhow::Result;
use tests::programs;
use tests::stage::Stage;
use tests::tracer::{self, Tracer};

#[test]
fn the_line_that_says_tracing_comes() -> Result<()> {
    let site = Stage::new()?.start(Vec::new())?;
    let mut tracer = Tracer::start(&mut tracer::live(site.nginx.master)?)?;
    let took = tracer.tracing()?;
    let bytes = std::fs::metadata(programs::tracer()?)?.len();
    println!(
        "NOTE: start to `tracing`: {} ms, by a binary of {}.{} MB",
        took.as_millis(),
        bytes / 1_000_000,
        bytes / 100_000 % 10
    );
    Ok(())
}
