//! What a user meets on the command line: what is written is named and never lost, mistakes are met
//! with what was meant, and `live`, `doctor` and the report agree on the hooks.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::folder::Folder;
use tests::presented::run;
use tests::stage::Stage;
use tests::tracer::{Tracer, live, record};
use tests::{process, programs};

fn golden() -> PathBuf {
    programs::workspace().join("tracer/tests/golden/capture-1.0.trc")
}

fn tracer(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(programs::tracer()?).args(arguments).output()?)
}

/// Runs a command that is a usage error: nothing on stdout; gives stderr.
fn refused(arguments: &[&str]) -> Result<String> {
    let ended = tracer(arguments)?;
    let said = String::from_utf8(ended.stderr)?;
    ensure!(
        ended.status.code() == Some(2) && ended.stdout.is_empty(),
        "{arguments:?} ended with {}: {said}",
        ended.status
    );
    Ok(said)
}

/// The bytes of each file in and below a folder.
fn contents(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let files = tests::presented::files(folder)?.into_iter();
    files
        .map(|path| Ok((path.clone(), fs::read(path)?)))
        .collect()
}

#[test]
fn what_exists_is_replaced_by_force_alone_and_what_is_written_is_named() -> Result<()> {
    let folder = Folder::new()?;
    let (out, trace) = (folder.join("out"), folder.join("trace.json"));
    let (out, trace) = (out.display().to_string(), trace.display().to_string());
    let capture = golden().display().to_string();
    for (arguments, wrote) in [
        (vec!["report", &capture, "-o", &out], "out/report.html ("),
        (vec!["chart", &capture, "-o", &out], "16 charts to "),
        (
            vec!["export", &capture, "--perfetto", &trace],
            "trace.json (",
        ),
        (
            vec!["export", &capture, "--parquet", &out],
            " table files to ",
        ),
    ] {
        let said = String::from_utf8(tracer(&arguments)?.stderr)?;
        ensure!(
            said.lines().count() == 1 && said.starts_with("wrote ") && said.contains(wrote),
            "{arguments:?}: {said}"
        );
        let before = contents(folder.path())?;
        let said = refused(&arguments)?;
        ensure!(
            said.lines().count() == 1 && said.contains(" exists; --force replaces it"),
            "{arguments:?}: {said}"
        );
        ensure!(
            contents(folder.path())? == before,
            "{arguments:?} changed files"
        );
        run(&[arguments.as_slice(), &["--force"]].concat())?;
    }
    Ok(())
}

#[test]
fn a_capture_is_read_from_stdin() -> Result<()> {
    let capture = golden();
    let by_name = tracer(&["explain", "--utc", &capture.display().to_string()])?;
    ensure!(by_name.status.success() && !by_name.stdout.is_empty());
    let mut explain = Command::new(programs::tracer()?);
    explain.args(["explain", "--utc", "-"]);
    let from_file = explain.stdin(File::open(&capture)?).output()?;
    ensure!(from_file.stdout == by_name.stdout, "{from_file:?}");
    // A pipe, which has no end that can be looked for.
    let mut cat = Command::new("cat")
        .arg(&capture)
        .stdout(Stdio::piped())
        .spawn()?;
    let pipe = cat.stdout.take().context("a pipe")?;
    let from_pipe = explain.stdin(pipe).output()?;
    cat.wait()?;
    ensure!(from_pipe.stdout == by_name.stdout, "{from_pipe:?}");
    let empty = explain.stdin(Stdio::null()).output()?;
    let said = String::from_utf8(empty.stderr)?;
    ensure!(said.starts_with("tracer: stdin is empty"), "{said}");
    Ok(())
}

#[test]
fn an_unknown_cause_suggests_the_nearest_in_every_command() -> Result<()> {
    let capture = golden().display().to_string();
    for arguments in [
        vec!["causes", "no-listner"],
        vec!["live", "--cause", "no-listner"],
        vec!["record", "--cause", "no-listner"],
        vec!["explain", "--cause", "no-listner", &capture],
    ] {
        let said = refused(&arguments)?;
        ensure!(said.contains("did you mean no-listener?"), "{said}");
    }
    Ok(())
}

#[test]
fn an_upstream_is_an_address_or_a_block() -> Result<()> {
    let capture = golden().display().to_string();
    for (upstream, said) in [
        ("127.0.0.1", "as in 127.0.0.1:80"),
        ("http://app/", "nor the name of an upstream block"),
    ] {
        let line = refused(&["explain", "--upstream", upstream, &capture])?;
        ensure!(line.contains(said), "{line}");
    }
    let shown = tracer(&["explain", "--upstream", "no_such_block", &capture])?;
    ensure!(
        shown.status.success() && shown.stdout.is_empty(),
        "{shown:?}"
    );
    Ok(())
}

#[test]
fn shells_complete_causes_and_formats() -> Result<()> {
    let folder = Folder::new()?;
    let into = folder.path().display().to_string();
    ensure!(tracer(&["generate", &into])?.status.success());
    for (file, word) in [
        ("completions/tracer.bash", "no-listener"),
        ("completions/_tracer", "no-listener"),
        ("completions/tracer.fish", "no-listener"),
        ("completions/tracer.bash", "json"),
    ] {
        let text = fs::read_to_string(folder.join(file))?;
        ensure!(text.contains(word), "{file} has no {word}");
    }
    Ok(())
}

#[test]
fn each_command_has_examples() -> Result<()> {
    for command in [
        "live", "top", "record", "explain", "chart", "report", "export", "causes", "doctor",
        "check",
    ] {
        let help = String::from_utf8(tracer(&[command, "--help"])?.stdout)?;
        let example = format!("tracer {command}");
        let (_, examples) = help.split_once("Examples:").context(command)?;
        ensure!(examples.contains(&example), "{help}");
    }
    Ok(())
}

#[test]
fn a_process_that_is_no_nginx_is_refused_and_those_that_are_are_listed() -> Result<()> {
    let site = Stage::new()?.start(Vec::new())?;
    let (master, worker) = (site.nginx.master, site.nginx.worker_pids()[0]);
    let mut other = Command::new("sleep").arg("600").spawn()?;
    let result = [
        ("--master", other.id()),
        ("--pid", other.id()),
        ("--master", worker),
    ]
    .iter()
    .try_for_each(|(option, pid)| {
        let mut command = Command::new(programs::tracer()?);
        let ended = command.args(["live", option, &pid.to_string()]).output()?;
        let said = String::from_utf8(ended.stderr)?;
        ensure!(ended.status.code() == Some(2), "{option}: {said}");
        ensure!(said.lines().count() == 1, "{said}");
        ensure!(
            said.contains(&format!("process {pid} (")) && said.contains("is not an nginx "),
            "{said}"
        );
        // Others' may run here too, and fill the list.
        ensure!(
            said.contains(&format!("master {master} (")) || said.contains(" more"),
            "{said}"
        );
        Ok(())
    });
    process::end(&mut other, libc::SIGKILL);
    result
}

#[test]
fn a_capture_without_a_name_gets_one_and_says_it() -> Result<()> {
    let site = Stage::new()?.start(Vec::new())?;
    let folder = Folder::new()?;
    let mut command = Command::new(programs::tracer()?);
    command
        .args(["record", "--master", &site.nginx.master.to_string()])
        .current_dir(folder.path());
    let mut tracer = Tracer::start(&mut command)?;
    tracer.tracing()?;
    let line = tracer.says("recording to ")?.text;
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(ended.status.success(), "{ended:?}");
    let name = line.strip_prefix("recording to ").context("a name")?;
    ensure!(
        name.starts_with("tracer-") && name.ends_with(".trc"),
        "{line}"
    );
    run(&[
        "report",
        &folder.join(name).display().to_string(),
        "-o",
        &folder.join("out").display().to_string(),
    ])
}

/// `20 hooks attached, 2 fallback, 1 missing` of a text.
fn hooks(text: &str) -> Result<String> {
    let at = text.find(" hooks attached").context(text.to_owned())?;
    let begin = text[..at].rfind(|c: char| !c.is_ascii_digit());
    let end = text[at..].find([' ', ',']).map_or(at, |_| at);
    let rest = &text[end..];
    let stop = rest.find([':', '(', '<', '\n', '"']).unwrap_or(rest.len());
    let begin = begin.map_or(0, |begin| begin + 1);
    Ok(text[begin..end + stop].trim().to_owned())
}

#[test]
fn live_doctor_and_the_report_count_the_hooks_alike() -> Result<()> {
    let site = Stage::new()?.start(Vec::new())?;
    let folder = Folder::new()?;
    let file = folder.join("run.trc");
    for without in [
        &[][..],
        &["--without", "icmp_receive", "--without", "error_report"],
    ] {
        let mut tracer = Tracer::start(record(site.nginx.master, &file)?.args(without))?;
        let line = tracer.says("tracing")?.text;
        tracer.stop(libc::SIGINT)?;
        let counted = hooks(&line)?;

        let out = folder.join("out").display().to_string();
        run(&["report", "--force", &file.display().to_string(), "-o", &out])?;
        let page = fs::read_to_string(folder.join("out/report.html"))?;
        ensure!(page.contains(&counted), "{counted}: {page}");
        fs::remove_file(&file)?;

        let mut doctor = Command::new(programs::tracer()?);
        let text = programs::output(doctor.arg("doctor").args(without))?;
        ensure!(hooks(&text)? == counted, "{counted}: {text}");
        let first = text.lines().next().unwrap_or_default();
        ensure!(
            first.starts_with("ready: every cause provable here"),
            "{text}"
        );

        let json: Value =
            serde_json::from_str(&programs::output(doctor.args(["--format", "json"]))?)?;
        ensure!(json["ready"] == true && json["summary"] == first, "{json}");
        let counts = &json["counts"];
        ensure!(
            counted.starts_with(&format!("{} hooks attached", counts["attached"])),
            "{counted}: {counts}"
        );
        let states = json["hooks"].as_array().context("hooks")?.iter();
        let missing = states.filter(|hook| hook["state"] == "missing").count();
        ensure!(counts["missing"] == missing, "{json}");
    }
    Ok(())
}

#[test]
fn doctor_names_logs_by_their_paths_and_each_error_once() -> Result<()> {
    let site = Stage::new()?.start(Vec::new())?;
    let text = programs::output(Command::new(programs::tracer()?).arg("doctor"))?;
    let log = site.nginx.folder().join("error.log").display().to_string();
    ensure!(text.contains(&log), "{log}: {text}");
    ensure!(!text.contains("/fd/"), "{text}");
    for line in text.lines() {
        let errors = line.matches("(os error ").count();
        ensure!(errors <= 1, "{line}");
    }
    Ok(())
}

#[test]
fn doctor_that_cannot_work_says_why_in_its_first_line_and_ends_with_3() -> Result<()> {
    let ended = Command::new(programs::tracer()?)
        .arg("doctor")
        .env("TRACER_BTF_PATH", "/nonexistent/btf")
        .output()?;
    let (said, errors) = (
        String::from_utf8(ended.stdout)?,
        String::from_utf8(ended.stderr)?,
    );
    ensure!(ended.status.code() == Some(3), "{said}{errors}");
    ensure!(
        said.starts_with("not ready: this kernel gives no BTF"),
        "{said}"
    );
    ensure!(errors.is_empty(), "said twice: {errors}");
    Ok(())
}

#[test]
fn live_says_which_nginx_exited_and_which_came() -> Result<()> {
    let (stays, goes) = (
        Stage::new()?.start(Vec::new())?,
        Stage::new()?.start(Vec::new())?,
    );
    let gone = goes.nginx.master;
    let mut command = live(stays.nginx.master)?;
    let mut tracer = Tracer::start(command.args(["--master", &gone.to_string()]))?;
    tracer.tracing()?;
    drop(goes);
    let line = tracer.says(&format!("(master {gone}) exited"))?;
    ensure!(
        !line.text.contains(&stays.nginx.master.to_string()),
        "{line:?}"
    );
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(())
}
