//! Refused before routing.

use super::*;
use crate::event::fact::ConfinementView;

const REMOTE: &str = "10.0.0.5:80";

fn confined(modules: &[&str], programs: Option<&[&str]>) -> Facts {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let confinement = ConfinementView {
        modules: owned(modules),
        label: Some("system_u:system_r:httpd_t:s0".to_owned()),
        enforcing: Some(true),
        cgroup: Some("/system.slice/nginx.service".to_owned()),
        cgroup_programs: programs.map(owned),
        ..ConfinementView::default()
    };
    Facts {
        confinement: Some(confinement),
        ..Facts::default()
    }
}

/// Where the security hook's own return is not seen.
fn before_routing(errno: u32, facts: Facts) -> Case {
    without(seen_before_routing(errno, facts), "security")
}

/// Where it is seen, and was no denial.
fn seen_before_routing(errno: u32, facts: Facts) -> Case {
    one(inet(REMOTE, errno, routes(0, 0, 0)), facts)
}

#[test]
fn who_denied_is_told_only_where_one_is_possible() {
    const EPERM: u32 = 1;
    const EACCES: u32 = 13;
    const REFUSED: u32 = 111;
    let program: &[&str] = &["connect4 deny_all"];
    let other_family: &[&str] = &["connect6 deny_all", "egress count"];
    let cases = [
        (
            EACCES,
            confined(&["selinux"], Some(&[])),
            ("lsm-denied", Inferred),
        ),
        (
            EACCES,
            confined(&["selinux"], Some(program)),
            ("lsm-denied", Inferred),
        ),
        (
            EACCES,
            confined(&["capability"], Some(program)),
            ("cgroup-denied", Inferred),
        ),
        (
            EACCES,
            confined(&["capability"], Some(&[])),
            ("unexplained", Unknown),
        ),
        (EACCES, Facts::default(), ("unexplained", Unknown)),
        (
            EPERM,
            confined(&["selinux"], Some(program)),
            ("cgroup-denied", Inferred),
        ),
        (
            EPERM,
            confined(&["selinux", "bpf"], Some(program)),
            ("cgroup-denied", Inferred),
        ),
        (
            EPERM,
            confined(&["selinux", "bpf"], Some(other_family)),
            ("lsm-denied", Inferred),
        ),
        (
            EPERM,
            confined(&["selinux"], Some(&[])),
            ("unexplained", Unknown),
        ),
        (EPERM, confined(&["bpf"], None), ("unexplained", Unknown)),
        (
            EPERM,
            confined(&["selinux"], None),
            ("cgroup-denied", Inferred),
        ),
        (EPERM, Facts::default(), ("unexplained", Unknown)),
        (
            REFUSED,
            confined(&["bpf"], Some(program)),
            ("cgroup-denied", Inferred),
        ),
        (
            REFUSED,
            confined(&["bpf"], Some(&[])),
            ("unexplained", Unknown),
        ),
    ];
    for (i, (errno, facts, expected)) in cases.into_iter().enumerate() {
        let case = before_routing(errno, facts);
        assert_eq!(judged(&case), expected, "case {i}: {:#?}", verdict(&case));
    }
}

#[test]
fn two_that_fit_alike_are_both_named() {
    let verdict = verdict(&before_routing(1, confined(&["bpf"], None)));
    assert_eq!(verdict.cause, "unexplained");
    assert_eq!(
        verdict.summary,
        "lsm-denied and cgroup-denied fit what was seen alike"
    );
}

#[test]
fn a_permissive_module_denies_nothing() {
    let mut facts = confined(&["selinux"], Some(&[]));
    facts.confinement.as_mut().expect("asked").enforcing = Some(false);
    assert_eq!(judged(&before_routing(13, facts)), ("unexplained", Unknown));
}

#[test]
fn landlock_needs_no_new_privs() {
    let mut facts = confined(&["landlock"], Some(&[]));
    assert_eq!(
        judged(&before_routing(13, facts.clone())),
        ("unexplained", Unknown)
    );
    facts.confinement.as_mut().expect("asked").no_new_privs = true;
    let verdict = verdict(&before_routing(13, facts));
    assert_eq!(verdict.cause, "lsm-denied");
    assert!(
        verdict
            .summary
            .starts_with("Landlock (no_new_privs is set) forbids"),
        "{}",
        verdict.summary
    );
}

#[test]
fn a_lookup_before_eacces_clears_the_modules() {
    let case = one(
        inet(REMOTE, 13, routes(2, -13, 0)),
        confined(&["selinux"], Some(&[])),
    );
    assert_eq!(judged(&case), ("route-prohibit", Proven));
}

#[test]
fn without_the_lookup_hook_a_module_and_a_route_fit_alike() {
    let case = without(
        before_routing(13, confined(&["selinux"], Some(&[]))),
        "route_lookup",
    );
    assert_eq!(judged(&case), ("unexplained", Unknown));
}

#[test]
fn a_lookup_that_a_skipped_run_may_have_seen_is_not_told_as_none() {
    let skipping = |mut case: Case, hook: &str| {
        case.skipped.push(Skipped {
            hook: hook.to_owned(),
            runs: 1,
            since: Time(0),
        });
        judged(&case)
    };
    let case = || before_routing(13, confined(&["selinux"], Some(&[])));
    assert_eq!(skipping(case(), "route_lookup"), ("unexplained", Unknown));
    assert_eq!(skipping(case(), "route_lookup6"), ("lsm-denied", Inferred));
}

#[test]
fn modules_that_were_seen_to_deny_nothing_did_not() {
    let program: &[&str] = &["connect4 deny_all"];
    let of = |programs| seen_before_routing(13, confined(&["selinux"], Some(programs)));
    assert_eq!(judged(&of(&[])), ("unexplained", Unknown));
    assert_eq!(judged(&of(program)), ("cgroup-denied", Inferred));
}
