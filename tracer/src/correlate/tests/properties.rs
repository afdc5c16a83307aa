//! Chance decides nothing: neither how workers' events interleave, nor where the stream ends, nor
//! which event is lost.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::{
    kinds::{FAILING, FINAL, Kind},
    scene::{MS, replay},
    script::{Essentials, by_connection, script},
};
use crate::verdict::{Confidence, Verdict};

fn schedule() -> impl Strategy<Value = Vec<u16>> {
    vec(any::<u16>(), 64)
}

/// The host is quick, or takes its time.
fn delay() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![100_000, 5 * MS, 60 * MS])
}

/// The right verdict, or one that claims less.
fn is_no_wrong(verdict: &Verdict, right: &BTreeMap<u64, Essentials>) -> bool {
    if verdict.cause == "unexplained" {
        return true;
    }
    match verdict.connection {
        Some(connection) => right.get(&connection).is_some_and(|right| {
            verdict.cause == right.cause
                && verdict.confidence <= right.confidence
                && verdict.masked == right.masked
        }),
        // Of a request that nobody can name: its upstream must have that cause.
        None => FAILING.iter().chain(&FINAL).any(|kind: &Kind| {
            verdict.cause == kind.cause()
                && verdict.upstream == kind.upstream().map(|upstream| upstream.to_string())
        }),
    }
}

fn check_less(
    right: &BTreeMap<u64, Essentials>,
    verdicts: &[Verdict],
    what: &str,
) -> Result<(), TestCaseError> {
    for verdict in verdicts {
        prop_assert!(
            is_no_wrong(verdict, right),
            "{what}: {verdict:#?}\nright: {:#?}",
            verdict.connection.and_then(|number| right.get(&number))
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_of_the_workers_gives_the_same_verdicts(
        script in script(), schedule in schedule(), delay in delay()
    ) {
        let verdicts = script.play(&schedule, delay).verdicts();
        prop_assert_eq!(by_connection(&verdicts), script.right());
        prop_assert!(verdicts.iter().all(|verdict| verdict.connection.is_some()));
    }

    #[test]
    fn a_replay_gives_the_same_verdicts(script in script(), schedule in schedule()) {
        let mut scene = script.play(&schedule, MS);
        scene.wait(2000 * MS);
        let stream = scene.stream.clone();
        prop_assert_eq!(replay(stream), scene.verdicts());
    }

    #[test]
    fn a_stream_that_ends_anywhere_gives_no_wrong_verdict(
        script in script(), schedule in schedule(), delay in delay(), end in any::<prop::sample::Index>()
    ) {
        let scene = script.play(&schedule, delay);
        let end = end.index(scene.stream.len() + 1);
        check_less(&script.right(), &replay(scene.stream[..end].iter().cloned()), "ended early")?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each event of the stream in turn, and nobody says that one was lost.
    #[test]
    fn a_lost_event_turns_no_verdict_into_another_cause(
        script in script(), schedule in schedule(), delay in delay()
    ) {
        let mut scene = script.play(&schedule, delay);
        scene.wait(2000 * MS);
        let right = script.right();
        for lost in 0..scene.stream.len() {
            let rest = scene.stream.iter().enumerate().filter(|(i, _)| *i != lost);
            let verdicts = replay(rest.map(|(_, event)| event.clone()));
            check_less(&right, &verdicts, &format!("without {:?}", scene.stream[lost].1))?;
        }
    }
}

#[test]
fn each_kind_of_failure_alone_has_its_cause() {
    for kind in FAILING.into_iter().chain(FINAL) {
        let mut scene = super::Scene::new();
        scene.request(1, 5).fails(kind).answers(kind.status());
        let verdicts = scene.verdicts();
        let [verdict] = &verdicts[..] else {
            panic!("{kind:?}: {verdicts:#?}");
        };
        assert_eq!(verdict.cause, kind.cause(), "{kind:?}: {verdict:#?}");
        assert_ne!(verdict.confidence, Confidence::Unknown, "{kind:?}");
    }
}
