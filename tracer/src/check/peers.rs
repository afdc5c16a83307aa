//! All peers of a configuration, tried at the same time, and what is wrong with each.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use super::{
    Options, accepting,
    connect::{self, Address, Attempt, Outcome},
    finding::{Finding, Report, Severity},
    host::Host,
    load, pool,
    resolve::Names,
    settings, spoken,
    subject::Subject,
    targets::{Group, groups},
    tcp::{self, Fault, Shown},
    unix,
};
use crate::{
    nginx::config::{self, At, Protocol},
    process::Guest,
};

/// A peer of a group.
struct Peer {
    attempt: Attempt,
    at: At,
    /// As it is shown: with its name, if it has one.
    shown: String,
    backup: bool,
}

/// Tries all.
///
/// # Errors
/// The worker's place cannot be entered.
pub(super) fn check(
    subject: &Subject,
    options: &Options,
    report: &mut Report,
    progress: &dyn Fn(usize, usize),
) -> io::Result<()> {
    let groups = groups(&subject.tree);
    let names = Names::of(subject, &groups, options.timeout)?;
    let mut say = |at: &At, peer: Option<&str>, fault: Fault| {
        let finding = subject.finding(at, fault);
        report.findings.push(Finding {
            peer: peer.map(str::to_owned),
            ..finding
        });
    };
    for (at, fault) in names.silent() {
        say(&at, None, fault);
    }
    let mut all: Vec<(&Group<'_>, Vec<Peer>)> = Vec::new();
    let mut untried = Vec::new();
    let mut moved: Vec<(&At, Fault, Vec<Attempt>)> = Vec::new();
    for group in &groups {
        let mut peers = Vec::new();
        for member in &group.members {
            let place = names.place(subject, member);
            if let Some(fault) = place.fault {
                say(&member.at, None, fault);
            }
            untried.extend(place.untried);
            if let Some(kept) = place.kept {
                let addresses = kept.addresses.iter().map(|one| Address::Tcp(*one));
                let attempts = addresses.map(|address| plain(group, address)).collect();
                moved.push((&member.at, kept.fault, attempts));
            }
            if group.is_udp {
                continue;
            }
            for address in place.addresses {
                peers.push(Peer {
                    shown: shown(&address, &member.host),
                    attempt: wanted(group, address, options),
                    at: member.at.clone(),
                    backup: member.backup,
                });
            }
        }
        all.push((group, peers));
    }
    let attempts: BTreeSet<&Attempt> = all
        .iter()
        .flat_map(|(_, peers)| peers)
        .map(|peer| &peer.attempt)
        .chain(moved.iter().flat_map(|(_, _, attempts)| attempts))
        .collect();
    let attempts: Vec<&Attempt> = attempts.into_iter().collect();
    let addresses: BTreeSet<&Address> = attempts.iter().map(|one| &one.address).collect();
    report.peers += addresses.len();
    let guest = subject.guest.as_ref();
    let waits = longest(&attempts, options);
    let outcomes = tried(&attempts, guest, options, waits, progress)?;
    let mut host = Host::new(subject.viewer);
    let mut results: BTreeMap<&Attempt, (Outcome, Vec<Fault>)> = BTreeMap::new();
    let mut doubtful = Vec::new();
    let mut reached = Vec::new();
    for (attempt, outcome) in attempts.into_iter().zip(outcomes) {
        let faults = faults(&mut host, attempt, &outcome, options);
        if let (Outcome::Failed(_) | Outcome::Silent, [fault, ..]) = (&outcome, &faults[..])
            && matches!(
                fault.cause,
                "firewall-reject" | "firewall-drop" | "no-listener"
            )
        {
            doubtful.push(attempt);
        }
        let fails = faults.iter().any(|one| one.severity == Severity::Error);
        if outcome == Outcome::Well && !fails {
            reached.push(&attempt.address);
        }
        results.insert(attempt, (outcome, faults));
    }
    let idle = accepting::not_accepting(&mut host, reached, options.timeout);
    for (attempt, (_, faults)) in &mut results {
        let waiting = idle
            .iter()
            .find(|(address, _)| **address == attempt.address);
        faults.extend(waiting.map(|(_, fault)| fault.clone()));
    }
    // A backend that was just restarting: what fails twice fails.
    let again = tried(&doubtful, guest, options, waits, progress)?;
    for (attempt, outcome) in doubtful.into_iter().zip(again) {
        if outcome == Outcome::Well {
            results.insert(attempt, (outcome, Vec::new()));
        }
    }
    for (group, peers) in &all {
        let works = |peer: &&Peer| {
            let result = results.get(&peer.attempt);
            result.is_some_and(|(_, faults)| {
                faults.iter().all(|fault| fault.severity != Severity::Error)
            })
        };
        let is_served = peers.iter().any(|peer| works(&peer));
        for peer in peers {
            let Some((outcome, faults)) = results.get(&peer.attempt) else {
                continue;
            };
            if let Outcome::Untried(why) = outcome {
                untried.push(format!("{}: {why}", peer.shown));
            }
            for fault in faults {
                let mut fault = fault.clone();
                if fault.severity == Severity::Error && (is_served || peer.backup) {
                    fault.severity = Severity::Warning;
                    if peers.len() > 1 && is_served {
                        fault.text += &instead(group, peer);
                    }
                }
                say(&peer.at, Some(&peer.shown), fault);
            }
            if let (Some(kept), Address::Tcp(address)) = (group.keepalive, &peer.attempt.address)
                && peer.attempt.idle.is_none()
                && faults.iter().all(|one| one.severity != Severity::Error)
            {
                let fault = host
                    .listener(*address)
                    .and_then(|view| load::kept(&peer.shown, kept, &view));
                if let Some(fault) = fault {
                    say(&peer.at, Some(&peer.shown), fault);
                }
            }
        }
    }
    for (at, mut fault, attempts) in moved.iter().cloned() {
        let mut faults = attempts
            .iter()
            .filter_map(|one| results.get(one)?.1.first());
        if let Some(failed) = faults.find(|one| one.severity == Severity::Error) {
            fault.severity = Severity::Error;
            fault.text += &format!("; {}", failed.text);
        }
        say(at, None, fault);
    }
    report
        .findings
        .extend(settings::of_groups(subject, &groups));
    report.untried.extend(untried);
    Ok(())
}

/// Longer than any of these takes.
fn longest(attempts: &[&Attempt], options: &Options) -> Duration {
    let idle = attempts.iter().filter_map(|one| one.idle).max();
    options.timeout * 16 + idle.unwrap_or_default()
}

/// Tries them, at the same time.
fn tried(
    attempts: &[&Attempt],
    guest: Option<&Guest>,
    options: &Options,
    waits: Duration,
    progress: &dyn Fn(usize, usize),
) -> io::Result<Vec<Outcome>> {
    let attempts: Vec<Attempt> = attempts.iter().copied().cloned().collect();
    let (place, patience) = (guest.cloned(), options.timeout);
    let outcomes = pool::each(attempts, guest, waits, progress, move |attempt| {
        connect::attempt(attempt, place.as_ref(), patience)
    })?;
    let stalled = || Outcome::Untried("it stalls who connects".to_owned());
    let outcomes = outcomes.into_iter();
    Ok(outcomes.map(|one| one.unwrap_or_else(stalled)).collect())
}

/// What else there is.
fn instead(group: &Group<'_>, peer: &Peer) -> String {
    let is_one_name = group.members.len() == 1 && !group.name().is_empty();
    match is_one_name {
        true => format!(
            "; {} has other addresses, which work: nginx tries this one in turn",
            peer.shown.split(':').next().unwrap_or_default()
        ),
        false => "; other servers of the group work".to_owned(),
    }
}

fn shown(address: &Address, host: &config::Host) -> String {
    match host {
        config::Host::Name(name) => format!("{name} ({address})"),
        _ => address.to_string(),
    }
}

/// A connection alone.
fn plain(group: &Group<'_>, address: Address) -> Attempt {
    Attempt {
        address,
        bind: group.bind.as_ref().map(|(ip, _)| *ip),
        tls: None,
        head: None,
        idle: None,
    }
}

fn wanted(group: &Group<'_>, address: Address, options: &Options) -> Attempt {
    let is_http = group.pass.protocol == Protocol::Http && group.tls.is_none();
    let asks = is_http && (options.http || options.idle);
    Attempt {
        tls: group.tls.clone(),
        head: asks.then(|| group.host.clone()),
        idle: group.keepalive.filter(|_| asks && options.idle),
        ..plain(group, address)
    }
}

/// What is wrong with one peer.
fn faults(host: &mut Host, attempt: &Attempt, outcome: &Outcome, options: &Options) -> Vec<Fault> {
    let mut faults = Vec::new();
    match &attempt.address {
        Address::Tcp(peer) => {
            let shown = Shown {
                listener: host.listener(*peer),
                ports: host.ports(*peer),
                worker: host.viewer,
            };
            match outcome {
                Outcome::Failed(errno) => faults.push(tcp::failed(*peer, *errno, &shown)),
                Outcome::Silent => faults.push(tcp::silent(*peer, options.timeout, &shown)),
                Outcome::Unbound(errno) => {
                    faults.push(spoken::unbound(attempt, *errno, host.viewer))
                }
                _ => faults.extend(load::of_tcp(*peer, &shown)),
            }
        }
        Address::Unix(path) => {
            let view = host.path(path);
            match outcome {
                Outcome::Failed(errno) => {
                    faults.push(unix::failed(path, *errno, view.as_ref()));
                }
                _ => faults.extend(view.and_then(|view| load::of_unix(path, &view))),
            }
        }
    }
    faults.extend(spoken::judge(attempt, outcome, options));
    faults
}
