//! A run on the living system: events in, verdicts out, and into a capture where one is recorded.
//! Shared by `live` and `record`.

use std::{path::PathBuf, pin::pin, time::Duration};

use anyhow::{Context as _, Result};
use jiff::SignedDuration;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};
use tracer_ebpf::abi::Members;

use super::{
    dump_socket::DumpSocket,
    recording::Recording,
    service::Service,
    serving::Served,
    verdicts::{Output, Verdicts},
};
use crate::{
    capture::Reply,
    engine::{Engine, Judged},
    event::{Event, coverage::Change},
    metrics::{Door, Metrics, Run},
    otlp::{self, Endpoint, Otlp},
    plural::count,
    probe,
    say::say,
    source::{Ceilings, Live, Options, Scope, clock, system},
};

/// What is followed, for how long, and how its verdicts are shown.
#[derive(Debug, clap::Args)]
pub(super) struct Following {
    #[command(flatten)]
    pub(super) output: Output,
    /// Stop after this time: 30s, 5m, 1h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) duration: Option<Duration>,
    /// Trace only this nginx master and its workers, by pid (may be repeated)
    #[arg(long, value_name = "PID")]
    master: Vec<u32>,
    /// Trace only this nginx worker, by pid (may be repeated)
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Also read this error log of nginx; those that its workers hold open are found (may be
    /// repeated)
    #[arg(long, value_name = "FILE")]
    error_log: Vec<PathBuf>,
    /// Limit tracer's CPU time to this percentage of one CPU. At the limit it sheds load: first
    /// healthy connections, then request details, then some failures; the summary has the counts
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    max_cpu: Option<f64>,
    /// Limit tracer's memory: 64M, 1G; the default depends on this host's size, see `tracer
    /// doctor`. Near the limit it sheds load in the same order
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    max_memory: Option<u64>,
    /// BPF ring buffer size: 512K, 16M; the default depends on this host's size, see `tracer
    /// doctor`
    #[arg(long, value_name = "SIZE", value_parser = buffer, hide_short_help = true)]
    kernel_buffer: Option<u64>,
    /// Run even if failures of the running nginx are not visible (by default: exit status 3), or a
    /// --master or --pid is not nginx yet (by default: exit status 2)
    #[arg(long)]
    keep_going: bool,
    #[command(flatten)]
    pub(super) kernel: Kernel,
}

/// Failures of an nginx could not be seen, which was said.
#[derive(Debug)]
pub(super) struct Blind(String);

impl Blind {
    /// Failures of some nginx were not visible for some time.
    pub(super) fn some() -> Self {
        let why = "blind: failures of some nginx were not visible; see `tracer doctor`";
        Self(why.to_owned())
    }
}

impl std::fmt::Display for Blind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Blind {}

/// Settings of the kernel side; shared with `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Kernel {
    /// The kernel's BTF
    #[arg(
        long,
        hide = true,
        env = "TRACER_BTF_PATH",
        default_value = "/sys/kernel/btf/vmlinux"
    )]
    pub(super) btf: PathBuf,
    /// Do not use this kind of hook (fentry, kprobe, tracepoint …) or this BPF program: tests force
    /// each fallback
    #[arg(long, hide = true, value_name = "KIND|PROGRAM", value_parser = known)]
    pub(super) without: Vec<String>,
    /// Take every nginx to have `pc->log`, `log->data` and `r->upstream` at these offsets: tests
    /// force a wrong layout
    #[arg(long, hide = true, value_name = "LOG,DATA,UPSTREAM", value_parser = layout)]
    pub(super) layout: Option<Members>,
    /// Show diagnostics of the BPF programs on stderr
    #[arg(long, hide_short_help = true)]
    pub(super) debug: bool,
}

/// So many nginx are named as tracing begins; of more it is said how many.
const GREETED: usize = 5;
/// aya-log's `Debug`.
const DEBUG: u8 = 4;
/// After Ctrl-C, questions in flight have this long to be answered by the host.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(200);

fn layout(text: &str) -> Result<Members, String> {
    let numbers: Vec<u16> = text.split(',').filter_map(|it| it.parse().ok()).collect();
    match numbers[..] {
        [peer_log, log_data, upstream] => Ok(Members {
            peer_log,
            log_data,
            upstream,
            state: 0,
        }),
        _ => Err("three offsets are needed".to_owned()),
    }
}

fn known(word: &str) -> Result<String, String> {
    if probe::is_known(word) {
        Ok(word.to_owned())
    } else {
        Err("neither a kind of hook nor a BPF program of tracer".to_owned())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let parsed = text.parse::<SignedDuration>().ok();
    let duration = parsed.and_then(|duration| Duration::try_from(duration).ok());
    duration.ok_or_else(|| "a time such as 30s, 5m, 1h or 1h30m".to_owned())
}

/// What is bounded by number takes half of it at most: log lines, what the host answered.
const LEAST_MEMORY: u64 = 32 << 20;

fn memory(text: &str) -> Result<u64, String> {
    super::size::at_least(LEAST_MEMORY, text)
}

fn buffer(text: &str) -> Result<u64, String> {
    super::size::at_least(PAGE, text)
}

/// The least that the kernel takes for a ring.
const PAGE: u64 = 4 << 10;

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    number
        .filter(|number| *number >= 1.0 && number.is_finite())
        .map(|number| number / 100.0)
        .ok_or_else(|| "a percentage of one CPU, at least 1%, as in 5%".to_owned())
}

/// Runs until a signal or the end of `--duration`; `recording` gets every event.
///
/// # Errors
/// Not permitted, this kernel cannot, or stdout cannot be written.
pub(super) fn run(
    following: Following,
    recording: Option<Recording>,
    served: Served,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?;
    runtime.block_on(trace(following, recording, served))
}

/// Attaches all hooks. `others` is the memory that something else holds; `healthy` has healthy
/// connections reported, too.
///
/// # Errors
/// Not permitted, this kernel cannot, or failures of the running nginx are not visible.
pub(super) fn start(following: &Following, others: u64, healthy: bool) -> Result<Live> {
    let kernel = &following.kernel;
    let live = Live::start(Options {
        scope: Scope {
            masters: following.master.clone(),
            workers: following.pid.clone(),
        },
        btf: kernel.btf.clone(),
        without: kernel.without.clone(),
        layout: kernel.layout,
        awaits_nginx: following.keep_going,
        error_logs: following.error_log.clone(),
        ring: following.kernel_buffer,
        ceilings: Ceilings {
            cpu: following.max_cpu,
            memory: following.max_memory,
            beside: others,
        },
        healthy,
        log_level: if kernel.debug { DEBUG } else { 0 },
    })?;
    if let Some(why) = live.blindness() {
        let why = Blind(format!("blind: {why}; see `tracer doctor`"));
        if !following.keep_going {
            return Err(why.into());
        }
        say!("tracer: {why}");
    }
    for lacking in live.lacking() {
        say!("tracer: without {}: {}", lacking.name, lacking.lost);
    }
    Ok(live)
}

/// Who is followed: `2 workers of nginx 1.22.1 (master 812)`; some masters by name, the others
/// counted.
pub(super) fn followed(live: &Live) -> String {
    let masters = live.following().masters();
    if masters.is_empty() {
        return "no nginx is running yet, waiting for one".to_owned();
    }
    let workers = live.following().workers();
    let mut who: Vec<String> = masters
        .iter()
        .take(GREETED)
        .map(|master| {
            let version = master.version.as_deref().unwrap_or("nginx");
            format!("{} (master {})", version.replacen('/', " ", 1), master.pid)
        })
        .collect();
    let more = masters.len() - who.len();
    if more > 0 {
        who.push(format!("{more} more"));
    }
    format!("{} of {}", count(workers, "worker"), who.join(", "))
}

async fn trace(following: Following, recording: Option<Recording>, served: Served) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("handling SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("handling SIGTERM")?;
    let mut hangup = signal(SignalKind::hangup()).context("handling SIGHUP")?;
    let mut dump = match &recording {
        Some(_) => Some(signal(SignalKind::user_defined1()).context("handling SIGUSR1")?),
        None => None,
    };
    let others = recording.as_ref().map_or(0, Recording::memory)
        + served.otlp.as_ref().map_or(0, |_| otlp::MEMORY);
    let healthy = recording.is_some() || served.metrics.is_some();
    let live = start(&following, others, healthy)?;
    let mut session = Session::new(live, following.output, recording, following.kernel.debug)?;
    if let Some((door, upstreams)) = served.metrics {
        session.serve(door, upstreams)?;
    }
    if let Some(endpoint) = served.otlp {
        session.send(endpoint)?;
    }
    session.greet();
    let far = Instant::now() + Duration::from_secs(86_400 * 365);
    let end = following
        .duration
        .map_or(far, |duration| Instant::now() + duration);
    let mut end = pin!(sleep_until(end));
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hangup.recv() => break,
            () = &mut end => break,
            () = asked(&mut dump) => session.dump(None),
            reply = requested(&mut session.dump_socket) => session.dump(Some(reply)),
            events = session.live.next() => session.take(events.context("reading kernel events")?)?,
        }
    }
    session.finish().await
}

/// The next signal of that kind; never, where none is waited for.
async fn asked(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// The next who asks for a file; never, where nobody can.
async fn requested(socket: &mut Option<DumpSocket>) -> Reply {
    if let Some(open) = socket {
        match open.next().await {
            Ok(reply) => return reply,
            Err(error) => {
                say!("tracer: `tracer dump` cannot ask any more, SIGUSR1 can: {error}");
                *socket = None;
            }
        }
    }
    std::future::pending().await
}

struct Session {
    live: Live,
    engine: Engine,
    verdicts: Verdicts,
    /// This host's name, as it is at the start.
    host: String,
    recording: Option<Recording>,
    metrics: Option<Metrics>,
    /// Where `tracer dump` connects.
    dump_socket: Option<DumpSocket>,
    service: Service,
    /// Whom it traces, by which hooks.
    what: String,
    verdicts_given: u64,
    otlp: Option<Otlp>,
    /// Failures of some nginx cannot be seen.
    is_blind: bool,
    lost: u64,
    debug: bool,
}

impl Session {
    fn new(
        live: Live,
        output: Output,
        mut recording: Option<Recording>,
        debug: bool,
    ) -> Result<Self> {
        let clock = clock::reading();
        if let Some(recording) = &mut recording {
            recording.begin(&live, clock);
        }
        Ok(Self {
            live,
            engine: Engine::default(),
            verdicts: Verdicts::live(output, clock)?,
            host: system::host(),
            dump_socket: match &recording {
                Some(recording) if recording.is_ring() => DumpSocket::open(),
                _ => None,
            },
            recording,
            metrics: None,
            service: Service::from_environment(),
            what: String::new(),
            verdicts_given: 0,
            otlp: None,
            is_blind: false,
            lost: 0,
            debug,
        })
    }

    /// Begins to serve metrics, and says where.
    fn serve(&mut self, door: Door, upstreams: u16) -> Result<()> {
        let (url, clock, run) = (door.url(), clock::reading(), self.run());
        let started = Metrics::start(door, upstreams.into(), clock, self.live.now(), run);
        self.metrics = Some(started.context("starting to serve metrics")?);
        say!("metrics on {url}");
        Ok(())
    }

    /// Begins to send verdicts to a collector.
    fn send(&mut self, endpoint: Endpoint) -> Result<()> {
        let started = Otlp::start(endpoint, &self.host, clock::reading());
        self.otlp = Some(started.context("starting to send verdicts")?);
        Ok(())
    }

    /// What the run knows of itself.
    fn run(&self) -> Run {
        let following = self.live.following();
        let masters = following.masters().len();
        Run {
            hooks: self.live.hook_states(),
            masters,
            workers: following.workers(),
            unreported: self.engine.unreported(),
            is_blind: following.is_blind_to_some()
                || (masters == 0 && self.live.blindness().is_some()),
        }
    }

    /// Publishes the metrics, once a second.
    fn publish(&mut self) {
        // Taken for the moment: a snapshot reads the rest of the session.
        if let Some(mut metrics) = self.metrics.take() {
            metrics.publish(self.live.now(), || self.run());
            self.metrics = Some(metrics);
        }
    }

    fn dump(&mut self, reply: Option<Reply>) {
        if let Some(recording) = &mut self.recording {
            recording.dump(self.live.now(), reply);
        }
    }

    /// One line on stderr: hooks are attached.
    fn greet(&mut self) {
        if let Some(recording) = &self.recording {
            recording.greet();
        }
        let tally = self.live.tally();
        let mut hooks = tally.to_string();
        if tally.fallback + tally.missing > 0 {
            hooks.push_str(" (`tracer doctor` says what that costs)");
        }
        let who = followed(&self.live);
        self.what = match self.live.following().masters().is_empty() {
            true => format!("tracing: {who}; {hooks}"),
            false => format!("tracing {who}: {hooks}"),
        };
        say!("{}", self.what);
        self.service.ready(&self.what);
    }

    /// What a service manager shows.
    fn status(&self) -> String {
        let failed = count(self.verdicts_given, "failed request");
        let last = self.recording.as_ref().and_then(Recording::last);
        let last = last.map_or(String::new(), |line| format!("; {line}"));
        let blind = if self.is_blind { "; blind to some" } else { "" };
        format!("{}; {failed}{blind}{last}", self.what)
    }

    fn take(&mut self, events: Vec<Event>) -> Result<()> {
        let mut questions = Vec::new();
        for event in events {
            if let Event::Lost(lost) = &event {
                self.lost += lost.events;
                self.verdicts.lost(self.lost);
            }
            if let Event::Coverage(coverage) = &event {
                self.is_blind |= matches!(
                    coverage.change,
                    Change::Blind {
                        is_foreign: false,
                        ..
                    }
                );
            }
            let said = self.verdicts.notice(&event, &self.host, event.at())?;
            if let (Some(otlp), Some(said)) = (&self.otlp, said) {
                otlp.notice(said);
            }
            if let Some(recording) = &mut self.recording {
                recording.event(&event);
            }
            if let Some(metrics) = &mut self.metrics {
                metrics.event(&event);
            }
            let step = self.engine.feed(event);
            questions.extend(step.questions);
            self.report(step.verdicts)?;
        }
        self.live.ask(questions);
        self.verdicts.flush(self.live.now())?;
        self.publish();
        if self.service.beat() {
            let status = self.status();
            self.service.status(status);
        }
        Ok(())
    }

    /// Takes what is there.
    fn collect(&mut self) -> Result<()> {
        let events = self.live.collect();
        self.take(events)
    }

    async fn finish(mut self) -> Result<()> {
        self.service.stopping();
        // Nobody is kept waiting for what is written now.
        self.dump_socket = None;
        self.collect()?;
        let deadline = Instant::now() + LAST_WORDS;
        while self.engine.is_waiting() && self.live.is_asking() {
            tokio::select! {
                () = sleep_until(deadline) => break,
                events = self.live.next() => self.take(events.context("reading kernel events")?)?,
            }
        }
        self.collect()?;
        let end = self.live.now();
        while let Some(verdicts) = self.engine.finish(end) {
            self.report(verdicts)?;
        }
        if self.debug {
            let (written, received, lost) = self.live.account();
            say!("kernel records: {written} written, {received} received, {lost} lost");
        }
        self.verdicts.unreported(self.engine.unreported());
        if let Some(otlp) = self.otlp.take() {
            self.verdicts.unsent(otlp.finish());
        }
        let finished = self.verdicts.finish();
        // Whatever became of stdout.
        let recorded = self
            .recording
            .map_or(Ok(()), |recording| recording.finish(end));
        finished.and(recorded)?;
        if self.is_blind {
            return Err(Blind::some().into());
        }
        Ok(())
    }

    fn report(&mut self, verdicts: Judged) -> Result<()> {
        for verdict in verdicts {
            self.verdicts_given += 1;
            if let Some(recording) = &mut self.recording {
                recording.verdict(&verdict);
            }
            if let Some(metrics) = &mut self.metrics {
                metrics.verdict(&verdict);
            }
            if let Some(otlp) = &self.otlp {
                otlp.verdict(&verdict);
            }
            self.verdicts.take(&verdict, &self.host)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_a_unit_or_seconds() {
        for (text, seconds) in [
            ("30", 30),
            ("30s", 30),
            ("5m", 300),
            ("1h", 3600),
            ("1h30m", 5400),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in [
            "",
            "m",
            "-5s",
            "5 parsecs",
            "1h ago",
            "99999999999999999999",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
