//! The backend lives, and nginx asks in the wrong place: a container that moved, a socket's file
//! that only another mount namespace has, or none.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use tests::container::{ADDRESS, Container};
use tests::expected::Expected;
use tests::folder::Folder;
use tests::service::{Fate, Service};
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;

/// In a mount namespace of its own, with `from` mounted on `onto`: a folder's file system is a new
/// one.
fn mounted(command: &mut Command, from: &str, onto: &Path) -> Result<()> {
    let text = |path: &Path| std::ffi::CString::new(path.as_os_str().as_encoded_bytes());
    let (onto, from) = (text(onto)?, text(Path::new(from))?);
    let is_new = from.as_bytes() == b"tmpfs";
    // SAFETY: between fork and exec only system calls are made, on strings copied before.
    unsafe {
        command.pre_exec(move || {
            let ok = |result: i32| match result {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            };
            ok(libc::unshare(libc::CLONE_NEWNS))?;
            let none = std::ptr::null::<libc::c_char>();
            let private = libc::MS_REC | libc::MS_PRIVATE;
            ok(libc::mount(none, c"/".as_ptr(), none, private, none.cast()))?;
            let (kind, flags) = match is_new {
                true => (from.as_ptr(), 0),
                false => (none, libc::MS_BIND),
            };
            ok(libc::mount(
                from.as_ptr(),
                onto.as_ptr(),
                kind,
                flags,
                none.cast(),
            ))
        });
    }
    Ok(())
}

fn missing(upstream: &str) -> Fault {
    let expected = Expected::new("unix-socket-missing", upstream, "ENOENT");
    Fault::location(format!("proxy_pass http://{upstream}:/;"), expected)
}

#[test]
fn a_socket_in_another_mount_namespace_and_one_without_its_file() -> Result<()> {
    let (private, removed) = (Folder::new()?, Folder::new()?);
    let at = |folder: &Folder| format!("unix:{}", folder.join("app.sock").display());
    let answer = ["answer", "HTTP/1.1 200 OK\r\n\r\n"];
    let stage = Stage::new()?;
    let inside = private.path().to_owned();
    let upstream = at(&private);
    let words = [&[upstream.as_str()][..], &answer].concat();
    let hidden = Service::start_with(&stage.netns, &words, Fate::Lives, move |command| {
        mounted(command, "tmpfs", &inside)
    })?;
    let gone = at(&removed);
    let words = [&[gone.as_str()][..], &answer].concat();
    let _lost = Service::start(&stage.netns, &words)?;
    std::fs::remove_file(removed.join("app.sock"))?;
    let mut faults = [missing(&upstream), missing(&gone)];
    for text in [
        "has its own in another mount namespace".to_owned(),
        format!("nsenter -t {} -m ls -l", hidden.pid()),
    ] {
        faults[0].expected.says.push(text);
    }
    let text = "its file was removed while backend listens on it";
    faults[1].expected.says.push(text.to_owned());
    stage.check(faults.into()).map(drop)
}

/// The name leads to another address than at nginx's start; `taken`: another container has the old
/// one.
fn moved(taken: bool) -> Result<()> {
    let mut stage = Stage::new()?;
    stage.netns.ip("link add br0 type bridge")?;
    stage.netns.ip("addr add 172.31.0.1/24 dev br0")?;
    stage.netns.ip("link set br0 up")?;
    let folder = Folder::new()?;
    let hosts = folder.join("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 localhost\n{ADDRESS} app\n"))?;
    let from = hosts.display().to_string();
    stage.prepare(move |command| mounted(command, &from, Path::new("/etc/hosts")));
    let upstream = format!("{ADDRESS}:9001");
    let expected = match taken {
        true => Expected::new("no-listener", &upstream, "ECONNREFUSED")
            .says("another container has that address now"),
        false => Expected::new("neighbor-failed", &upstream, "EHOSTUNREACH"),
    };
    let expected = expected
        .says("reload nginx (nginx -s reload): nginx looked up `app` at its start")
        .says("`app` is 172.31.0.3 now");
    let fault = Fault::location("proxy_pass http://app:9001;", expected);
    let site = stage.start(vec![fault])?;
    // What the kernel knows of neighbours is of before.
    let _other = match taken {
        true => Some(Container::behind(&site.netns, "br0", ADDRESS)?),
        false => None,
    };
    std::fs::write(&hosts, "127.0.0.1 localhost\n172.31.0.3 app\n")?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let load = Load {
        concurrency: 10,
        ..Load::default()
    };
    let sent = site.send(load)?;
    site.check(&sent, tracer).map(drop)
}

#[test]
fn a_container_that_moved() -> Result<()> {
    moved(false)
}

#[test]
fn a_container_that_moved_and_another_in_its_place() -> Result<()> {
    moved(true)
}
