//! The page of the moment, rendered at most once a second however often it is read: readers share
//! one text, and one that reads in a loop costs little.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Bytes;

use super::{
    exposition::{self, Exposition, Format},
    snapshot::{Shared, Snapshot},
};
use crate::{
    event::Time,
    source::{clock, resident_memory},
};

/// A page is not kept longer (nanoseconds): its age and what tracer uses are of now.
const KEPT: u64 = 1_000_000_000;

/// The last page of each format.
#[derive(Debug)]
pub(super) struct Pages {
    shared: Arc<Shared>,
    kept: Mutex<[Option<Page>; 2]>,
}

#[derive(Debug)]
struct Page {
    of: Arc<Snapshot>,
    at: Time,
    text: Bytes,
}

impl Pages {
    /// Of what is published there.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            kept: Mutex::default(),
        }
    }

    /// The page; `None` if it could not be written.
    pub(super) fn get(&self, format: Format) -> Option<Bytes> {
        let now = clock::now();
        self.shared.reads(now);
        let snapshot = self.shared.snapshot();
        // One thread serves: nobody waits here.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut kept[usize::from(format == Format::Text)];
        if let Some(page) = kept
            && Arc::ptr_eq(&page.of, &snapshot)
            && now.since(page.at) < KEPT
        {
            return Some(page.text.clone());
        }
        let exposition = Exposition {
            snapshot: Arc::clone(&snapshot),
            queues: self.shared.queues(),
            now,
            cpu: clock::process_cpu(),
            resident: resident_memory(),
        };
        let text = Bytes::from(exposition::page(exposition, format).ok()?);
        *kept = Some(Page {
            of: snapshot,
            at: now,
            text: text.clone(),
        });
        Some(text)
    }
}
