//! Folders that nginx writes temporary files to, for a pass that the configuration has.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    finding::Finding,
    host,
    subject::Subject,
    tcp::Fault,
    words::{owner_and_mode, quoted},
};
use crate::{
    event::{
        Question,
        fact::{self, FolderView},
    },
    nginx::config::{Directive, Protocol, Scope, passes},
};

const FOLDERS: [(&str, Option<Protocol>); 5] = [
    ("client_body_temp_path", None),
    ("proxy_temp_path", Some(Protocol::Http)),
    ("fastcgi_temp_path", Some(Protocol::FastCgi)),
    ("uwsgi_temp_path", Some(Protocol::Uwsgi)),
    ("scgi_temp_path", Some(Protocol::Scgi)),
];

/// Folders that are configured for a pass, which a worker cannot write to.
pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut look = |scope: &Scope<'_>, name: &str| {
        let (at, path) = match scope.find(name) {
            Some(directive) => (directive.at.clone(), directive.value().to_owned()),
            // As it was compiled: `--http-proxy-temp-path`.
            None => match subject.temporary.get(name) {
                Some(path) => (subject.whole(), path.to_string_lossy().into_owned()),
                None => return,
            },
        };
        if !seen.insert(path.clone()) {
            return;
        }
        let path = match &subject.prefix {
            Some(prefix) => prefix.join(path),
            None => PathBuf::from(path),
        };
        if !path.is_absolute() || subject.workers.is_empty() {
            return;
        }
        let question = Question::Folder {
            worker: subject.viewer,
            path: path.to_string_lossy().into_owned(),
        };
        if let Some(fact::Finding::Folder(view)) = host::ask(&question) {
            // A reload makes it, though none of those above it.
            let is_made = view.missing.as_deref().map(Path::new) == Some(path.as_path());
            if is_made && (subject.since.is_none() || subject.is_newer(&at.file)) {
                return;
            }
            let fault = folder(name, &path.to_string_lossy(), &view);
            found.extend(fault.map(|fault| subject.finding(&at, fault)));
        }
    };
    for pass in passes(&subject.tree) {
        let limit = pass.find("max_temp_file_size").map(Directive::value);
        for (name, protocol) in FOLDERS {
            // A response is not written there then.
            if protocol.is_some() && limit == Some("0") {
                continue;
            }
            if protocol.is_none_or(|one| one == pass.protocol) && pass.protocol != Protocol::Stream
            {
                look(&pass.scope, name);
            }
        }
    }
    found
}

fn folder(name: &str, path: &str, view: &FolderView) -> Option<Fault> {
    let user = view
        .worker_user
        .clone()
        .unwrap_or(view.worker_uid.to_string());
    let cause = "proxy-storage";
    if view.missing.is_some() {
        return Some(Fault::error(
            cause,
            format!(
                "{path} ({name}) is missing: requests or responses that do not fit into memory fail"
            ),
            "Reload nginx, which makes it: nginx -s reload".to_owned(),
        ));
    }
    if let Some(blocked) = &view.blocked {
        return Some(Fault::error(
            cause,
            format!(
                "{user} may not write to {path} ({name}): {} is {}",
                blocked.path,
                owner_and_mode(blocked)
            ),
            format!(
                "Give it to the worker's user: chown {} {}",
                quoted(&user),
                quoted(&blocked.path)
            ),
        ));
    }
    let room = view.room?;
    let full = |what: &str| {
        Fault::error(
            cause,
            format!("{path} ({name}) is on a file system {what}"),
            format!(
                "Make room, or move it to another file system; see: df -h {}",
                quoted(path)
            ),
        )
    };
    if room.read_only {
        return Some(full("that is mounted read-only"));
    }
    if room.size > 0 && room.free == 0 {
        return Some(full("that is full"));
    }
    (room.free_files == Some(0)).then(|| full("without a free inode"))
}
