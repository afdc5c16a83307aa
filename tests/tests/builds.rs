//! nginx as compiled in many ways: the same faults, the same verdicts. `cargo xtask test` makes and
//! runs the short part, `cargo xtask test --builds` all of it, and makes a table of what each test
//! leaves next to its build. A build without symbols may have weaker verdicts, but neither wrong
//! ones nor none.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::apart::Judged;
use tests::client::{Front, answered};
use tests::expected::Expected;
use tests::faults::firewall;
use tests::faults::unix_files::{allow, listener, stale};
use tests::folder::Folder;
use tests::programs;
use tests::selection::Selection;
use tests::service::Service;
use tests::stage::{Fault, HEALTHY, Load, Stage};
use tests::tracer::Tracer;

const LOAD: Load = Load {
    failing: 5,
    healthy: 20,
    concurrency: 12,
    front: Front::Http,
};

/// Nobody listens there.
const CLOSED: &str = "127.0.0.1:9101";
const CLOSED_TO_STREAM: &str = "127.0.0.1:9120";
const DROPPED: &str = "127.0.0.1:9121";
const CLOSES: &str = "127.0.0.1:9104";

/// The faults by name, and what lives as long as they shall.
struct Faults {
    all: Vec<(String, Fault)>,
    _selection: Selection,
    _silence: Service,
    _folder: Folder,
    _socket: std::os::unix::net::UnixListener,
}

impl Faults {
    fn new(stage: &Stage) -> Result<Self> {
        let selection = Selection::new(stage)?;
        let folder = Folder::new()?;
        let silence = Service::start(&stage.netns, &["127.0.0.1:5301", "dns", "silence"])?;
        firewall::rule(&stage.netns, "output", "tcp dport 9121 drop")?;
        let left = folder.join("left.sock");
        stale(&left)?;
        let owned = folder.join("owned.sock");
        let socket = listener(&owned)?;
        allow(&owned, 0o600)?;

        let name = |fault: &Fault| {
            let is_retried = fault.expected.attempts.len() > 1;
            let name = if is_retried {
                "retried"
            } else {
                fault.expected.cause
            };
            (name.to_owned(), fault.clone())
        };
        let more = [connecting(&left, &owned), later(), by_other_protocols()].concat();
        let more = more
            .into_iter()
            .map(|(name, fault)| (name.to_owned(), fault));
        Ok(Self {
            all: selection.faults.iter().map(name).chain(more).collect(),
            _selection: selection,
            _silence: silence,
            _folder: folder,
            _socket: socket,
        })
    }
}

fn refused() -> Expected {
    Expected::new("no-listener", CLOSED, "ECONNREFUSED")
}

type Named = Vec<(&'static str, Fault)>;

fn connecting(left: &Path, owned: &Path) -> Named {
    let unix = |cause: &'static str, path: &Path, errno: &'static str| {
        let upstream = format!("unix:{}", path.display());
        let expected = Expected::new(cause, &upstream, errno);
        Fault::location(format!("proxy_pass http://{upstream}:/;"), expected)
    };
    let dropped = Expected::timeout("firewall-drop", DROPPED);
    vec![
        (
            "unix-socket-stale",
            unix("unix-socket-stale", left, "ECONNREFUSED"),
        ),
        (
            "unix-socket-permission",
            unix("unix-socket-permission", owned, "EACCES"),
        ),
        (
            "firewall-drop",
            Fault::proxy(dropped, "proxy_connect_timeout 1500ms;"),
        ),
        (
            "dns-failed, silence",
            Fault::location(
                "resolver 127.0.0.1:5301 ipv6=off; resolver_timeout 1s; set $upstream silent.test; \
                 proxy_pass http://$upstream:8000;",
                Expected::untried("dns-failed", "could not be resolved (110: "),
            ),
        ),
    ]
}

/// Something takes the failure's place.
fn later() -> Named {
    vec![
        (
            "error_page",
            Fault::proxy(refused().hidden(200), "error_page 502 =200 /sorry;"),
        ),
        (
            "error_page, fallback",
            Fault::proxy(refused().masked_by(HEALTHY), "error_page 502 = @fallback;"),
        ),
    ]
}

fn by_other_protocols() -> Named {
    let early = "upstream prematurely closed connection while reading response header";
    let closed = Expected::connected("backend-closed-early", CLOSES, early);
    vec![
        (
            "FastCGI refused",
            Fault::location(format!("fastcgi_pass {CLOSED};"), refused()),
        ),
        (
            "FastCGI closed early",
            Fault::location(format!("fastcgi_pass {CLOSES};"), closed),
        ),
        (
            "gRPC refused",
            Fault::location(format!("grpc_pass grpc://{CLOSED};"), refused()),
        ),
    ]
}

/// A fault's column.
struct Told {
    name: String,
    expected: Expected,
    /// Also `inferred` is right, and only for want of symbols.
    is_weakened: bool,
    judged: Judged,
}

/// What a build can show.
struct Able {
    tls: bool,
    symbols: bool,
}

impl Able {
    fn of(program: &Path) -> Result<Self> {
        let mut nginx = programs::command("nginx")?;
        let mut command = Command::new(program);
        for (name, value) in nginx.arg("-V").get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let told = command.arg("-V").output().context("nginx -V")?;
        let binary = std::fs::read(program)?;
        // In either table of symbols: what is exported is left when it is stripped.
        let name = b"\0ngx_http_special_response_handler\0";
        Ok(Self {
            tls: String::from_utf8_lossy(&told.stderr).contains("http_ssl_module"),
            symbols: binary.windows(name.len()).any(|window| window == name),
        })
    }
}

fn check(name: &str) -> Result<()> {
    let Some(folder) = programs::build(name) else {
        println!("SKIPPED: {name}: this nginx is not built under target/builds/{name}");
        return Ok(());
    };
    let program = folder.join("nginx");
    let able = Able::of(&program)?;
    let mut stage = Stage::new()?;
    stage.config.program = Some(program);
    stage.config.main = format!(
        "stream {{ server {{ listen 127.0.0.1:7000; proxy_pass {HEALTHY}; }}\n\
         server {{ listen 127.0.0.1:7001; proxy_pass {CLOSED_TO_STREAM}; }} }}\n"
    );
    stage.config.server = format!(
        "location /sorry {{ alias /etc/os-release; }}\n\
         location @fallback {{ proxy_pass http://{HEALTHY}; }}\n"
    );
    let mut faults = Faults::new(&stage)?;
    faults
        .all
        .retain(|(name, _)| able.tls || name != "tls-handshake-failed");
    let weaken = |expected: &Expected| {
        let is_weakened = !able.symbols && expected.confidence == ["proven"];
        let expected = expected.clone();
        let expected = match able.symbols {
            true => expected,
            false => expected.unseen(),
        };
        (expected, is_weakened)
    };
    let placed = faults.all.iter().map(|(_, fault)| Fault {
        expected: weaken(&fault.expected).0,
        ..fault.clone()
    });

    let site = stage.start(placed.collect())?;
    let tracer = match Tracer::follow(site.nginx.master) {
        Ok(tracer) => tracer,
        Err(error) => {
            // A table that the next run gives again.
            let pid = regex_lite::Regex::new(r" \(master \d+\)")?;
            let reason = error.root_cause().to_string();
            let reason = pid.replace_all(&reason, "").replace(['\t', '\n'], " ");
            write(&folder, &format!("start\t{reason}\n"))?;
            return Err(error);
        }
    };
    for _ in 0..LOAD.failing {
        ensure!(site.netns.enter(|| answered(7000))?, "no answer by stream");
        ensure!(!site.netns.enter(|| answered(7001))?, "an answer by stream");
    }
    let sent = site.send(LOAD)?;
    let mut ended = site.finish(&sent, LOAD.failing, tracer)?;

    let is_streams = |verdict: &Value| verdict["upstream"] == CLOSED_TO_STREAM;
    let (streams, others) = ended.verdicts.into_iter().partition(is_streams);
    ended.verdicts = others;
    let by_stream = Expected::new("no-listener", CLOSED_TO_STREAM, "ECONNREFUSED").status(0);
    let judged = site.apart(&sent, &ended);
    let mut expected: Vec<_> = faults
        .all
        .iter()
        .map(|(name, fault)| (name.as_str(), &fault.expected))
        .collect();
    let silence = Expected::silence(200, &[]);
    expected.push(("healthy", &silence));
    let mut all = vec![(
        "stream refused",
        &by_stream,
        stream(streams, &weaken(&by_stream).0),
    )];
    all.extend(
        expected
            .into_iter()
            .zip(judged)
            .map(|((name, expected), judged)| (name, expected, judged)),
    );
    let told = all.into_iter().map(|(name, expected, judged)| {
        let (expected, is_weakened) = weaken(expected);
        Told {
            name: name.to_owned(),
            expected,
            is_weakened,
            judged,
        }
    });
    tell(&folder, &told.collect::<Vec<_>>())
}

fn stream(verdicts: Vec<Value>, expected: &Expected) -> Judged {
    let differences: Vec<String> = verdicts
        .iter()
        .flat_map(|one| expected.differences(one))
        .collect();
    let outcome = if verdicts.len() == LOAD.failing && differences.is_empty() {
        Ok(())
    } else {
        Err(anyhow::anyhow!(
            "{} verdicts: {}",
            verdicts.len(),
            differences.join("\n")
        ))
    };
    Judged { verdicts, outcome }
}

/// Leaves a line a fault for the table, and fails with all that is wrong.
fn tell(folder: &Path, all: &[Told]) -> Result<()> {
    let mut table = String::from("start\tok\n");
    let mut wrong = String::new();
    for told in all {
        let (name, cell) = (&told.name, cell(told));
        let _ = writeln!(table, "{name}\t{cell}");
        if let Err(error) = &told.judged.outcome {
            let _ = writeln!(wrong, "== {name}: {cell}\n{error:#}");
        }
    }
    write(folder, &table)?;
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}

fn write(folder: &Path, table: &str) -> Result<()> {
    let path = folder.join("results");
    std::fs::write(&path, table).with_context(|| format!("cannot write {}", path.display()))
}

/// What was said, in a few words.
fn cell(told: &Told) -> String {
    let Told {
        expected, judged, ..
    } = told;
    let word = |verdict: &Value, name: &str| verdict[name].as_str().unwrap_or("nothing").to_owned();
    let Err(error) = &judged.outcome else {
        let is_less = told.is_weakened
            && judged
                .verdicts
                .iter()
                .any(|one| one["confidence"] == "inferred");
        return if is_less { "inferred" } else { "ok" }.to_owned();
    };
    let mut said: BTreeMap<String, usize> = BTreeMap::new();
    for verdict in &judged.verdicts {
        let text = format!(
            "{} ({})",
            word(verdict, "cause"),
            word(verdict, "confidence")
        );
        *said.entry(text).or_default() += 1;
    }
    let due = if expected.silent { 0 } else { LOAD.failing };
    if judged.verdicts.len() < due {
        said.insert("nothing".to_owned(), due - judged.verdicts.len());
    }
    let mut text: Vec<String> = said
        .iter()
        .map(|(text, times)| format!("{times} × {text}"))
        .collect();
    let wrong = judged
        .verdicts
        .iter()
        .map(|one| expected.differences(one))
        .find(|all| !all.is_empty());
    match wrong.as_ref().and_then(|all| all.first()) {
        Some(difference) if !difference.starts_with("cause") => text.push(difference.clone()),
        None if judged.verdicts.len() == due => {
            text.extend(
                error
                    .to_string()
                    .lines()
                    .nth(2)
                    .map(|line| line.trim().to_owned()),
            );
        }
        _ => {}
    }
    text.join(", ").replace(['\t', '\n'], " ")
}

macro_rules! short {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() -> Result<()> {
            check(stringify!($name))
        })*
    };
}

macro_rules! long {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        #[ignore = "cargo xtask test --builds"]
        fn $name() -> Result<()> {
            check(stringify!($name))
        })*
    };
}

short! { no_ssl_no_compat, sndbuf_inserted, os }

long! {
    usual, usual_1_22, compat_without_ssl, ssl_without_compat, no_cache, debug, o0, o3,
    lto_o2, lto_o3, lto_o2_stripped, clang, musl, musl_stripped, static_glibc, static_stripped,
    stripped_with_exports, stripped_without_exports,
    sndbuf_inserted_1_31, data_moved, data_moved_1_31, angie_like, angie_like_1_31, all_moved_stripped,
}
