//! SELinux, where its settings keep nginx from connecting.

use super::{finding::Finding, host, subject::Subject, tcp::Fault};
use crate::{
    event::{Question, fact},
    nginx::config::passes,
    process,
};

/// A boolean that is off, if nginx runs as `httpd_t` and connects over TCP.
pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let question = Question::Confinement {
        worker: subject.viewer,
    };
    let Some(fact::Finding::Confinement(view)) = host::ask(&question) else {
        return Vec::new();
    };
    let is_httpd = view
        .label
        .as_deref()
        .is_some_and(|label| label.contains(":httpd_t:"));
    let is_denied = is_httpd
        && view.enforcing == Some(true)
        && ["httpd_can_network_connect", "httpd_can_network_relay"]
            .iter()
            .all(|name| boolean(name) == Some(false));
    let passes = passes(&subject.tree);
    let over_tcp = passes
        .iter()
        .find(|pass| !pass.directive.value().contains("unix:"));
    let Some(pass) = over_tcp.filter(|_| is_denied) else {
        return Vec::new();
    };
    vec![subject.finding(&pass.directive.at, Fault::warning(
        "lsm-denied",
        "SELinux does not let nginx connect to TCP ports of other kinds than http_port_t: the boolean httpd_can_network_connect is off".to_owned(),
        "Turn it on: setsebool -P httpd_can_network_connect 1".to_owned(),
    ))]
}

/// A boolean of SELinux's: its value now.
fn boolean(name: &str) -> Option<bool> {
    let path = format!("/sys/fs/selinux/booleans/{name}");
    let text = process::read_start(path, 16).ok()?;
    Some(text.first() == Some(&b'1'))
}
