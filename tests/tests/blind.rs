//! A tracer that cannot see failures says so first, and never that there were none.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::failing::Failing;
use tests::nginx::Form;
use tests::tracer::{Ended, Tracer, live};
use tests::{process, programs};

/// Which failures can be seen rests on this: `--without` it there is no verdict at all.
const NEEDED: [&str; 2] = ["uprobe", "special_response"];

/// `tracer live` as root with all capabilities but one.
fn without_capability(capability: &str, master: u32) -> Result<Command> {
    let whole = live(master)?;
    let mut command = programs::command("setpriv")?;
    command
        .args(["--bounding-set", capability, "--inh-caps", capability])
        .arg(whole.get_program())
        .args(whole.get_args());
    Ok(command)
}

fn is_honest(ended: &Ended) -> Result<()> {
    let first = ended.stderr.lines().next().unwrap_or_default();
    ensure!(
        first.contains("blind"),
        "the first line does not say that it is blind: {}",
        ended.stderr
    );
    ensure!(
        first.contains("failed requests") || first.contains("failures"),
        "the first line does not say to what: {first}"
    );
    ensure!(
        !ended.stderr.contains("no failed request"),
        "it says that nothing failed: {}",
        ended.stderr
    );
    Ok(())
}

/// It ends at once with 3; with `--keep-going` it runs, and its exit status is no success.
fn blind(command: impl Fn(u32) -> Result<Command>) -> Result<()> {
    let failing = Failing::new(Form::Daemon)?;
    let nginx = failing.start()?;

    let ended = Tracer::start(&mut command(nginx.master)?)?
        .ended()
        .context("it goes on although it is blind")?;
    is_honest(&ended)?;
    ensure!(ended.status.code() == Some(3), "{ended:?}");
    ensure!(ended.verdicts.is_empty(), "{:?}", ended.verdicts);

    let mut tracer = Tracer::start(command(nginx.master)?.arg("--keep-going"))?;
    tracer.says("blind")?;
    failing.send(5)?;
    ensure!(process::alive(tracer.pid()), "it does not keep going");
    let ended = tracer.stop(libc::SIGINT)?;
    is_honest(&ended)?;
    // Connections that failed are seen nevertheless, and what is said of them is right.
    for verdict in &ended.verdicts {
        ensure!(verdict["cause"] == "no-listener", "{verdict}");
    }
    let status = ended.status.code();
    ensure!(
        status.is_some_and(|status| status != 0),
        "it ended with {}: {}",
        ended.status,
        ended.stderr
    );
    Ok(())
}

#[test]
fn without_the_capability_to_attach_to_nginx_it_is_blind_and_says_so() -> Result<()> {
    blind(|master| without_capability("-sys_admin", master))
}

#[test]
fn without_a_hook_that_every_verdict_needs_it_is_blind_and_says_so() -> Result<()> {
    for missing in NEEDED {
        blind(|master| {
            let mut command = live(master)?;
            command.args(["--without", missing]);
            Ok(command)
        })
        .with_context(|| format!("without {missing}"))?;
    }
    Ok(())
}

/// With all it needs the words are not said, and the option changes nothing.
#[test]
fn with_all_hooks_it_is_not_blind_and_keep_going_changes_nothing() -> Result<()> {
    let failing = Failing::new(Form::Daemon)?;
    let nginx = failing.start()?;
    let mut tracer = Tracer::start(live(nginx.master)?.arg("--keep-going"))?;
    tracer.tracing()?;
    let sent = failing.send(5)?;
    tracer.verdict_lines(sent.len())?;
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(ended.status.code() == Some(0), "{ended:?}");
    ensure!(!ended.stderr.contains("blind"), "{}", ended.stderr);
    Ok(())
}
