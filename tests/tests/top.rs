//! `tracer top` in a real terminal: what it shows, what its keys do, and that the terminal is as
//! before whatever ends it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tests::expected::Expected;
use tests::stage::{Fault, HEALTHY, Load, Stage};
use tests::terminal::Terminal;
use tests::tracer::Tracer;
use tests::{process, programs};

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (200, 50);

fn golden() -> PathBuf {
    programs::workspace().join("tracer/tests/golden/capture-1.0.trc")
}

fn top(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(programs::tracer()?);
    command.arg("top").args(arguments);
    Ok(command)
}

fn of_capture(arguments: &[&str]) -> Result<Command> {
    let mut command = top(arguments)?;
    command.arg("--utc").arg(golden());
    Ok(command)
}

#[test]
fn a_capture_is_browsed_by_keys_and_the_terminal_given_back() -> Result<()> {
    let terminal = Terminal::start(SMALL, &of_capture(&[])?)?;
    terminal.shows(&[
        "tracer top",
        "14:13:24",
        "127.0.0.1:8000",
        "1 of 2",
        "q quit",
    ])?;
    terminal.press(&["Enter"])?;
    terminal.shows(&["backend-closed-early, inferred:", "  fix  ", "Esc back"])?;
    terminal.press(&["Escape"])?;
    terminal.shows(&["14:13:24", "Tab other list"])?;
    terminal.press(&["Down", "Enter"])?;
    terminal.shows(&["unix-socket-permission, proven:", "Esc back"])?;
    terminal.press(&["Escape"])?;
    terminal.resize(LARGE)?;
    terminal.shows(&["first byte, p95", "causes", "q quit"])?;
    terminal.resize((50, 12))?;
    terminal.shows(&["tracer top", "q quit"])?;
    terminal.resize((30, 8))?;
    terminal.shows(&["too small"])?;
    terminal.resize(SMALL)?;
    terminal.shows(&["14:13:24", "Tab other list"])?;
    terminal.press(&["q"])?;
    let screen = terminal.given_back(0)?;
    ensure!(!screen.contains("tracer top"), "{screen}");
    Ok(())
}

/// Black on white or white on black is the terminal's choice, not ours.
#[test]
fn only_the_terminals_own_colours_are_used() -> Result<()> {
    let terminal = Terminal::start(SMALL, &of_capture(&["--color", "always"])?)?;
    terminal.shows(&["14:13:24", "q quit"])?;
    let screen = terminal.colored()?;
    let codes = screen.split("\x1b[").skip(1);
    let codes = codes.filter_map(|rest| rest.split_once('m').map(|(code, _)| code));
    // Attributes, and the first colours of the terminal's own palette.
    let own = ["", "0", "1", "2", "4", "7", "22", "24", "27", "39", "49"];
    let palette = ["38;5;1", "38;5;2", "38;5;3"];
    for code in codes {
        let rest = palette
            .iter()
            .fold(code.to_owned(), |code, own| code.replace(own, ""));
        ensure!(
            rest.split(';').all(|number| own.contains(&number)),
            "SGR {code} in {screen:?}"
        );
    }
    ensure!(screen.contains("38;5;1m"), "{screen:?}");
    Ok(())
}

#[test]
fn signals_and_faults_give_the_terminal_back() -> Result<()> {
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
        let terminal = Terminal::start(SMALL, &of_capture(&[])?)?;
        terminal.shows(&["tracer top", "q quit"])?;
        process::signal(terminal.pid()?, signal);
        let screen = terminal.given_back(0)?;
        ensure!(!screen.contains("tracer top"), "{screen}");
    }
    let terminal = Terminal::start(SMALL, &of_capture(&["--fault"])?)?;
    terminal.shows(&["tracer top", "q quit"])?;
    terminal.press(&["x"])?;
    let screen = terminal.given_back(1)?;
    ensure!(screen.contains("a fault of its own"), "{screen}");
    Ok(())
}

#[test]
fn without_a_terminal_it_names_the_way_that_needs_none() -> Result<()> {
    let output = of_capture(&[])?.stdin(Stdio::null()).output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(2), "{}", output.status);
    ensure!(
        said.lines().count() == 1 && said.contains("tracer top --once --format json"),
        "{said}"
    );
    let once = of_capture(&["--once"])?.output()?;
    let page = String::from_utf8(once.stdout)?;
    ensure!(
        once.status.success() && page.contains("backend-closed-early"),
        "{page}"
    );
    let once = of_capture(&["--once", "--format", "json"])?.output()?;
    let object: serde_json::Value = serde_json::from_slice(&once.stdout)?;
    ensure!(
        object["kind"] == "top" && object["failed_requests"] == 2,
        "{object}"
    );
    Ok(())
}

fn failing() -> Result<(Stage, Vec<Fault>)> {
    let refused = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    Ok((Stage::new()?, vec![Fault::proxy(refused, "")]))
}

#[test]
fn a_living_nginx_is_watched() -> Result<()> {
    let (stage, faults) = failing()?;
    let (healthy, failing) = (
        stage.netns.reaches(HEALTHY),
        stage.netns.reaches("127.0.0.1:9001"),
    );
    let site = stage.start(faults)?;
    let master = site.nginx.master.to_string();
    let terminal = Terminal::start(LARGE, &top(&["--master", &master])?)?;
    terminal.shows(&["live: ", &format!("(master {master})"), "no verdict so far"])?;
    site.send(Load::default())?;
    let parts = ["no-listener 5", "502", &failing, "100.0 %", "accept queue"];
    let screen = terminal.shows(&parts)?;
    let row = |name: &str| {
        screen
            .lines()
            .find(|line| line.starts_with(name))
            .map(str::to_owned)
    };
    let healthy = row(&healthy).context("the healthy upstream")?;
    ensure!(
        healthy.contains("0.0 %") && healthy.contains("ms"),
        "{screen}"
    );
    terminal.press(&["Enter"])?;
    terminal.shows(&[
        "no-listener, proven: nothing listens on",
        "ECONNREFUSED",
        "  fix  ",
    ])?;
    terminal.press(&["q"])?;
    terminal.given_back(0)?;
    Ok(())
}

#[test]
fn a_living_nginx_is_summed_up_for_machines() -> Result<()> {
    let (stage, faults) = failing()?;
    let failing = stage.netns.reaches("127.0.0.1:9001");
    let site = stage.start(faults)?;
    let master = site.nginx.master.to_string();
    let arguments = [
        "--once",
        "--format",
        "json",
        "--duration",
        "10m",
        "--master",
        &master,
    ];
    let mut tracer = Tracer::start(&mut top(&arguments)?)?;
    tracer.tracing()?;
    site.send(Load::default())?;
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    let [object] = ended.verdicts.as_slice() else {
        anyhow::bail!("{:?}", ended.verdicts);
    };
    ensure!(
        object["failed_requests"] == 5 && object["masked_requests"] == 0,
        "{object}"
    );
    ensure!(
        object["upstreams"][0]["upstream"] == failing.as_str(),
        "{object}"
    );
    ensure!(
        object["upstreams"][0]["causes"][0]["cause"] == "no-listener",
        "{object}"
    );
    ensure!(object["verdicts"][4]["confidence"] == "proven", "{object}");
    Ok(())
}
