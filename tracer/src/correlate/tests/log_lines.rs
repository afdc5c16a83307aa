//! Lines of nginx's log find their requests.

use super::*;

fn lines(scene: Scene) -> Vec<(Option<u64>, Vec<String>)> {
    let cases = scene.cases();
    cases
        .into_iter()
        .map(|case| {
            let lines = case.log_lines.into_iter();
            (
                case.connection,
                lines.filter_map(|line| line.request).collect(),
            )
        })
        .collect()
}

#[test]
fn requests_of_a_kept_alive_client_have_their_own_lines_in_order() {
    let mut scene = Scene::new();
    for name in ["GET /a", "GET /b", "GET /c"] {
        scene
            .request(1, 5)
            .line(name)
            .fails(Refused)
            .fails(NoRoute)
            .answers(502);
    }
    let of = |name: &str| (Some(5), vec![name.to_owned(); 2]);
    assert_eq!(lines(scene), [of("GET /a"), of("GET /b"), of("GET /c")]);
}

#[test]
fn workers_with_the_same_connection_number_have_their_own_lines() {
    let mut scene = Scene::new();
    scene
        .request(1, 5)
        .line("GET /a")
        .fails(Refused)
        .answers(502);
    scene
        .request(2, 5)
        .line("GET /b")
        .fails(Refused)
        .answers(502);
    let of = |name: &str| (Some(5), vec![name.to_owned()]);
    assert_eq!(lines(scene), [of("GET /a"), of("GET /b")]);
}

#[test]
fn a_masked_failure_has_its_line() {
    let mut scene = Scene::new();
    let served = scene.request(1, 5).fails(Refused).served();
    drop(served);
    assert_eq!(lines(scene), [(Some(5), vec!["GET /5".to_owned()])]);
}
