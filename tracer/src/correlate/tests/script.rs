//! Scripts: what several workers do, each in its own order, with the verdict that is right for
//! every request.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::{
    kinds::{FAILING, FINAL, Kind},
    scene::{Act, MS, Request, Scene, attempt},
};
use crate::{
    event::{RequestId, Time},
    verdict::{Confidence, Verdict},
};

/// Time between two acts, of whichever worker.
const GAPS: [u64; 8] = [
    1_000,
    5_000,
    5_000,
    20_000,
    100_000,
    2 * MS,
    30 * MS,
    300 * MS,
];

/// What of a verdict must not depend on chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Essentials {
    pub(super) cause: &'static str,
    pub(super) confidence: Confidence,
    pub(super) masked: bool,
    pub(super) status: Option<u16>,
}

impl From<&Verdict> for Essentials {
    fn from(verdict: &Verdict) -> Self {
        Self {
            cause: verdict.cause,
            confidence: verdict.confidence,
            masked: verdict.masked,
            status: verdict.status,
        }
    }
}

/// How a request ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Answered,
    AnsweredAfter(Kind),
    ServedAndKept,
    ServedAndClosed,
    Aborted,
}

#[derive(Debug, Clone)]
struct Plan {
    worker: u32,
    request: RequestId,
    connection: u64,
    acts: Vec<Act>,
}

impl Plan {
    fn request(&self) -> Request {
        Request {
            worker: self.worker,
            request: self.request,
            connection: self.connection,
            start: Time(0),
            first_byte: None,
            is_retry: false,
            line: String::new(),
            client: None,
        }
    }
}

/// A connection number names a request of it.
#[derive(Debug, Clone)]
pub(super) struct Script {
    plans: Vec<Plan>,
    /// Each worker's acts in order, by index of their request.
    threads: Vec<Vec<(usize, Act)>>,
}

impl Script {
    /// The workers' acts in some order that keeps each worker's own.
    pub(super) fn play(&self, schedule: &[u16], delay: u64) -> Scene {
        let mut scene = Scene::new();
        scene.delay = delay;
        let mut requests: Vec<Request> = self.plans.iter().map(Plan::request).collect();
        for (i, (request, act)) in merge(&self.threads, schedule).into_iter().enumerate() {
            let gap = usize::from(schedule[i % schedule.len()] >> 8);
            scene.wait(GAPS[gap % GAPS.len()]);
            scene.play(&mut requests[request], act);
        }
        scene
    }

    /// The right verdict on each request: on itself alone, with a host that answers.
    pub(super) fn right(&self) -> BTreeMap<u64, Essentials> {
        let alone = |plan: &Plan| {
            let mut scene = Scene::new();
            let mut request = plan.request();
            for &act in &plan.acts {
                scene.wait(30_000);
                scene.play(&mut request, act);
            }
            by_connection(&scene.verdicts())
        };
        self.plans.iter().flat_map(alone).collect()
    }
}

/// Verdicts by connection number; those without one are left out, two of one are a failure.
pub(super) fn by_connection(verdicts: &[Verdict]) -> BTreeMap<u64, Essentials> {
    let mut all = BTreeMap::new();
    for verdict in verdicts {
        if let Some(connection) = verdict.connection {
            let before = all.insert(connection, Essentials::from(verdict));
            assert_eq!(before, None, "two verdicts on one request");
        }
    }
    all
}

/// The lists as one, each in its own order; `picks` says whose turn it is.
fn merge<T: Copy>(lists: &[Vec<T>], picks: &[u16]) -> Vec<T> {
    let mut left: Vec<&[T]> = lists.iter().map(Vec::as_slice).collect();
    let mut merged = Vec::new();
    let mut picks = picks.iter().cycle();
    loop {
        left.retain(|list| !list.is_empty());
        let (false, Some(pick)) = (left.is_empty(), picks.next()) else {
            return merged;
        };
        let turn = usize::from(pick & 0xff) % left.len();
        merged.extend(left[turn].first());
        left[turn] = &left[turn][1..];
    }
}

fn acts(tries: u32, kinds: &[Kind], end: End) -> Vec<Act> {
    let mut acts = Vec::new();
    let mut left = tries;
    let mut last = None;
    let needed = u32::from(!matches!(end, End::Answered));
    for &kind in kinds {
        if left <= needed && kind != Kind::Stale || left == 0 {
            break;
        }
        acts.extend(attempt(kind));
        left -= u32::from(kind != Kind::Stale);
        last = Some(kind);
    }
    match (end, last) {
        (End::Answered, Some(kind)) => acts.push(Act::Answer(kind.status())),
        (End::Answered, None) => {
            acts.extend(attempt(Kind::Refused));
            acts.push(Act::Answer(502));
        }
        (End::AnsweredAfter(kind), _) => {
            acts.extend(attempt(kind));
            acts.push(Act::Answer(kind.status()));
        }
        (End::ServedAndKept, _) => acts.extend([Act::Begin, Act::FirstByte]),
        (End::ServedAndClosed, _) => {
            acts.extend([Act::Begin, Act::FirstByte, Act::Record(Kind::Served)]);
        }
        (End::Aborted, _) => acts.extend(attempt(Kind::Aborted)),
    }
    acts
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        5 => Just(End::Answered),
        2 => prop::sample::select(FINAL.to_vec()).prop_map(End::AnsweredAfter),
        2 => Just(End::ServedAndKept),
        2 => Just(End::ServedAndClosed),
        1 => Just(End::Aborted),
    ]
}

/// One after the other; the tries of their upstream block.
type Slot = (u32, Vec<(Vec<Kind>, End)>);

fn slot() -> impl Strategy<Value = Slot> {
    let kinds = vec(prop::sample::select(FAILING.to_vec()), 0..=3);
    (1u32..=3, vec((kinds, end()), 1..=3))
}

/// One to three workers; up to two requests each at once.
pub(super) fn script() -> impl Strategy<Value = Script> {
    vec((vec(slot(), 1..=2), vec(any::<u16>(), 16)), 1..=3).prop_map(|workers| {
        let mut plans = Vec::new();
        let mut threads = Vec::new();
        for (worker, (slots, order)) in (1..).zip(workers) {
            let mut lists = Vec::new();
            for (tries, requests) in slots {
                let mut list = Vec::new();
                for (kinds, end) in requests {
                    let acts = acts(tries, &kinds, end);
                    list.extend(acts.iter().map(|&act| (plans.len(), act)));
                    plans.push(Plan {
                        worker,
                        request: RequestId(plans.len() as u64),
                        connection: 100 + plans.len() as u64,
                        acts,
                    });
                }
                lists.push(list);
            }
            threads.push(merge(&lists, &order));
        }
        Script { plans, threads }
    })
}
