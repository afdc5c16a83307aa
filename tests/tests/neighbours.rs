//! Of several that listen, the right one is named: with SO_REUSEPORT the one that does not accept,
//! and a stranger's port is no advice.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::client::{self, Front, Question};
use tests::expected::Expected;
use tests::stage::{Fault, Stage};
use tests::tracer::Tracer;
use tests::upstream::{Listen, Upstream};

const ADDRESS: &str = "127.0.0.1:9001";
const APP: (&str, &str) = (
    "app.py",
    "def app(environ, start):\n    start('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n",
);

fn gunicorn(stage: &Stage) -> Result<Upstream> {
    let words = [
        "gunicorn",
        "--reuse-port",
        "-b",
        ADDRESS,
        "-w",
        "1",
        "app:app",
    ];
    let listen = Listen::Tcp(ADDRESS.to_owned());
    Upstream::start(&stage.netns, &words, &[APP], &listen)
}

/// Two gunicorns share the port, as after a restart that left the old one behind; it is stopped.
#[test]
fn of_two_servers_on_one_port_the_stopped_one_is_named() -> Result<()> {
    let stage = Stage::new()?;
    let stopped = gunicorn(&stage)?;
    let healthy = gunicorn(&stage)?;
    // The stopped one took the connection that would have shown that this one listens.
    healthy.says("Listening at")?;
    let logged = "upstream timed out (110: Connection timed out) while reading response header";
    let expected = Expected::timeout("backend-not-accepting", ADDRESS).or_errno(None);
    let expected = Expected {
        logged: vec![logged.into()],
        ..expected
    };
    let fault = Fault::proxy(expected, "proxy_read_timeout 700ms;");
    let site = stage.start(vec![fault])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    for pid in stopped.children().into_iter().chain([stopped.pid()]) {
        tests::process::signal(pid, libc::SIGSTOP);
    }
    let questions: Vec<Question> = (0..24)
        .map(|id| Question::get(format!("/fail0/{id}")))
        .collect();
    let answers = site
        .netns
        .enter(|| client::send(Front::Http, &questions, 8))?;
    // The kernel deals connections out: some of them the healthy one has.
    let failed = answers.iter().filter(|answer| answer.status == 504).count();
    ensure!(failed >= 5, "only {failed} met the stopped one");
    let lines = tracer.verdict_lines(failed)?;
    ensure!(
        lines.len() == failed,
        "{} verdicts on {failed}",
        lines.len()
    );
    let ended = tracer.stop(libc::SIGINT)?;
    let name = format!("(pid {}", stopped.pid());
    for verdict in &ended.verdicts {
        let listener = evidence(verdict, "listener");
        ensure!(
            verdict["cause"] == "backend-not-accepting"
                && verdict["confidence"] == "proven"
                && listener.contains(&name)
                && listener.contains("one of 2 listeners on that address (SO_REUSEPORT)"),
            "not {name}: {verdict}"
        );
    }
    for pid in stopped.children().into_iter().chain([stopped.pid()]) {
        tests::process::signal(pid, libc::SIGCONT);
    }
    Ok(())
}

fn evidence(verdict: &Value, event: &str) -> String {
    let all = verdict["evidence"].as_array().into_iter().flatten();
    let texts = all.filter(|one| one["event"] == event);
    texts.map(|one| one["text"].to_string()).collect()
}

#[test]
fn an_unrelated_daemon_is_not_suggested() -> Result<()> {
    let stage = Stage::new()?;
    let words = ["gunicorn", "-b", "0.0.0.0:2024", "-w", "1", "app:app"];
    let listen = Listen::Tcp("127.0.0.1:2024".to_owned());
    let _unrelated = Upstream::start(&stage.netns, &words, &[APP], &listen)?;
    let _near = tests::backend::listen(&stage.netns, "127.0.0.1:3001")?;
    let refused = |upstream| Expected::new("no-listener", upstream, "ECONNREFUSED");
    let faults = vec![
        Fault::proxy(refused("127.0.0.1:19999"), ""),
        Fault::proxy(
            refused("127.0.0.1:3000").says("listens on 127.0.0.1:3001, a port one digit off"),
            "",
        ),
    ];
    let verdicts = stage.check(faults)?;
    let suggests = |verdict: &Value| verdict.to_string().contains(":2024");
    ensure!(!verdicts.iter().any(suggests), "a stranger is suggested");
    Ok(())
}
