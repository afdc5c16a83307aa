//! Names that others chose, on their way to the terminal: a file's, a version's. What is in them is
//! shown, not obeyed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::crafted::Crafted;
use tests::folder::Folder;
use tests::netns::Netns;
use tests::tracer::{self, Tracer};
use tests::wait::{PATIENCE, until};
use tests::{process, programs};

/// Clears the screen, names the window, begins a line that says that all is well.
const EVIL: &str = "a\x1b[2J\x1b]0;pwn\x07\nno failed request\u{9b}31m\u{202e}z";
const SHOWN: &str = "a\\x1b[2J\\x1b]0;pwn\\x07\\x0ano failed request\\x9b31m\\u{202e}z";

fn ensure_harmless(said: &str) -> Result<()> {
    let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    ensure!(!said.contains(harmful), "{said:?}");
    ensure!(
        !said
            .lines()
            .any(|line| line.starts_with("no failed request\\")),
        "{said}"
    );
    Ok(())
}

/// What a command says, which may fail.
fn says(arguments: &[&Path]) -> Result<String> {
    let output = Command::new(programs::tracer()?)
        .args(arguments)
        .output()
        .context("tracer")?;
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8(said).context("no UTF-8")
}

#[test]
fn a_captures_name_is_one_line() -> Result<()> {
    let folder = Folder::new()?;
    let out = folder.join("out");
    let named = |what: &str| folder.join(&format!("{what}-{EVIL}.trc"));
    let (none, cut, bad) = (named("none"), named("cut"), named("bad"));
    Crafted::new(&json!({}))?.write(&cut)?;
    let whole = fs::read(&cut)?;
    fs::write(&cut, &whole[..whole.len() - 20])?;
    fs::write(&bad, "no capture")?;
    for command in ["explain", "report", "chart", "export"] {
        let option = if command == "export" {
            "--parquet"
        } else {
            "-o"
        };
        for file in [&none, &cut, &bad] {
            let mut arguments = vec![Path::new(command), file.as_path()];
            if command != "explain" {
                arguments.extend([Path::new("--force"), Path::new(option), &out]);
            }
            let said = says(&arguments)?;
            ensure_harmless(&said)?;
            let about: Vec<&str> = said.lines().filter(|line| line.contains(SHOWN)).collect();
            ensure!(about.len() == 1, "{command}: {said}");
        }
    }
    // A folder's name as well, and that of a capture that cannot be made.
    let taken = named("taken");
    fs::write(&taken, "")?;
    let said = says(&[Path::new("report"), &cut, Path::new("-o"), &taken])?;
    ensure!(said.contains("is a file"), "{said}");
    ensure_harmless(&said)?;
    let said = says(&[Path::new("record"), Path::new("-o"), &taken])?;
    ensure!(said.contains("exists"), "{said}");
    ensure_harmless(&said)
}

/// A copy of nginx whose binary has escapes for a version.
fn renamed(folder: &Folder, own: &Path) -> Result<std::path::PathBuf> {
    let mut bytes = fs::read(own)?;
    let mark = b"nginx version: nginx/";
    let find = |bytes: &[u8]| bytes.windows(mark.len()).position(|window| window == mark);
    let at = find(&bytes).context("no version in nginx's binary")? + mark.len();
    let length = bytes[at..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit() || **byte == b'.')
        .count();
    let evil = "1\x1b[2J\x07\x1b]0;pwn"
        .get(..length)
        .context("a version longer than that")?;
    bytes[at..at + length].copy_from_slice(evil.as_bytes());
    let path = folder.join("nginx");
    fs::write(&path, bytes)?;
    programs::output(Command::new("chmod").arg("755").arg(&path))?;
    Ok(path)
}

#[test]
fn a_version_with_escapes_is_no_version_and_is_not_obeyed() -> Result<()> {
    let (folder, netns) = (Folder::new()?, Netns::new()?);
    let usual = programs::command("nginx")?;
    let binary = renamed(&folder, Path::new(usual.get_program()))?;
    let config = folder.join("nginx.conf");
    let at = folder.path().display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
        .concat();
    fs::write(
        &config,
        format!(
            "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\nevents {{}}\n\
             http {{\n{temporary}access_log off; server {{ listen 127.0.0.1:80; }} }}\n"
        ),
    )?;
    let mut command = Command::new(&binary);
    for (name, value) in usual.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    netns.place(&mut command);
    command.arg("-p").arg(folder.path()).arg("-c").arg(&config);
    let mut nginx = command.stdin(Stdio::null()).spawn().context("nginx")?;
    let pid = folder.join("pid");
    let result = until("nginx's pid file", PATIENCE, || {
        Ok(fs::read_to_string(&pid)
            .ok()
            .filter(|text| text.ends_with('\n')))
    })
    .and_then(|_| {
        let mut tracer = Tracer::start(&mut tracer::live(nginx.id())?)?;
        tracer.tracing()?;
        let ended = tracer.stop(libc::SIGINT)?;
        let named = format!("(master {})", nginx.id());
        ensure!(ended.stderr.contains(&named), "{}", ended.stderr);
        ensure_harmless(&ended.stderr)?;
        let said = says(&[Path::new("doctor")])?;
        ensure!(said.contains(&nginx.id().to_string()), "{said}");
        ensure_harmless(&said)
    });
    process::end(&mut nginx, libc::SIGTERM);
    result
}
