//! nginx cannot write, or read back, a file of its own: `proxy-storage`.

use super::{
    cause::{ByHand, Cause},
    errno,
    finding::Finding,
    logged::Logged,
    scene::Scene,
    wording,
};
use crate::event::{LogCall, Said, fact::FolderView};

pub(super) static PROXY_STORAGE: Cause = Cause {
    id: "proxy-storage",
    title: "nginx could not store a request or a response in its own temporary files or cache",
    split: "nginx logs a failed open(), pwritev() or mkdir() on a file of its own for this request, then ends it: 500 \
            while it stores the request body, a response cut short while it stores the response. The backend is not \
            at fault.",
    log_lines: &[
        "pwritev() \"/var/lib/nginx/proxy/1/00/0000000001\" failed (28: No space left on device) while reading upstream",
        "open() \"/var/lib/nginx/body/0000000001\" failed (13: Permission denied)",
        "could not allocate node in cache keys zone \"app\"",
    ],
    logged: &[Logged::of(&[
        Said::OpenFailed,
        Said::FileReadFailed,
        Said::FileWriteFailed,
        Said::MkdirFailed,
        Said::KeysZoneFull,
    ])
    .anywhere()],
    by_hand: ByHand {
        command: "df -h FILE",
        shows: "the file system is full; if not, namei -l FILE shows who may write",
    },
    client_gets: "500, or the original status, cut short",
    fix: "Free space on the file system of proxy_temp_path, client_body_temp_path or proxy_cache_path, or let the \
          worker's user write there.",
    matches: Some(storage),
};

/// nginx's word on it.
pub(super) fn call<'a>(scene: &Scene<'a>) -> Option<&'a LogCall> {
    let case = scene.case;
    let is_such = if case.status == Some(500) {
        Said::is_of_storage_or_folder
    } else {
        Said::is_of_storage
    };
    let mut calls = case.log_calls.iter();
    let is_its = |call: &&LogCall| is_such(call.said()) && scene.is_during(call);
    // Else the failure is another one: a retry goes on with the body that it has.
    let ends_it = case.cut_short || case.status == Some(500);
    calls.find(is_its).filter(|_| ends_it && scene.is_last())
}

fn storage(scene: &Scene<'_>) -> Option<Finding> {
    let call = call(scene)?;
    let folder = scene.case.host.folder.as_ref();
    let path = path(scene, call);
    let place = path.as_deref().unwrap_or("a temporary file");
    let why = match call.errno {
        0 => "only a part was written".to_owned(),
        errno => errno::name(errno),
    };
    let doing = match call.said() {
        Said::OpenFailed => "create",
        Said::MkdirFailed => "create the folder",
        Said::FileReadFailed => "read back",
        _ => "write",
    };
    let effect = match scene.case.status {
        Some(500) => "the request could not be stored",
        _ => "the client got the response cut short",
    };
    if call.said() == Said::KeysZoneFull {
        return Some(full_zone(scene, call));
    }
    let finding = Finding::proven(format!("nginx could not {doing} {place}: {why}; {effect}"))
        .fact(
            "backend",
            "the backend did nothing wrong: nginx ended the request itself",
        );
    let finding = match folder {
        Some(view) => described(finding, view),
        None => finding,
    };
    let in_folder = folder
        .and_then(|view| view.folder.as_ref().map(|it| it.path.clone()))
        .or_else(|| Some(path.as_deref()?.rsplit_once('/')?.0.to_owned()));
    let target = in_folder.map_or_else(|| "FOLDER".to_owned(), |path| wording::quoted(&path));
    let see = format!("confirm: df -h {target}; df -i {target}; namei -l {target}");
    let (directive, limit) = match scene.case.status {
        Some(500) => (
            "client_body_temp_path",
            "limit what nginx stores of a request: client_max_body_size, or proxy_request_buffering off",
        ),
        _ => (
            "proxy_temp_path, or proxy_cache_path where the response is cached",
            "limit what nginx stores of a response: proxy_max_temp_file_size (0 stores nothing), proxy_cache_path max_size=",
        ),
    };
    let finding = match call.errno {
        errno::ENOSPC | errno::EDQUOT | 0 => finding
            .advise(format!("free space on the file system of {target}, or move it: {directive}"))
            .advise(limit),
        errno::EACCES | errno::EPERM => finding.advise(match owner(folder) {
            Some(user) => format!(
                "let the worker write there: chown {} {target}",
                wording::quoted(&user)
            ),
            None => format!("let the worker's user write to {target}"),
        }),
        errno::EROFS => finding.advise(format!("mount the file system of {target} read-write, or move the path")),
        errno::ENOENT | errno::ENOTDIR => finding.advise(format!("create the folder again (nginx makes it at start alone): mkdir -p {target}, then reload nginx")),
        errno::EMFILE | errno::ENFILE => finding.advise("raise the limit on open files: worker_rlimit_nofile"),
        _ => finding.advise(format!("look at the file system of {target}: dmesg | tail")),
    };
    Some(finding.advise(see).rests_on_complete_records(scene))
}

/// The cache's shared memory has no room for a key, and every key there is in use.
fn full_zone(scene: &Scene<'_>, call: &LogCall) -> Finding {
    let zone = call.text.as_deref().and_then(|text| text.split('"').nth(1));
    let zone = zone.map_or_else(
        || "the keys_zone of its cache".to_owned(),
        |name| format!("keys_zone {name} of its cache"),
    );
    Finding::inferred(
        format!("nginx has no room for another key in {zone}: it answers 500"),
        "that the key is this request's: nginx logs it in no request's name",
    )
    .fact(
        "backend",
        "the backend did nothing wrong: nginx did not ask it",
    )
    .advise(
        "enlarge the zone: proxy_cache_path … keys_zone=NAME:SIZE (1 MiB holds about 8000 keys)",
    )
    .advise("confirm: nginx -T 2>/dev/null | grep -nE '_cache_path .*keys_zone='")
    .rests_on_complete_records(scene)
}

/// The worker's user, where it is one to own files.
fn owner(folder: Option<&FolderView>) -> Option<String> {
    let view = folder?;
    Some(
        view.worker_user
            .clone()
            .unwrap_or_else(|| view.worker_uid.to_string()),
    )
}

/// The file, as nginx's memory had it; of a long path its log's line has all.
fn path(scene: &Scene<'_>, call: &LogCall) -> Option<String> {
    let seen = call.text.as_deref()?;
    let lines = scene.case.sure_lines();
    let mut quoted = lines.filter_map(|line| line.message.split('"').nth(1));
    let whole = quoted.find(|path| path.starts_with(seen));
    Some(whole.unwrap_or(seen).to_owned())
}

fn described(mut finding: Finding, view: &FolderView) -> Finding {
    if let Some(missing) = &view.missing {
        finding = finding.fact("path", format!("{missing} does not exist now"));
    }
    if let Some(room) = view.room {
        let files = match room.free_files {
            Some(0) => ", no file can be made (inodes)".to_owned(),
            _ => String::new(),
        };
        let how = if room.read_only {
            ", mounted read-only"
        } else {
            ""
        };
        finding = finding.fact(
            "space",
            format!(
                "its file system has {} of {} free now{files}{how}; nginx deletes a temporary file as its request ends",
                wording::bytes(room.free),
                wording::bytes(room.size)
            ),
        );
    }
    if let Some(folder) = view.blocked.as_ref().or(view.folder.as_ref()) {
        let is = wording::owner_and_mode(folder);
        finding = finding.fact("path", format!("{} is {is}", folder.path));
    }
    let user = owner(Some(view)).unwrap_or_default();
    finding.fact("worker", format!("the worker runs as {user}"))
}
