//! Every verdict that `--format json` prints keeps the contract in docs/verdict.schema.json.

use anyhow::{Result, ensure};
use tests::expected::Expected;
use tests::faults::firewall;
use tests::schema::Contract;
use tests::stage::{Fault, HEALTHY, Stage};

#[test]
fn every_verdict_keeps_the_contract() -> Result<()> {
    let contract = Contract::read()?;
    let stage = Stage::new()?;
    firewall::rule(&stage.netns, "output", "tcp dport 9002 drop")?;
    stage.netns.ip("route add prohibit 10.66.1.0/24")?;
    let closed = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    let backup = format!("{HEALTHY} backup");
    let bind = Expected::new("bind-failed", "127.0.0.1:9001", "EADDRNOTAVAIL").status(500);
    let missing = Expected::new(
        "unix-socket-missing",
        "unix:/nonexistent/app.sock",
        "ENOENT",
    );
    let verdicts = stage.check(vec![
        Fault::proxy(closed.clone(), ""),
        Fault::group(
            "masked",
            &["127.0.0.1:9001", &backup],
            closed.masked_by(HEALTHY),
        ),
        Fault::proxy(
            Expected::new("route-prohibit", "10.66.1.1:80", "EACCES"),
            "",
        ),
        Fault::proxy(
            Expected::timeout("firewall-drop", "127.0.0.1:9002"),
            "proxy_connect_timeout 1500ms;",
        ),
        Fault::proxy(bind, "proxy_bind 10.99.99.99;"),
        Fault::location("proxy_pass http://unix:/nonexistent/app.sock:/;", missing),
    ])?;
    ensure!(verdicts.len() == 30, "{} verdicts", verdicts.len());
    for verdict in &verdicts {
        let errors = contract.errors(verdict);
        ensure!(errors.is_empty(), "{errors:#?} in {verdict}");
    }
    Ok(())
}
