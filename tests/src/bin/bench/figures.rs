//! Figures with their targets: medians, pair-by-pair ratios, one table.

use std::cell::Cell;

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// At least.
    AtLeast(f64),
    /// At most.
    AtMost(f64),
    /// It is printed for comparison alone.
    None,
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
            Self::None => true,
        }
    }
}

thread_local! {
    static MISSED: Cell<usize> = const { Cell::new(0) };
}

/// How many figures missed their targets so far.
pub(crate) fn missed() -> usize {
    MISSED.get()
}

/// Prints one figure, and whether it is what it has to be.
pub(crate) fn told(what: &str, value: f64, unit: &str, target: Target) {
    let verdict = match target {
        Target::None => String::new(),
        _ if target.is_met(value) => format!("   target {}  ok", shown(target)),
        _ => format!("   target {}  MISSED", shown(target)),
    };
    println!("  {what:52} {:>12} {unit}{verdict}", number(value));
    if !target.is_met(value) {
        MISSED.set(MISSED.get() + 1);
    }
}

fn shown(target: Target) -> String {
    match target {
        Target::AtLeast(least) => format!(">= {}", number(least)),
        Target::AtMost(most) => format!("<= {}", number(most)),
        Target::None => String::new(),
    }
}

fn number(value: f64) -> String {
    // The sum of nothing is -0.
    let value = value + 0.0;
    match value.abs() {
        size if size >= 1000.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The value with as many above as below; NaN of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value that so much of the others lies below; NaN of none.
pub(crate) fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len => {
            let at = share * (len - 1) as f64;
            let (low, high) = (values[at as usize], values[at.ceil() as usize]);
            low + (high - low) * at.fract()
        }
    }
}

/// A median between the first and the third quartile: `1.02 [0.99-1.05]`.
pub(crate) fn spread(values: &[f64]) -> String {
    let at = |share| quantile(values.iter().copied(), share);
    format!("{:.3} [{:.2}-{:.2}]", at(0.5), at(0.25), at(0.75))
}
