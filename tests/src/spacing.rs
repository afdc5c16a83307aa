//! Requests spaced around a backend's idle timeout, so that some meet the end of their kept-alive
//! connection: the natural keep-alive race.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::client::Answer;
use crate::netns::Netns;
use crate::service::Service;
use crate::session::Session;
use crate::site::{Sent, Site};

/// How long the backend keeps an idle connection.
const IDLE: Duration = Duration::from_millis(20);
const STEP: Duration = Duration::from_micros(50);

/// A backend that keeps idle connections for 20 ms.
pub fn impatient(netns: &Netns, address: &str) -> Result<Service> {
    let idle = IDLE.as_millis().to_string();
    Service::start(netns, &[address, "keepalive", &idle])
}

/// So many requests of this method to the first fault, one at a time: a little later when the last
/// one found the connection open, a little earlier when it did not. Those that nginx logged met the
/// fault, at least five.
pub fn around_the_idle_timeout(site: &Site, method: &'static str, count: usize) -> Result<Sent> {
    let mut session = Session::open(&site.netns)?;
    let mut pause = IDLE;
    let mut answers = Vec::new();
    for number in 0..count {
        std::thread::sleep(pause);
        let path = format!("/fail0/{number}");
        let asked = Instant::now();
        let heard = session.ask(method, &path)?;
        match heard.value("X-Served") {
            Some("1") => pause = pause.saturating_sub(STEP).max(IDLE / 2),
            Some(_) => pause = (pause + STEP).min(IDLE * 2),
            None => {}
        }
        let status = heard.status;
        answers.push((
            method,
            Answer {
                path,
                status,
                asked,
            },
        ));
    }
    let logged = site.nginx.log()?;
    let failed: Vec<&str> = logged.iter().map(|line| line.request.as_str()).collect();
    println!("{} of {count} {method}s raced", failed.len());
    ensure!(failed.len() >= 5, "too few raced");
    Ok(site.sent_where(answers, |line| failed.contains(&line)))
}
