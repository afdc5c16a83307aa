//! Work on many things at a time, on threads in a process's place.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::process::Guest;

/// Threads at a time: each waits for one peer.
const THREADS: usize = 48;

/// Has `work` done on each, by threads that enter the guest's place first. In their order.
///
/// # Errors
/// The place cannot be entered.
pub(super) fn each<T: Sync, R: Send>(
    items: &[T],
    guest: Option<&Guest>,
    work: impl Fn(&T) -> R + Sync,
) -> io::Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let one_thread = || -> io::Result<()> {
        if let Some(guest) = guest {
            guest.enter()?;
        }
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else {
                return Ok(());
            };
            let result = work(item);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push((at, result));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..items.len().min(THREADS))
            .map(|_| std::thread::Builder::new().spawn_scoped(scope, one_thread))
            .collect();
        for thread in threads {
            let panicked = || io::Error::other("a fault of tracer's own");
            thread?.join().map_err(|_| panicked())??;
        }
        io::Result::Ok(())
    })?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order() {
        let items: Vec<usize> = (0..1000).collect();
        assert_eq!(each(&items, None, |item| item * 2).unwrap()[999], 1998);
        assert!(each(&[], None, |item: &u8| *item).unwrap().is_empty());
    }
}
