//! Requests a second and CPU a request, under each condition: shuffled within each repetition, each
//! compared with the sham of its own repetition.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::Length;
use crate::beside::{self, Beside};
use crate::figures::{Target, median, spread, told};
use crate::load::{self, Stretch};
use crate::scene::{Kind, Scene};

/// A row of the table of targets.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// What it is called.
    pub(crate) title: &'static str,
    /// How requests are served.
    pub(crate) kind: Kind,
    /// Requests a second against the sham, at least.
    pub(crate) rate: f64,
    /// CPU a request against the sham, at most.
    pub(crate) cost: Option<f64>,
}

/// Measures a row under all conditions.
pub(crate) fn run(row: Row, length: &Length) -> Result<()> {
    println!(
        "\n{}: {} repetitions of {} s a condition",
        row.title, length.repetitions, length.seconds
    );
    let mut random = Random::seeded();
    let mut samples: BTreeMap<usize, Vec<Stretch>> = BTreeMap::new();
    let mut losses = Vec::new();
    for repetition in 0..length.repetitions {
        for at in random.order(beside::ALL.len()) {
            let beside = beside::ALL[at];
            if !beside.suits(row.kind) || (length.alone && beside.is_alternative()) {
                continue;
            }
            let Some((stretch, lost)) = one(row.kind, beside, length.seconds)? else {
                continue;
            };
            losses.extend(lost);
            samples.entry(at).or_default().push(stretch);
        }
        eprintln!("  repetition {} of {}", repetition + 1, length.repetitions);
    }
    table(&samples);
    let sham = samples.get(&0).context("no sham")?;
    for (at, stretches) in &samples {
        let beside = beside::ALL[*at];
        if !matches!(beside, Beside::Live | Beside::Record | Beside::Ring) {
            continue;
        }
        let (rate, cost) = ratios(stretches, sham);
        let name = beside.name();
        told(
            &format!("{name}: requests/s against the sham"),
            median(rate),
            "",
            Target::AtLeast(row.rate),
        );
        if let Some(limit) = row.cost {
            told(
                &format!("{name}: CPU per request against the sham"),
                median(cost),
                "",
                Target::AtMost(limit),
            );
        }
    }
    told(
        "kernel records lost",
        losses.iter().sum(),
        "",
        Target::AtMost(0.0),
    );
    Ok(())
}

/// One stretch under one condition, in a scene of its own.
fn one(kind: Kind, beside: Beside, seconds: u64) -> Result<Option<(Stretch, Option<f64>)>> {
    let scene = Scene::new(kind, beside.error_log())?;
    let Some(running) = beside.start(&scene)? else {
        return Ok(None);
    };
    // Caches, the CPU's clock, nginx's pools.
    load::wrk(&scene, 1, &[])?;
    let stretch = load::wrk(&scene, seconds, &[running.pid()])?;
    if kind.is_failing() {
        ensure!(stretch.failed > 0.0, "no request failed");
    } else {
        ensure!(stretch.failed == 0.0, "{} requests failed", stretch.failed);
    }
    let said = running.end()?;
    Ok(Some((stretch, said.map(|said| lost(&said)))))
}

/// What tracer's summary says was lost.
pub(crate) fn lost(said: &str) -> f64 {
    said.lines()
        .filter(|line| line.contains("kernel record") && line.contains("lost"))
        .filter_map(|line| {
            line.split_whitespace()
                .next()?
                .replace(',', "")
                .parse::<f64>()
                .ok()
        })
        .sum()
}

fn ratios(of: &[Stretch], to: &[Stretch]) -> (Vec<f64>, Vec<f64>) {
    let pairs = || of.iter().zip(to);
    (
        pairs().map(|(one, sham)| one.rate / sham.rate).collect(),
        pairs()
            .map(|(one, sham)| one.cost() / sham.cost())
            .collect(),
    )
}

fn table(samples: &BTreeMap<usize, Vec<Stretch>>) {
    println!(
        "  {:18} {:>10} {:>20} {:>20} {:>8} {:>8} {:>8} {:>8}",
        "beside",
        "requests/s",
        "against sham",
        "CPU/request",
        "proxy",
        "kernel",
        "others",
        "itself"
    );
    let Some(sham) = samples.get(&0) else { return };
    for (at, stretches) in samples {
        let (rate, cost) = ratios(stretches, sham);
        let each = |value: fn(&Stretch) -> f64| {
            median(stretches.iter().map(|one| value(one) / one.requests / 1e3))
        };
        println!(
            "  {:18} {:>10.0} {:>20} {:>20} {:>8.1} {:>8.1} {:>8.1} {:>8.2}",
            beside::ALL[*at].name(),
            median(stretches.iter().map(|one| one.rate)),
            spread(&rate),
            spread(&cost),
            each(|one| one.proxy),
            each(|one| one.proxy * one.kernel_share),
            each(|one| one.others),
            each(|one| one.beside),
        );
    }
    println!("  medians; ratios with quartiles; proxy … itself: CPU, microseconds a request");
}

/// Enough chance to shuffle by (xorshift).
pub(crate) struct Random(u64);

impl Random {
    /// Another order each time.
    pub(crate) fn seeded() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(now.map_or(1, |now| now.as_nanos() as u64 | 1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The numbers below `count` in a random order.
    pub(crate) fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for at in (1..count).rev() {
            order.swap(at, (self.next() % (at as u64 + 1)) as usize);
        }
        order
    }
}
