//! `tracer check`: every peer of a configuration tried as the worker would, before an incident.
//!
//! What cannot be found out is no finding: it is counted as not tried, with the reason. A wrong
//! finding is worse than none. Nothing on the host is changed; a peer sees a connection that is
//! closed again, a TLS hello where nginx speaks TLS, and a HEAD request only where the operator
//! asks for one.

mod accepting;
mod confined;
mod connect;
mod dns;
mod finding;
mod folders;
mod host;
mod load;
mod loops;
mod names;
mod peers;
mod pool;
mod programs;
mod resolve;
mod settings;
mod spoken;
mod subject;
mod targets;
mod tcp;
mod tls;
mod unix;
mod words;

pub use self::{dns::read_answer, names::read_files};
pub(crate) use self::{
    finding::{CONFIG_CHANGED, CONFIG_UNREADABLE, Finding, Report, Severity},
    resolve::NAME_CHANGED,
};

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use self::subject::Subject;
use crate::nginx::Master;

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// How long a peer may take to answer.
    pub(crate) timeout: Duration,
    /// Send a HEAD request.
    pub(crate) http: bool,
    /// Measure how long backends keep idle connections.
    pub(crate) idle: bool,
    /// Another configuration than the running one.
    pub(crate) config: Option<PathBuf>,
}

/// Checks these, one after another; with none of them the file of the options alone. `progress`
/// hears how many peers of how many were tried.
///
/// # Errors
/// A worker's place cannot be entered, or the file of the options cannot be read.
pub(crate) fn run(
    masters: &[Master],
    options: &Options,
    progress: &dyn Fn(usize, usize),
) -> io::Result<Report> {
    let mut report = Report::default();
    if let ([], Some(conf)) = (masters, &options.config) {
        let subject = Subject::of_file(conf)?;
        one(&subject, options, &mut report, progress)?;
    }
    let mut denied = None;
    for master in masters {
        let subject = Subject::of(master, options.config.as_deref());
        match subject.and_then(|subject| one(&subject, options, &mut report, progress)) {
            Ok(()) => report.masters += 1,
            // Its root may be one that lets nobody else in: that costs no other master.
            Err(error) => {
                let pid = master.pid;
                report.untried.push(format!("master {pid}: {error}"));
                let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
                denied = denied.or(is_denied.then_some(error));
            }
        }
    }
    if report.masters == 0 && !masters.is_empty() {
        let untried = || io::Error::other(report.untried.join("; "));
        return Err(denied.unwrap_or_else(untried));
    }
    report.sort();
    Ok(report)
}

fn one(
    subject: &Subject,
    options: &Options,
    report: &mut Report,
    progress: &dyn Fn(usize, usize),
) -> io::Result<()> {
    report.findings.extend(subject.files());
    report.untried.extend(subject.unread());
    peers::check(subject, options, report, progress)?;
    report.findings.extend(loops::check(subject));
    report.findings.extend(settings::check(subject));
    report.findings.extend(folders::check(subject));
    report.findings.extend(confined::check(subject));
    Ok(())
}

/// The file that a running nginx was started with, by its master.
#[must_use]
pub(crate) fn runs(master: &Master, conf: &Path) -> bool {
    master
        .configuration()
        .is_some_and(|own| Path::new(&own) == conf)
}
