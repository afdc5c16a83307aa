//! Folding.

use super::*;
use crate::render::{
    Folder,
    text::{self, Style},
};

fn at(nanoseconds: u64, verdict: Verdict) -> Verdict {
    Verdict {
        time: AT.plus(nanoseconds),
        ..verdict
    }
}

/// What a run prints: `*` for a verdict in full, and the folds.
fn run(verdicts: &[Verdict], ticks: bool) -> String {
    let mut folder = Folder::default();
    let style = Style::default();
    printed(|out| {
        for verdict in verdicts {
            // A tick just before a verdict must not change what is printed.
            let mut folds = if ticks {
                folder.tick(Time(verdict.time.0 - 1))
            } else {
                Vec::new()
            };
            let (more, full) = folder.take(verdict);
            folds.extend(more);
            folds
                .iter()
                .try_for_each(|fold| text::fold(out, fold, &CLOCK, &style))?;
            if full {
                out.extend_from_slice(format!("* {}\n", verdict.cause).as_bytes());
            }
        }
        folder
            .finish()
            .iter()
            .try_for_each(|fold| text::fold(out, fold, &CLOCK, &style))
    })
}

#[test]
fn the_same_again_is_counted_until_another_comes() {
    let mut verdicts: Vec<Verdict> = (0..42).map(|i| at(i * 100 * MS, refused())).collect();
    verdicts.push(at(5 * SECOND, masked()));
    let expected = "* no-listener\n  (41 more like this until 10:15:27.512)\n* syn-timeout\n";
    assert_eq!(run(&verdicts, false), expected);
    assert_eq!(run(&verdicts, true), expected);
}

#[test]
fn two_kinds_in_turn_are_both_folded() {
    let verdicts: Vec<Verdict> = (0..20)
        .map(|i| at(i * 100 * MS, if i % 2 == 0 { refused() } else { masked() }))
        .collect();
    assert_eq!(
        run(&verdicts, true),
        "* no-listener\n* syn-timeout\n  (9 more no-listener, 127.0.0.1:3000 until 10:15:25.212)\n  \
         (9 more syn-timeout, 10.0.0.5:80 until 10:15:25.312)\n"
    );
}

#[test]
fn a_quiet_gap_ends_a_burst() {
    let verdicts = [
        at(0, refused()),
        at(SECOND, refused()),
        at(7 * SECOND, refused()),
    ];
    let expected = "* no-listener\n  (1 more like this until 10:15:24.412)\n* no-listener\n";
    assert_eq!(run(&verdicts, false), expected);
    assert_eq!(run(&verdicts, true), expected);
}

#[test]
fn a_long_burst_says_how_far_it_is() {
    let verdicts: Vec<Verdict> = (0..=25).map(|i| at(i * SECOND, refused())).collect();
    assert_eq!(
        run(&verdicts, true),
        "* no-listener\n  (10 more like this until 10:15:33.412)\n  (10 more like this until 10:15:43.412)\n  \
         (5 more like this until 10:15:48.412)\n"
    );
}

#[test]
fn many_kinds_at_once_are_bounded_and_none_is_lost() {
    let kinds: Vec<Verdict> = (0..100)
        .map(|i| {
            at(
                i,
                Verdict {
                    upstream: Some(format!("10.0.0.1:{i}")),
                    ..refused()
                },
            )
        })
        .collect();
    assert_eq!(run(&kinds, false).lines().count(), 100);
}
