//! A userland forwarder accepts what it then cannot pass on: the verdict leads to what is behind
//! it.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::expected::Expected;
use tests::stage::{Fault, Stage};
use tests::upstream::{Listen, Upstream};

/// Whether its child reads the request before it fails, and closes or exits, is a race.
fn ended(address: &str) -> Expected {
    let mut expected = Expected::reset("backend-reset", address).or_errno(None);
    expected.or_cause = vec!["backend-closed-early", "backend-died"];
    expected.logged = vec!["upstream prematurely closed | (104: | (32: ".into()];
    expected.at_best_proven()
}

fn socat(stage: &Stage, listens: &str, to: &str) -> Result<Upstream> {
    let (ip, port) = listens.rsplit_once(':').unwrap_or_default();
    let words = format!("socat TCP-LISTEN:{port},bind={ip},fork,reuseaddr {to}");
    let words: Vec<&str> = words.split(' ').collect();
    let listen = Listen::Tcp(listens.to_owned());
    Upstream::start(&stage.netns, &words, &[], &listen)
}

#[test]
fn nothing_listens_behind_a_forwarder() -> Result<()> {
    let stage = Stage::new()?;
    let _socat = socat(&stage, "127.0.0.1:9001", "TCP4:127.0.0.1:9999")?;
    let words = [
        "/usr/bin/systemd-socket-activate",
        "-l",
        "127.0.0.1:9002",
        "/lib/systemd/systemd-socket-proxyd",
        "127.0.0.1:9998",
    ];
    let listen = Listen::Tcp("127.0.0.1:9002".to_owned());
    let _proxyd = Upstream::start(&stage.netns, &words, &[], &listen)?;
    let behind = |address: &str, to: &str| {
        ended(address)
            .says(format!("only forwards to {to}, where nothing listens"))
            .says(format!("nothing listens on {to}"))
    };
    let faults = vec![
        Fault::proxy(behind("127.0.0.1:9001", "127.0.0.1:9999"), ""),
        Fault::proxy(behind("127.0.0.1:9002", "127.0.0.1:9998"), ""),
    ];
    stage.check(faults).map(drop)
}

/// What is behind it lives, and closes: its log says why.
#[test]
fn the_backend_behind_a_forwarder_closes() -> Result<()> {
    let stage = Stage::new()?;
    let _socat = socat(&stage, "127.0.0.1:9001", "TCP4:127.0.0.1:9003")?;
    let _closes = tests::service::Service::start(&stage.netns, &["127.0.0.1:9003", "answer", ""])?;
    let expected = ended("127.0.0.1:9001").says("look at the backend behind socat, 127.0.0.1:9003");
    let verdicts = stage.check(vec![Fault::proxy(expected, "")])?;
    let blames = |verdict: &Value| verdict.to_string().contains("where nothing listens");
    ensure!(!verdicts.iter().any(blames), "something listens there");
    Ok(())
}
