//! The thread `otlp`: it takes batches from the queue and sends them, each until the collector
//! answers. It has no capability.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime,
    time::{sleep, timeout},
};

use super::{
    batch::{self, Part, Resource},
    endpoint::Endpoint,
    post::{Answer, post},
    queue::Queue,
};
use crate::{
    event::Clock,
    say::say,
    source::{clock, keep_nothing},
};

/// Items of a batch.
const BATCH: usize = 256;
/// What a batch that is not full waits for more.
const GATHER: Duration = Duration::from_millis(500);
/// Before the first retry; doubled each time.
const SOON: Duration = Duration::from_millis(500);
/// Between later ones.
const LATE: Duration = Duration::from_secs(15);
/// Between tries once the run ends.
const LAST: Duration = Duration::from_millis(100);

/// Starts it.
///
/// # Errors
/// It cannot be started.
pub(super) fn start(
    endpoint: Endpoint,
    host: &str,
    clock: Clock,
    queue: Arc<Queue>,
) -> io::Result<()> {
    let mut runtime = runtime::Builder::new_current_thread();
    let runtime = runtime.enable_io().enable_time().build()?;
    let sender = Sender {
        endpoint,
        resource: Resource::new(host),
        clock,
        queue,
        is_down: false,
        has_refused: false,
    };
    thread::Builder::new()
        .name("otlp".to_owned())
        .spawn(move || {
            keep_nothing();
            runtime.block_on(sender.run());
        })
        .map(drop)
}

struct Sender {
    endpoint: Endpoint,
    resource: Resource,
    clock: Clock,
    queue: Arc<Queue>,
    /// The collector did not answer, which was said.
    is_down: bool,
    /// It was said that it refuses.
    has_refused: bool,
}

impl Sender {
    async fn run(mut self) {
        loop {
            self.gathered().await;
            let items = self.queue.take(BATCH);
            if items.is_empty() {
                if self.queue.until().is_some() {
                    break;
                }
                continue;
            }
            let observed = clock::reading().wall;
            // Written to memory: it does not fail.
            let parts = batch::parts(&items, &self.resource, &self.clock, observed);
            let mut refused = 0;
            for part in parts.unwrap_or_default() {
                match self.sent(part).await {
                    Some(some) => refused = some.max(refused),
                    None => {
                        self.queue.end();
                        return;
                    }
                }
            }
            self.queue.done(refused.min(items.len() as u64));
        }
        self.queue.end();
    }

    /// Waits until there is a batch, or the run ends.
    async fn gathered(&self) {
        let is_ready = || self.queue.len() >= BATCH || self.queue.until().is_some();
        while self.queue.len() == 0 && !is_ready() {
            self.queue.changed().await;
        }
        let full = async {
            while !is_ready() {
                self.queue.changed().await;
            }
        };
        // Whatever came by then is a batch.
        let _ = timeout(GATHER, full).await;
    }

    /// Sends it until it is answered; returns how many items the collector refused, or none if the
    /// run ended before.
    async fn sent(&mut self, part: Part) -> Option<u64> {
        let mut pause = SOON;
        loop {
            let answer = self.answer(&part).await?;
            let (why, wait) = match answer {
                Answer::Taken { refused } => {
                    self.answers();
                    return Some(refused);
                }
                Answer::Refused(why) => {
                    self.refuses(&why);
                    return Some(part.items);
                }
                Answer::Later(why, wait) => (why, wait),
            };
            self.is_late(&why);
            self.pause(wait.unwrap_or(Duration::ZERO).max(pause)).await;
            pause = (pause * 2).min(LATE);
        }
    }

    /// One try; none if the run's end cut it short.
    async fn answer(&self, part: &Part) -> Option<Answer> {
        let mut answer = std::pin::pin!(post(&self.endpoint, part.path, part.body.clone()));
        loop {
            let Some(until) = self.queue.until() else {
                tokio::select! {
                    answer = &mut answer => return Some(answer),
                    () = self.queue.changed() => continue,
                }
            };
            let left = until.saturating_duration_since(Instant::now());
            return timeout(left, answer).await.ok();
        }
    }

    /// Waits before a retry; not for long once the run ends.
    async fn pause(&self, long: Duration) {
        let end = Instant::now() + long;
        while self.queue.until().is_none() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || timeout(left, self.queue.changed()).await.is_err() {
                return;
            }
        }
        sleep(LAST).await;
    }

    fn is_late(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_down, true) {
            say!("otlp: {}: {why}; trying again", self.endpoint);
        }
    }

    fn answers(&mut self) {
        if std::mem::take(&mut self.is_down) {
            say!("otlp: {} answers again", self.endpoint);
        }
    }

    fn refuses(&mut self, why: &str) {
        self.answers();
        if !std::mem::replace(&mut self.has_refused, true) {
            say!("otlp: {} refuses verdicts: {why}", self.endpoint);
        }
    }
}
