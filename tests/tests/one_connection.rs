//! Many requests on one client connection: nginx gives them all one number, and each verdict still
//! belongs to its own request.

use anyhow::Result;
use tests::certificate::Certificate;
use tests::client::{HOST, Tls};
use tests::selection::Selection;
use tests::session::Session;
use tests::site::{Sent, Site};
use tests::stage::Stage;
use tests::tracer::Tracer;

const ROUNDS: usize = 5;

/// Every fault and a healthy request in turn, on as few connections as a cut body leaves.
fn in_turn<S: std::io::Read + std::io::Write>(
    site: &Site,
    faults: usize,
    open: impl Fn() -> Result<Session<S>>,
) -> Result<Sent> {
    let mut session = open()?;
    let mut sent = Sent::default();
    for round in 0..ROUNDS {
        let failing = (0..faults).map(|fault| format!("/fail{fault}/{round}"));
        for path in failing.chain([format!("/ok/{round}")]) {
            let asked = std::time::Instant::now();
            let heard = session.ask("GET", &path)?;
            if !heard.whole {
                session = open()?;
            }
            let status = heard.status;
            let answer = tests::client::Answer {
                path,
                status,
                asked,
            };
            sent.extend(site.sent(vec![("GET", answer)]));
        }
    }
    Ok(sent)
}

fn check(ask: impl FnOnce(&Site, usize) -> Result<Sent>) -> Result<()> {
    let mut stage = Stage::new()?;
    let certificate = Certificate::new(HOST)?;
    stage.config.server = certificate.fronts();
    let selection = Selection::new(&stage)?;
    let faults = selection.faults.clone();
    let count = faults.len();
    let site = stage.start(faults)?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let sent = ask(&site, count)?;
    site.check(&sent, tracer).map(drop)
}

#[test]
fn one_after_the_other() -> Result<()> {
    check(|site, faults| in_turn(site, faults, || Session::open(&site.netns)))
}

#[test]
fn one_after_the_other_over_tls() -> Result<()> {
    check(|site, faults| {
        site.netns
            .enter(|| in_turn(site, faults, || Session::over(Tls::connect("http/1.1")?)))
    })
}

/// All of them in one write: nginx answers one after the other.
#[test]
fn pipelined() -> Result<()> {
    check(|site, faults| {
        let mut session = Session::open(&site.netns)?;
        let mut paths = Vec::new();
        // A cut body would end the connection.
        let whole = (0..faults).filter(|fault| !site.cuts(*fault));
        for fault in whole {
            paths.extend((0..ROUNDS).map(|round| format!("/fail{fault}/{round}")));
        }
        let asked = std::time::Instant::now();
        for path in &paths {
            session.say("GET", path)?;
        }
        let mut answers = Vec::new();
        for path in paths {
            let status = session.hear()?.status;
            answers.push((
                "GET",
                tests::client::Answer {
                    path,
                    status,
                    asked,
                },
            ));
        }
        Ok(site.sent(answers))
    })
}
