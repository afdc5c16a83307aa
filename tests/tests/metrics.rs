//! `--metrics`: a real Prometheus scrapes a real tracer, its rules fire on a refused upstream and
//! on nothing else, and a scraper that stalls holds nobody up.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::expected::Expected;
use tests::faults::listeners;
use tests::folder::Folder;
use tests::netns::Netns;
use tests::prometheus::{self, Answer, Prometheus};
use tests::site::Site;
use tests::stage::{Fault, HEALTHY, Load, Stage};
use tests::tracer::{self, Tracer};
use tests::wait::{PATIENCE, until};
use tests::{process, programs};

/// Where tracer serves, in the namespace of the test.
const SERVED: &str = "127.0.0.1:9464";
/// Where nothing listens.
const REFUSED: &str = "127.0.0.1:9001";
const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";

fn refused() -> Fault {
    let expected = Expected::new("no-listener", REFUSED, "ECONNREFUSED");
    Fault::proxy(expected, "")
}

/// An nginx with a refused and a healthy location.
fn site() -> Result<Site> {
    Stage::new()?.start(vec![refused()])
}

/// A `tracer live` on it that serves metrics in its namespace.
fn served(site: &Site, arguments: &[&str]) -> Result<Tracer> {
    let mut command = tracer::live(site.nginx.master)?;
    site.netns.place(&mut command);
    let mut tracer = Tracer::start(command.args(["--metrics", SERVED]).args(arguments))?;
    tracer.says(&format!("metrics on http://{SERVED}/metrics"))?;
    tracer.tracing()?;
    Ok(tracer)
}

fn scrape(netns: &Netns, accept: &str) -> Result<Answer> {
    let answer = prometheus::get(netns, SERVED, "/metrics", accept)?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(answer)
}

/// The sum of the samples of that name whose labels contain all these.
fn sum(page: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let samples = page.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let rest = series.strip_prefix(name)?;
        let is_it = rest.is_empty() || rest.starts_with('{');
        let has_all = labels.iter().all(|label| rest.contains(label));
        (is_it && has_all).then(|| value.parse::<f64>().ok())?
    });
    samples.reduce(|sum, value| sum + value)
}

/// Waits for a page on which these sums are those.
fn counted(netns: &Netns, wanted: &[(&str, &[&str], f64)]) -> Result<String> {
    let mut last = String::new();
    until("the counts", PATIENCE, || {
        last = scrape(netns, OPEN_METRICS)?.body;
        let are_all = wanted
            .iter()
            .all(|(name, labels, count)| sum(&last, name, labels) == Some(*count));
        Ok(are_all.then(|| last.clone()))
    })
    .with_context(|| format!("of {wanted:?} in:\n{last}"))
}

/// `SKIPPED` where Prometheus could not be fetched: guests have none.
fn is_missing(test: &str) -> bool {
    let is_missing = prometheus::tree().is_none();
    if is_missing {
        println!("SKIPPED: {test}: no target/monitoring");
    }
    is_missing
}

#[test]
fn a_scrape_counts_what_happened() -> Result<()> {
    let masked = Expected::new("no-listener", "127.0.0.1:9002", "ECONNREFUSED");
    let masked = masked.masked_by(HEALTHY);
    let block = "server 127.0.0.1:9002 max_fails=0; server 127.0.0.1:8000 backup;";
    let retried = Fault::location("proxy_pass http://metrics_retried;", masked)
        .with(format!("upstream metrics_retried {{ {block} }}\n"));
    let site = Stage::new()?.start(vec![refused(), retried])?;
    let tracer = served(&site, &["--cause", "unexplained"])?;
    // Five of each.
    site.send(Load::default())?;
    let failed = [
        "cause=\"no-listener\"",
        "status=\"502\"",
        "confidence=\"proven\"",
        "upstream=\"127.0.0.1:9001\"",
    ];
    let masked = [
        "cause=\"no-listener\"",
        "status=\"200\"",
        "upstream=\"127.0.0.1:9002\"",
    ];
    let answered = ["upstream=\"127.0.0.1:8000\"", "outcome=\"answered\""];
    let refused = ["upstream=\"127.0.0.1:9001\"", "outcome=\"not-connected\""];
    let of_healthy = ["upstream=\"127.0.0.1:8000\""];
    let listener = ["upstream=\"127.0.0.1:8000\"", "listener=\"127.0.0.1:8000\""];
    let page = counted(
        &site.netns,
        &[
            // The filter hides them from stdout, not from here.
            ("tracer_failed_requests_total", &failed, 5.0),
            ("tracer_failed_requests_total", &[], 5.0),
            ("tracer_masked_failures_total", &masked, 5.0),
            ("tracer_masked_failures_total", &[], 5.0),
            // Healthy requests and retries.
            ("tracer_attempts_total", &answered, 10.0),
            ("tracer_attempts_total", &refused, 5.0),
            ("tracer_attempts_total", &[], 20.0),
            ("tracer_connect_duration_seconds_count", &of_healthy, 10.0),
            (
                "tracer_first_byte_duration_seconds_count",
                &of_healthy,
                10.0,
            ),
            ("tracer_accept_queue_depth", &listener, 0.0),
            ("tracer_blind", &[], 0.0),
            ("tracer_lost_records_total", &[], 0.0),
            ("tracer_folded_upstreams", &[], 0.0),
            ("tracer_nginx_processes", &["kind=\"master\""], 1.0),
            ("tracer_hook_attached", &["hook=\"send_reset\""], 1.0),
        ],
    )?;
    let is_more = |name: &str, least: f64| {
        let value = sum(&page, name, &[]);
        ensure!(
            value.is_some_and(|value| value > least),
            "{name}: {value:?}"
        );
        Ok(())
    };
    is_more("tracer_accept_queue_limit", 1.0)?;
    is_more("process_cpu_seconds_total", 0.0)?;
    is_more("process_resident_memory_bytes", 1e6)?;
    is_more("process_start_time_seconds", 1.6e9)?;
    ensure!(page.contains("tracer_build_info{version=\""), "{page}");
    ensure!(page.ends_with("# EOF\n"), "{page}");
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(ended.verdicts.is_empty(), "{:?}", ended.verdicts);
    Ok(())
}

#[test]
fn a_tracer_that_is_blind_says_so_in_its_metrics() -> Result<()> {
    let site = site()?;
    let blind = ["--without", "special_response", "--keep-going"];
    let _tracer = served(&site, &blind)?;
    counted(
        &site.netns,
        &[
            ("tracer_blind", &[], 1.0),
            ("tracer_hook_attached", &["hook=\"special_response\""], 0.0),
        ],
    )
    .map(drop)
}

#[test]
fn a_full_accept_queue_is_shown_with_its_limit() -> Result<()> {
    let stage = Stage::new()?;
    let _full = listeners::full(&stage.netns, "127.0.0.1:9003")?;
    let expected = Expected::timeout("accept-queue-full", "127.0.0.1:9003");
    let fault = Fault::proxy(expected, "proxy_connect_timeout 2s;");
    let site = stage.start(vec![fault])?;
    let _tracer = served(&site, &[])?;
    site.send(Load {
        failing: 1,
        healthy: 1,
        ..Load::default()
    })?;
    let full = ["upstream=\"127.0.0.1:9003\"", "listener=\"127.0.0.1:9003\""];
    let failed = ["cause=\"accept-queue-full\"", "status=\"504\""];
    counted(
        &site.netns,
        &[
            ("tracer_accept_queue_depth", &full, 1.0),
            ("tracer_accept_queue_limit", &full, 0.0),
            ("tracer_failed_requests_total", &failed, 1.0),
        ],
    )
    .map(drop)
}

#[test]
fn an_upstream_too_many_shares_a_label_and_is_counted() -> Result<()> {
    let site = site()?;
    let _tracer = served(&site, &["--metrics-upstreams", "1"])?;
    let load = Load::default();
    // The healthy one has the only label.
    site.send(Load { failing: 0, ..load })?;
    counted(&site.netns, &[("tracer_attempts_total", &[HEALTHY], 5.0)])?;
    site.send(Load { healthy: 0, ..load })?;
    let other = ["upstream=\"other\"", "cause=\"no-listener\""];
    counted(
        &site.netns,
        &[
            ("tracer_failed_requests_total", &other, load.failing as f64),
            ("tracer_folded_upstreams", &[], 1.0),
        ],
    )?;
    Ok(())
}

#[test]
fn both_formats_pass_promtool_and_every_metric_is_documented() -> Result<()> {
    let test = "both_formats_pass_promtool_and_every_metric_is_documented";
    if is_missing(test) {
        return Ok(());
    }
    let site = site()?;
    let _tracer = served(&site, &[])?;
    let load = Load::default();
    site.send(load)?;
    counted(
        &site.netns,
        &[
            ("tracer_failed_requests_total", &[], load.failing as f64),
            ("tracer_accept_queue_depth", &[HEALTHY], 0.0),
        ],
    )?;
    let open = scrape(&site.netns, OPEN_METRICS)?;
    ensure!(
        open.kind.starts_with("application/openmetrics-text"),
        "{}",
        open.kind
    );
    let text = scrape(&site.netns, "*/*")?;
    ensure!(
        text.kind.starts_with("text/plain; version=0.0.4"),
        "{}",
        text.kind
    );
    let said = prometheus::promtool(&["check", "metrics"], &text.body)?;
    ensure!(said.is_empty(), "{said}");
    let documented = std::fs::read_to_string(programs::workspace().join("docs/monitoring.md"))?;
    let types = text
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let names: Vec<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    ensure!(names.len() > 15, "{names:?}");
    for name in names {
        ensure!(
            documented.contains(&format!("`{name}")),
            "{name} is not in docs/monitoring.md"
        );
    }
    for (path, status) in [("/", 404), ("/metrics?x=1", 200), ("/metrics/", 404)] {
        let answer = prometheus::get(&site.netns, SERVED, path, "*/*")?;
        ensure!(answer.status == status, "{path}: {answer:?}");
    }
    Ok(())
}

/// The shipped rules as they are, but without delay.
fn hasty_rules() -> Result<String> {
    let rules = prometheus::shipped("tracer.rules.yml")?;
    let lines = rules
        .lines()
        .map(|line| match line.trim_start().starts_with("for: ") {
            true => "        for: 0s",
            false => line,
        });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn configuration() -> String {
    format!(
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 300ms}}\n\
         rule_files: [tracer.rules.yml]\n\
         scrape_configs:\n\
         - job_name: tracer\n  static_configs: [{{targets: ['{SERVED}']}}]\n"
    )
}

/// The queries of the shipped dashboard, its variables filled in.
fn queries() -> Result<Vec<String>> {
    let board: Value = serde_json::from_str(&prometheus::shipped("tracer-dashboard.json")?)?;
    let panels = board["panels"].as_array().context("no panels")?.iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let expressions = targets.filter_map(|target| target["expr"].as_str());
    Ok(expressions
        .map(|expression| {
            let filled = expression
                .replace("$__rate_interval", "1m")
                .replace("$__range", "5m");
            ["$instance", "$upstream", "$job"]
                .iter()
                .fold(filled, |filled, name| filled.replace(name, ".*"))
        })
        .collect())
}

#[test]
fn rules_fire_on_a_refused_upstream_and_on_nothing_else() -> Result<()> {
    let test = "rules_fire_on_a_refused_upstream_and_on_nothing_else";
    if is_missing(test) {
        return Ok(());
    }
    let site = site()?;
    let _tracer = served(&site, &[])?;
    let rules = hasty_rules()?;
    let files = [
        ("prometheus.yml", configuration()),
        ("tracer.rules.yml", rules),
    ];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let prometheus = Prometheus::start(&site.netns, &files)?;
    let load = Load::default();

    // Healthy requests are counted, the rules have seen that, and none fires. A hook that this
    // kernel lacks and a scrape that a loaded machine is late with do not count.
    site.send(Load { failing: 0, ..load })?;
    let answered = "sum(tracer_attempts_total{outcome=\"answered\"} offset 1s)";
    let alerts = |but: &str| -> Result<Vec<(String, Value)>> {
        let alerts = prometheus.alerts()?.into_iter();
        let named = alerts.map(|alert| {
            let name = alert["labels"]["alertname"].as_str().unwrap_or_default();
            (name.to_owned(), alert)
        });
        Ok(named
            .filter(|(name, _)| !["TracerHookMissing", "TracerDown", but].contains(&name.as_str()))
            .collect())
    };
    until(
        "healthy attempts in Prometheus for a second",
        PATIENCE,
        || {
            let count = prometheus.value(answered)?;
            Ok((count == Some(load.healthy as f64)).then_some(()))
        },
    )
    .with_context(|| prometheus.log())?;
    let early = alerts("")?;
    ensure!(early.is_empty(), "{early:?}");

    site.send(load)?;
    const REFUSES: &str = "TracerUpstreamRefused";
    let refusals = until("the alert on the refused upstream", PATIENCE, || {
        let alerts = prometheus.alerts()?;
        let found = alerts
            .iter()
            .filter(|alert| alert["labels"]["alertname"] == REFUSES);
        let found: Vec<Value> = found.cloned().collect();
        Ok((!found.is_empty()).then_some(found))
    })
    .with_context(|| prometheus.log())?;
    ensure!(refusals.len() == 1, "{refusals:?}");
    let labels = &refusals[0]["labels"];
    ensure!(
        labels["upstream"] == REFUSED && labels["cause"] == "no-listener",
        "{labels}"
    );
    let summary = &refusals[0]["annotations"]["summary"];
    let expected = format!("nginx on {SERVED} cannot connect to {REFUSED}: no-listener");
    ensure!(*summary == expected, "{summary}");
    let others = alerts(REFUSES)?;
    ensure!(others.is_empty(), "{others:?}");

    let quantile = "histogram_quantile(0.99, sum by (le) \
        (tracer_first_byte_duration_seconds_bucket{upstream=\"127.0.0.1:8000\"}))";
    let quantile = prometheus.value(quantile)?;
    ensure!(
        quantile.is_some_and(|one| one > 0.0 && one < 60.0),
        "{quantile:?}"
    );

    let queries = queries()?;
    ensure!(queries.len() >= 15, "{queries:?}");
    let mut shown = 0;
    for query in queries {
        shown += usize::from(!prometheus.query(&query)?.is_empty());
    }
    // Masked failures and missing hooks there are none.
    ensure!(shown >= 15, "{shown} queries have a result");
    Ok(())
}

#[test]
fn rules_are_valid_and_keep_their_time() -> Result<()> {
    if is_missing("rules_are_valid_and_keep_their_time") {
        return Ok(());
    }
    let rules = prometheus::shipped("tracer.rules.yml")?;
    let page = |name: &str| std::fs::read_to_string(programs::workspace().join("docs").join(name));
    let (causes, documented) = (page("causes.md")?, page("monitoring.md")?);
    let mut alerts = 0;
    for line in rules.lines() {
        let matched = ["cause=~\"", "cause!~\""];
        let matched = matched.iter().filter_map(|one| line.split_once(one));
        let ids = matched.filter_map(|(_, rest)| rest.split('"').next());
        for id in ids.flat_map(|ids| ids.split('|')) {
            ensure!(causes.contains(&format!("## `{id}`")), "{id} is no cause");
        }
        if let Some((_, alert)) = line.split_once("- alert: ") {
            ensure!(documented.contains(&format!("| `{alert}` |")), "{alert}");
            alerts += 1;
        }
    }
    ensure!(alerts > 5, "{alerts} alerts");
    let folder = Folder::new()?;
    let rules = prometheus::copied("tracer.rules.yml", folder.path())?;
    prometheus::copied("prometheus.yml", folder.path())?;
    let said = prometheus::promtool(&["check", "rules", &rules.display().to_string()], "")?;
    ensure!(said.contains("SUCCESS"), "{said}");
    let config = folder.join("prometheus.yml");
    let said = prometheus::promtool(&["check", "config", &config.display().to_string()], "")?;
    ensure!(said.contains("SUCCESS"), "{said}");
    let test = folder.join("rules.test.yml");
    std::fs::write(&test, include_str!("../prometheus/rules.test.yml"))?;
    let said = prometheus::promtool(&["test", "rules", &test.display().to_string()], "")?;
    ensure!(said.contains("SUCCESS"), "{said}");
    Ok(())
}

/// More than tracer serves at a time.
const STALLED: usize = 60;

/// Connections of scrapers that stall: silent ones, half a request, and whole requests whose answer
/// is never read. The last one is silent.
fn stalled(netns: &Netns) -> Result<Vec<TcpStream>> {
    let texts: [&[u8]; 3] = [
        b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a",
        b"",
    ];
    netns.enter(|| {
        let texts = texts.into_iter().cycle().take(STALLED);
        let streams = texts.map(|text| {
            let mut stream = TcpStream::connect(SERVED)?;
            stream.set_nonblocking(true)?;
            stream.write_all(text)?;
            Ok(stream)
        });
        streams.collect()
    })
}

/// Whether tracer still has it open: it sends nothing on it.
fn is_open(mut stream: &TcpStream) -> bool {
    let read = stream.read(&mut [0]);
    read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn a_stalled_scraper_holds_up_neither_verdicts_nor_scrapes() -> Result<()> {
    let site = site()?;
    let tracer = served(&site, &[])?;
    let mut held = stalled(&site.netns)?;
    let load = Load::default();
    let sent = site.send(load)?;
    tracer.verdict_lines(load.failing)?;
    // A scrape behind them is answered before tracer gives the last of them up, which it does after
    // 10 s. A machine that is slower than that shows nothing, and tries again.
    until("a scrape while others stall", PATIENCE, || {
        held = stalled(&site.netns)?;
        let page = scrape(&site.netns, OPEN_METRICS)?.body;
        let count = sum(&page, "tracer_failed_requests_total", &[]);
        let was_held = held.last().is_some_and(is_open);
        Ok((was_held && count == Some(load.failing as f64)).then_some(()))
    })?;
    // All the others but so many were given up for later ones.
    let open = held.iter().filter(|one| is_open(one)).count();
    ensure!((1..=16).contains(&open), "{open} are open");
    site.check(&sent, tracer).map(drop)
}

#[test]
fn a_head_without_end_is_refused() -> Result<()> {
    let site = site()?;
    let _tracer = served(&site, &[])?;
    let line = format!("X-Long: {}\r\n", "a".repeat(1000));
    let many = "A: b\r\n".repeat(65);
    for headers in [line.repeat(64), many] {
        let status = site.netns.enter(|| {
            let mut stream = TcpStream::connect(SERVED)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let head = format!("GET /metrics HTTP/1.1\r\n{headers}\r\n");
            // It may be closed before all is written.
            let written = stream.write_all(head.as_bytes());
            Ok(written.ok().and_then(|()| prometheus::read(stream)))
        })?;
        ensure!(status.is_none_or(|status| status == 431), "{status:?}");
    }
    scrape(&site.netns, "*/*").map(drop)
}

/// As docs/monitoring.md has it, for a Prometheus that scrapes ports alone.
fn through_socat(netns: &Netns, path: &Path) -> Result<()> {
    let Ok(tree) = programs::backends() else {
        return Ok(());
    };
    let mut command = programs::rooted(&tree, "/usr/bin/socat")?;
    netns.place(&mut command);
    let listens = "TCP-LISTEN:9464,bind=127.0.0.1,fork,reuseaddr,range=127.0.0.1/32";
    let connects = format!("UNIX-CONNECT:{}", path.display());
    let mut socat = command.args([listens, &connects]).spawn()?;
    let page = until("a page through socat", PATIENCE, || {
        Ok(scrape(netns, "*/*").ok().map(|answer| answer.body))
    });
    process::end(&mut socat, libc::SIGTERM);
    ensure!(page?.contains("tracer_failed_requests_total{"));
    Ok(())
}

#[test]
fn a_unix_socket_is_its_owner_s_and_goes_with_the_run() -> Result<()> {
    let site = site()?;
    let folder = Folder::new()?;
    let path = folder.join("tracer.sock");
    let address = format!("unix:{}", path.display());
    let capture = folder.join("run.trc");
    let mut command = tracer::record(site.nginx.master, &capture)?;
    let mut tracer = Tracer::start(command.args(["--metrics", &address]))?;
    tracer.says(&format!("metrics on {address}"))?;
    tracer.tracing()?;
    let mode = std::fs::metadata(&path)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let load = Load::default();
    site.send(load)?;
    until("the counts", PATIENCE, || {
        let page = prometheus::ask(UnixStream::connect(&path)?, "/metrics", OPEN_METRICS)?;
        let count = sum(&page.body, "tracer_failed_requests_total", &[]);
        Ok((count == Some(load.failing as f64)).then_some(()))
    })?;
    through_socat(&site.netns, &path)?;
    tracer.stop(libc::SIGTERM)?;
    ensure!(!path.exists(), "the socket's file is left");
    Ok(())
}

#[test]
fn an_address_in_use_is_one_line_and_status_1() -> Result<()> {
    let site = site()?;
    let folder = Folder::new()?;
    let capture = folder.join("run.trc");
    let refuses = |address: &str, capture: &Path| -> Result<()> {
        let mut command = tracer::record(site.nginx.master, capture)?;
        let mut second = Tracer::start(command.args(["--metrics", address]))?;
        let ended = second.ended()?;
        ensure!(ended.status.code() == Some(1), "{:?}", ended.status);
        let expected =
            format!("tracer: serving metrics on {address}: Address already in use (os error 98)");
        ensure!(ended.stderr.trim() == expected, "{}", ended.stderr);
        ensure!(!capture.exists(), "a capture was begun");
        Ok(())
    };
    let holder = std::net::TcpListener::bind("127.0.0.1:0")?;
    refuses(&holder.local_addr()?.to_string(), &capture)?;
    let path = folder.join("held.sock");
    let _listens = std::os::unix::net::UnixListener::bind(&path)?;
    refuses(&format!("unix:{}", path.display()), &capture)
}
