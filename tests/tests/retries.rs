//! `proxy_next_upstream`: every attempt is reported, and a failure that a retry hid is marked.

use anyhow::Result;
use tests::expected::Expected;
use tests::faults::firewall;
use tests::stage::{Fault, HEALTHY, Stage};

#[test]
fn a_retry_that_succeeds_masks_the_failure() -> Result<()> {
    let expected = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    let backup = format!("{HEALTHY} backup");
    let fault = Fault::group(
        "masked",
        &["127.0.0.1:9001", &backup],
        expected.masked_by(HEALTHY),
    );
    Stage::new()?.check(vec![fault]).map(drop)
}

#[test]
fn a_synchronous_failure_is_masked_too() -> Result<()> {
    let stage = Stage::new()?;
    stage.netns.ip("route add prohibit 10.66.1.0/24")?;
    let expected = Expected::new("route-prohibit", "10.66.1.1:80", "EACCES");
    let backup = format!("{HEALTHY} backup");
    let servers = ["10.66.1.1:80", backup.as_str()];
    let fault = Fault::group("masked", &servers, expected.masked_by(HEALTHY));
    stage.check(vec![fault]).map(drop)
}

#[test]
fn every_failed_attempt_keeps_its_own_cause() -> Result<()> {
    let stage = Stage::new()?;
    firewall::rule(&stage.netns, "output", "tcp dport 9002 reject")?;
    stage.netns.ip("route add prohibit 10.66.1.0/24")?;
    let closed = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    let rejected = Expected::new("firewall-reject", "127.0.0.1:9002", "ECONNREFUSED");
    let prohibited = Expected::new("route-prohibit", "10.66.1.1:80", "EACCES");
    let closed_then_rejected = Fault::group(
        "closed_then_rejected",
        &["127.0.0.1:9001", "127.0.0.1:9002 backup"],
        rejected.after(std::slice::from_ref(&closed)),
    );
    let prohibited_then_closed = Fault::group(
        "prohibited_then_closed",
        &["10.66.1.1:80", "127.0.0.1:9001 backup"],
        closed.after(&[prohibited]),
    );
    stage
        .check(vec![closed_then_rejected, prohibited_then_closed])
        .map(drop)
}
