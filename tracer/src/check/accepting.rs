//! Backends of this host that take no connection off their queue: stopped, stuck, or out of
//! workers. The kernel accepts for them until the queue is full.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    connect::Address,
    host::Host,
    tcp::Fault,
    words::{duration, holder},
};
use crate::event::fact::Listener;

/// Between two polls.
const PAUSE: Duration = Duration::from_millis(50);

/// Of these, which all were connected to, those whose queue did not shrink for so long. Without a
/// queue nothing is waited for.
pub(super) fn not_accepting<'a>(
    host: &mut Host,
    reached: Vec<&'a Address>,
    patience: Duration,
) -> Vec<(&'a Address, Fault)> {
    let end = Instant::now() + patience;
    let mut waiting: BTreeMap<&Address, u32> = reached.into_iter().map(|one| (one, 0)).collect();
    loop {
        host.refresh();
        let mut found = Vec::new();
        waiting.retain(|address, before| {
            let listeners = listeners(host, address);
            let queue = listeners.iter().map(|one| one.queue).sum::<u32>();
            let is_stuck = queue > 0 && queue >= *before;
            *before = queue;
            found.extend(
                listeners
                    .into_iter()
                    .next()
                    .filter(|_| is_stuck)
                    .map(|one| (*address, one)),
            );
            is_stuck
        });
        if waiting.is_empty() {
            return Vec::new();
        }
        if Instant::now() >= end {
            let fault = |(address, listener): (&'a Address, Listener)| {
                (address, fault(address, &listener, patience))
            };
            return found.into_iter().map(fault).collect();
        }
        std::thread::sleep(PAUSE);
    }
}

fn listeners(host: &mut Host, address: &Address) -> Vec<Listener> {
    match address {
        Address::Tcp(address) => host.listener(*address).map(|view| view.exact),
        Address::Unix(path) => host
            .path(path)
            .map(|view| view.listener.into_iter().collect()),
    }
    .unwrap_or_default()
}

fn fault(address: &Address, listener: &Listener, patience: Duration) -> Fault {
    let name = listener
        .owner
        .as_ref()
        .map_or("the backend", |owner| owner.name.as_str());
    let pid = listener.owner.as_ref().map(|owner| owner.pid);
    let see = match pid {
        Some(pid) => format!("; see: cat /proc/{pid}/stack"),
        None => String::new(),
    };
    Fault::error(
        "backend-not-accepting",
        format!(
            "{} accepts no connection on {address}: none of {} that wait was taken within {}",
            holder(listener),
            listener.queue,
            duration(patience)
        ),
        format!("Find out whether {name} is stopped, or has all its workers busy{see}"),
    )
}
