//! `contrib/tracer.service`, the always-on recorder of a host: systemd takes it, its capabilities
//! are those that tracer needs, and tracer says to a service manager what it does.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::failing::Failing;
use tests::folder::Folder;
use tests::nginx::Form;
use tests::programs;
use tests::selection::Selection;
use tests::stage::{Load, Stage};
use tests::tracer::{Ended, Tracer, live, record};
use tests::unscoped::Unscoped;
use tests::wait::{PATIENCE, until};

fn unit() -> Result<String> {
    Ok(fs::read_to_string(
        programs::workspace().join("contrib/tracer.service"),
    )?)
}

/// The words after each `NAME=` of the unit.
fn setting(name: &str) -> Result<Vec<String>> {
    let unit = unit()?;
    let values = unit
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let words = values.flat_map(str::split_whitespace);
    Ok(words.map(ToOwned::to_owned).collect())
}

#[test]
fn systemd_takes_the_unit() -> Result<()> {
    const SCRIPT: &str = "tree=$1; folder=$2; shift 2; mkdir -p $tree/run $tree/tmp $tree$folder \
         && mount -t tmpfs none $tree/run && mkdir $tree/run/systemd \
         && mount --rbind /dev $tree/dev && mount --rbind /proc $tree/proc \
         && mount --bind $folder $tree$folder && exec chroot $tree /usr/bin/systemd-analyze \"$@\"";
    let folder = Folder::new()?;
    // It has to name a program that is there.
    let program = folder.join("tracer");
    fs::copy(programs::tracer()?, &program)?;
    let file = folder.join("tracer.service");
    let exec = format!("ExecStart={} ", program.display());
    fs::write(&file, unit()?.replace("ExecStart=/usr/bin/tracer ", &exec))?;
    let analyze = |words: &[&str]| -> Result<String> {
        let mut command = programs::command("unshare")?;
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT])
            .arg("sh")
            .arg(programs::backends()?)
            .arg(folder.path())
            .args(words)
            .arg(&file);
        let output = command.output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        ensure!(output.status.success(), "{}: {said}", output.status);
        Ok(said)
    };
    let said = analyze(&["verify", "--man=no"])?;
    ensure!(said.trim().is_empty(), "{said}");
    let said = analyze(&["security", "--no-pager", "--offline=true"])?;
    let last = said.lines().last().context("no word")?;
    ensure!(last.contains("OK") || last.contains("MEDIUM"), "{last}");
    Ok(())
}

#[test]
fn the_unit_starts_what_tracer_takes() -> Result<()> {
    // systemd's notation for one per cent sign.
    let words = setting("ExecStart")?.into_iter();
    let words: Vec<String> = words.map(|word| word.replace("%%", "%")).collect();
    ensure!(!unit()?.replace("%%", "").contains("% --"));
    ensure!(words[..2] == ["/usr/bin/tracer", "record"], "{words:?}");
    // With the help the options are read, and nothing is done.
    let mut command = Command::new(programs::tracer()?);
    programs::output(command.args(&words[1..]).arg("--duration=1s").arg("--help"))?;
    let option = |name: &str| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1))
            .context("no such option")
    };
    ensure!(option("--output")? == "/var/lib/tracer");
    ensure!(setting("StateDirectory")? == ["tracer"] && setting("RuntimeDirectory")? == ["tracer"]);
    Ok(())
}

/// `command` with these capabilities at most, and with a view of the file system as the unit gives.
fn confined(command: &Command, capabilities: &[String], state: &Path) -> Result<Command> {
    let names = capabilities
        .iter()
        .filter_map(|name| name.strip_prefix("CAP_"))
        .map(|name| format!(",+{}", name.to_lowercase()));
    let set = format!("-all{}", names.collect::<String>());
    let mut confined = programs::command("unshare")?;
    confined
        .args(["--mount", "--propagation", "slave", "sh", "-c"])
        .arg(
            "state=$1; shift; mount --bind $state $state && mount -o remount,bind,ro / \
             && for one in /proc/sys /sys; do mount --bind $one $one && mount -o remount,bind,ro $one; done \
             && exec \"$@\"",
        )
        .arg("sh")
        .arg(state)
        .args(["setpriv", "--no-new-privs", "--inh-caps", "-all"])
        .args(["--bounding-set", &set])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            confined.env(name, value);
        }
    }
    Ok(confined)
}

/// The unit's capabilities but this one.
fn without(left_out: &str) -> Result<Vec<String>> {
    let mut kept = setting("CapabilityBoundingSet")?;
    let all = kept.len();
    kept.retain(|one| one != left_out);
    ensure!(kept.len() + 1 == all, "the unit has no {left_out}");
    Ok(kept)
}

#[test]
fn as_the_unit_confines_it_everything_is_explained() -> Result<()> {
    let stage = Stage::new()?;
    let selection = Selection::new(&stage)?;
    let site = stage.start(selection.faults.clone())?;
    let folder = Folder::new()?;
    let command = record(site.nginx.master, &folder.join("run.trc"))?;
    let all = setting("CapabilityBoundingSet")?;
    let mut tracer = Tracer::start(&mut confined(&command, &all, folder.path())?)?;
    tracer.tracing()?;
    let said: Vec<String> = tracer.said().into_iter().map(|line| line.text).collect();
    ensure!(said.len() == 1 && !said[0].contains("missing"), "{said:?}");
    let sent = site.send(Load::default())?;
    site.check(&sent, tracer).map(drop)
}

/// Longer than the hooks of a program stay that is not at the host's root.
const GAP: Duration = Duration::from_secs(2);

/// The unit has mounts of its own, so its root is not the mount that nginx is started from.
#[test]
fn an_nginx_that_was_stopped_for_a_while_is_followed_from_its_first_request() -> Result<()> {
    let mut failing = Failing::new(Form::Daemon)?;
    let folder = Folder::new()?;
    // Its hooks are kept for nobody else.
    let own = folder.join("nginx");
    fs::copy(programs::command("nginx")?.get_program(), &own)?;
    if fs::metadata(&own)?.dev() != fs::metadata("/")?.dev() {
        println!("SKIPPED: stopped_for_a_while: temporary files are not on the root's file system");
        return Ok(());
    }
    failing.config.program = Some(own);
    let mut nginx = failing.start()?;
    let command = tests::unscoped::live()?;
    let all = setting("CapabilityBoundingSet")?;
    let state = Folder::new()?;
    let mut tracer = Tracer::start(&mut confined(&command, &all, state.path())?)?;
    tracer.tracing()?;
    let tracer = Unscoped::of(tracer, &failing);
    let mut sent = failing.send(3)?;
    tracer.reported(&sent)?;
    nginx.stop(libc::SIGQUIT)?;
    let stopped = Instant::now();
    until("some time without nginx", PATIENCE, || {
        Ok((stopped.elapsed() > GAP).then_some(()))
    })?;
    let ((), early) = failing.send_at_once(20, || nginx.start_again())?;
    sent.extend(early);
    tracer.check(&sent).map(drop)
}

/// What tracer says without this capability, and how it ends after a failed request.
fn lacking(capability: &str) -> Result<Ended> {
    let failing = Failing::new(Form::Daemon)?;
    let nginx = failing.start()?;
    let folder = Folder::new()?;
    let command = live(nginx.master)?;
    let mut command = confined(&command, &without(capability)?, folder.path())?;
    let mut tracer = Tracer::start(&mut command)?;
    let blind = |tracer: &Tracer| {
        let said = tracer.said().into_iter();
        said.map(|line| line.text)
            .any(|line| line.contains("blind"))
    };
    until("a first word", PATIENCE, || {
        let is_tracing = tracer
            .said()
            .iter()
            .any(|line| line.text.starts_with("tracing"));
        Ok((is_tracing || blind(&tracer)).then_some(()))
    })?;
    if blind(&tracer) {
        return tracer.ended();
    }
    failing.send(1)?;
    tracer.verdict_lines(1)?;
    tracer.stop(libc::SIGINT)
}

/// Each of the unit's capabilities is missed: the first line names it, and says what is lost.
#[test]
fn a_capability_that_is_not_there_is_named_first_and_blindness_ends_with_3() -> Result<()> {
    for capability in setting("CapabilityBoundingSet")? {
        let ended = lacking(&capability)?;
        let first = ended.stderr.lines().next().unwrap_or_default();
        ensure!(
            first.contains(&format!("without {capability}")),
            "{capability}: {}",
            ended.stderr
        );
        let is_blinding = ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"].contains(&capability.as_str());
        let status = if is_blinding { 3 } else { 0 };
        ensure!(
            ended.status.code() == Some(status),
            "{capability}: {ended:?}"
        );
        ensure!(first.contains("blind") == is_blinding, "{first}");
        if capability == "CAP_NET_RAW" {
            ensure!(ended.stderr.contains("1 missing"), "{}", ended.stderr);
        }
    }
    Ok(())
}

/// A service manager's socket.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn of(socket: UnixDatagram) -> Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            heard: Vec::new(),
        })
    }

    /// Waits for a message with this line.
    fn hears(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> Result<()> {
        until(what, PATIENCE, || {
            let mut message = [0; 4096];
            while let Ok(length) = self.socket.recv(&mut message) {
                let text = String::from_utf8_lossy(&message[..length]).into_owned();
                self.heard.push(text);
            }
            let lines = || self.heard.iter().flat_map(|text| text.lines());
            Ok(lines().any(&is_it).then_some(()))
        })
        .with_context(|| format!("{:?}", self.heard))
    }
}

fn notifies(mut manager: Manager, name: &str) -> Result<()> {
    let failing = Failing::new(Form::Daemon)?;
    let nginx = failing.start()?;
    let mut command = live(nginx.master)?;
    command
        .env("NOTIFY_SOCKET", name)
        .env("WATCHDOG_USEC", "200000");
    let mut tracer = Tracer::start(&mut command)?;
    manager.hears("READY=1", |line| line == "READY=1")?;
    let first = manager.heard[0].clone();
    ensure!(
        first.starts_with("READY=1\nSTATUS=tracing 2 workers of nginx"),
        "{first}"
    );
    // Not before the hooks are attached, which is said.
    let line = tracer.says("tracing")?;
    ensure!(first.ends_with(&line.text), "{first}");
    manager.hears("WATCHDOG=1", |line| line == "WATCHDOG=1")?;
    failing.send(3)?;
    manager.hears("the count", |line| {
        line.starts_with("STATUS=tracing") && line.contains("; 3 failed requests")
    })?;
    let ended = tracer.stop(libc::SIGTERM)?;
    ensure!(ended.status.success(), "{}", ended.stderr);
    manager.hears("STOPPING=1", |line| line == "STOPPING=1")?;
    let ready = manager.heard.iter().filter(|text| text.contains("READY=1"));
    ensure!(ready.count() == 1, "{:?}", manager.heard);
    Ok(())
}

#[test]
fn a_service_manager_hears_when_hooks_are_attached_and_that_it_is_alive() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.join("notify");
    let manager = Manager::of(UnixDatagram::bind(&path)?)?;
    notifies(manager, &path.display().to_string())
}

#[test]
fn its_socket_may_be_abstract() -> Result<()> {
    let name = format!("tracer-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name)?;
    let manager = Manager::of(UnixDatagram::bind_addr(&address)?)?;
    notifies(manager, &format!("@{name}"))
}
