//! `connect()` itself failed: routes, addresses.

use super::*;

#[test]
fn a_route_is_told_by_its_lookup() {
    let v4 = "10.0.0.5:80";
    let v6 = "[2001:db8::5]:80";
    let none = routes(0, 0, 0);
    let cases = [
        (
            inet(v4, 113, routes(2, -113, 0)),
            ("route-unreachable", Proven),
        ),
        (inet(v4, 13, routes(2, -13, 0)), ("route-prohibit", Proven)),
        (inet(v4, 22, routes(2, -22, 0)), ("route-blackhole", Proven)),
        (inet(v4, 101, routes(2, -11, 0)), ("no-route", Proven)),
        (inet(v4, 101, routes(2, -101, 0)), ("no-route", Proven)),
        // An `ip rule`: the tables had nothing, the errno is the rule's.
        (inet(v4, 13, routes(1, -11, 0)), ("route-prohibit", Proven)),
        (inet(v4, 22, routes(1, -11, 0)), ("route-blackhole", Proven)),
        (
            inet(v4, 113, routes(1, -11, 0)),
            ("route-unreachable", Proven),
        ),
        (
            inet(v6, 113, routes(1, 0, 7)),
            ("route-unreachable", Proven),
        ),
        (inet(v6, 13, routes(1, 0, 8)), ("route-prohibit", Proven)),
        (inet(v6, 22, routes(1, 0, 6)), ("route-blackhole", Proven)),
        // The kernel's own null entry is of the unreachable type too.
        (inet(v6, 101, routes(1, 0, 7)), ("no-route", Proven)),
        (inet(v6, 101, routes(1, 0, 0)), ("no-route", Proven)),
        // Nothing was looked up: routing is not at fault, and nothing else was seen.
        (inet(v4, 113, none), ("unexplained", Unknown)),
        (inet(v4, 101, none), ("unexplained", Unknown)),
        (inet(v4, 22, none), ("unexplained", Unknown)),
    ];
    for (failure, expected) in cases {
        let case = one(failure.clone(), Facts::default());
        assert_eq!(judged(&case), expected, "{failure:?}");
    }
}

#[test]
fn without_the_lookup_hook_a_route_is_inferred_and_says_so() {
    let case = without(
        one(inet("10.0.0.5:80", 113, routes(0, 0, 0)), Facts::default()),
        "route_lookup",
    );
    let verdict = verdict(&case);
    assert_eq!(
        (verdict.cause, verdict.confidence),
        ("route-unreachable", Inferred)
    );
    let unseen = verdict
        .evidence
        .iter()
        .find(|e| e.event == "unseen")
        .expect("what is out of sight");
    assert!(
        unseen.text.contains("route_lookup (fib_table_lookup)"),
        "{}",
        unseen.text
    );
    // The other family's hook changes nothing.
    let case = without(
        one(inet("10.0.0.5:80", 113, routes(0, 0, 0)), Facts::default()),
        "route_lookup6",
    );
    assert_eq!(judged(&case), ("unexplained", Unknown));
}

#[test]
fn without_any_hook_the_routing_table_is_asked() {
    let unseen = RouteLookup {
        unseen: true,
        ..routes(0, 0, 0)
    };
    let case = |errno, route_error| {
        let listener = Some(ListenerView {
            route_error,
            ..ListenerView::default()
        });
        let facts = Facts {
            listener,
            ..Facts::default()
        };
        judged(&one(inet("10.0.0.5:80", errno, unseen), facts))
    };
    for (errno, cause) in [
        (13, "route-prohibit"),
        (22, "route-blackhole"),
        (101, "no-route"),
        (113, "route-unreachable"),
    ] {
        assert_eq!(case(errno, Some(errno)), (cause, Inferred));
        assert_eq!(case(errno, None), ("unexplained", Unknown));
        assert_eq!(case(errno, Some(1)), ("unexplained", Unknown));
    }
}

#[test]
fn an_address_at_fault_is_told_from_a_route() {
    let found = routes(2, 0, 0);
    let found6 = routes(1, 0, 1);
    let none = routes(0, 0, 0);
    let from_loopback = Failure {
        source: Some(address("127.0.0.1:0")),
        ..inet("10.0.0.5:80", 22, found)
    };
    let cases = [
        (inet("255.255.255.255:80", 101, found), Proven),
        (inet("224.0.0.1:80", 101, found), Proven),
        (inet("[ff02::1]:80", 101, none), Proven),
        (inet("10.0.0.255:80", 101, found), Inferred),
        (inet("[fe80::1]:80", 22, none), Proven),
        (inet("0.1.2.3:80", 22, found), Proven),
        (inet("[2001:db8::1]:80", 97, none), Proven),
        (inet("[2001:db8::1]:80", 99, found6), Proven),
        (inet("[2001:db8::1]:80", 99, none), Inferred),
        (from_loopback, Inferred),
        (
            Failure {
                code: -1,
                ..inet("[2001:db8::1]:80", 97, none)
            },
            Proven,
        ),
    ];
    for (failure, confidence) in cases {
        let status = if failure.code == -1 { 500 } else { 502 };
        let case = request(status, vec![attempt(failure.clone(), Facts::default())]);
        assert_eq!(
            judged(&case),
            ("address-invalid", confidence),
            "{failure:?}"
        );
    }
}

#[test]
fn a_link_local_address_with_its_interface_is_not_at_fault() {
    let mut failure = inet("[fe80::1]:80", 22, routes(0, 0, 0));
    failure.upstream = Some(Upstream::Inet(address("[fe80::1%3]:80")));
    assert_eq!(
        judged(&one(failure, Facts::default())),
        ("unexplained", Unknown)
    );
}
