//! Work on many things at a time, on threads in a process's place. A file system or a server of
//! someone else's may stall a thread: then it is given up, and what it did not return is missing.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use crate::process::Guest;

/// Threads at a time: each waits for one peer.
const THREADS: usize = 48;

/// Has `work` done on each, by threads that enter the guest's place first. In their order; `None`:
/// nothing came of it, and of no other one either, for so long. `done` hears how many are.
///
/// # Errors
/// The place cannot be entered.
pub(super) fn each<T, R>(
    items: Vec<T>,
    guest: Option<&Guest>,
    patience: Duration,
    done: &dyn Fn(usize, usize),
    work: impl Fn(&T) -> R + Send + Sync + 'static,
) -> io::Result<Vec<Option<R>>>
where
    T: Send + Sync + 'static,
    R: Send + 'static,
{
    let count = items.len();
    let items = Arc::new(items);
    let next = Arc::new(AtomicUsize::new(0));
    let work = Arc::new(work);
    let (sender, results) = mpsc::channel::<io::Result<(usize, R)>>();
    for _ in 0..count.min(THREADS) {
        let (items, next, work) = (Arc::clone(&items), Arc::clone(&next), Arc::clone(&work));
        let (sender, guest) = (sender.clone(), guest.cloned());
        let run = move || {
            if let Some(Err(error)) = guest.map(|guest| guest.enter()) {
                let _ = sender.send(Err(error));
                return;
            }
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(at) else { return };
                if sender.send(Ok((at, work(item)))).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("peer".to_owned()).spawn(run)?;
    }
    drop(sender);
    let mut found: Vec<Option<R>> = (0..count).map(|_| None).collect();
    let mut arrived = 0;
    while arrived < count {
        match results.recv_timeout(patience) {
            Ok(result) => {
                let (at, result) = result?;
                found[at] = Some(result);
                arrived += 1;
                done(arrived, count);
            }
            // A panic was reported; its thread is gone.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn results_come_in_order() {
        let items: Vec<usize> = (0..1000).collect();
        let found = each(items, None, PATIENCE, &|_, _| {}, |item| item * 2).unwrap();
        assert!(
            found
                .iter()
                .enumerate()
                .all(|(at, one)| *one == Some(at * 2))
        );
        let none = each(Vec::new(), None, PATIENCE, &|_, _| {}, |item: &u8| *item);
        assert!(none.unwrap().is_empty());
    }

    #[test]
    fn what_stalls_is_missing_and_the_rest_is_there() {
        let (_release, stall) = mpsc::channel::<()>();
        let stall = std::sync::Mutex::new(stall);
        let patience = Duration::from_millis(100);
        let found = each(vec![1, 2, 3], None, patience, &|_, _| {}, move |item| {
            if *item == 2 {
                let _ = stall.lock().map(|stall| stall.recv());
            }
            *item
        });
        assert_eq!(found.unwrap(), [Some(1), None, Some(3)]);
    }
}
