//! `tracer live`: verdicts as they happen. stdout carries verdicts only.

use std::{path::PathBuf, pin::pin, time::Duration};

use super::verdicts::{Output, Verdicts};
use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use crate::{
    causes,
    correlate::Correlator,
    event::Event,
    source::{Live, Options, Scope, clock},
};

/// Arguments of `tracer live`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    output: Output,
    /// End after this time: 30s, 5m, 1h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Follow only this nginx master, by pid (may be repeated)
    #[arg(long, value_name = "PID")]
    master: Vec<u32>,
    /// Follow only this nginx worker, by pid (may be repeated)
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Read this error log of nginx too, besides those that its workers hold open (may be repeated)
    #[arg(long, value_name = "FILE")]
    error_log: Vec<PathBuf>,
    #[command(flatten)]
    kernel: Kernel,
}

/// What is asked of the kernel; shared with `doctor`.
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
    /// Show the BPF programs' own diagnostics on stderr
    #[arg(long, hide_short_help = true)]
    pub(super) debug: bool,
}

const EXAMPLES: &str = "Examples:
  sudo tracer live
  sudo tracer live --format json --duration 5m > verdicts.jsonl
  sudo tracer live --cause no-listener --upstream 127.0.0.1:3000
  sudo tracer live --master 812";

/// aya-log's `Debug`.
const DEBUG: u8 = 4;
/// After Ctrl-C, what is under way is given this long to be answered by the host.
const LAST_WORDS: Duration = Duration::from_millis(200);

fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let number: u64 = digits
        .parse()
        .map_err(|_| "a number and s, m or h, as in 30s, 5m, 1h".to_owned())?;
    let seconds = match unit {
        "s" | "" => number,
        "m" => number * 60,
        "h" => number * 3600,
        _ => return Err("a number and s, m or h, as in 30s, 5m, 1h".to_owned()),
    };
    Ok(Duration::from_secs(seconds))
}

/// Runs it.
///
/// # Errors
/// Not permitted, this kernel can not, or stdout can not be written.
pub(super) fn run(args: Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?;
    runtime.block_on(trace(args))
}

async fn trace(args: Args) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("handling SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("handling SIGTERM")?;
    let mut hangup = signal(SignalKind::hangup()).context("handling SIGHUP")?;
    let live = Live::start(Options {
        scope: Scope {
            masters: args.master.clone(),
            workers: args.pid.clone(),
        },
        btf: args.kernel.btf.clone(),
        error_logs: args.error_log.clone(),
        log_level: if args.kernel.debug { DEBUG } else { 0 },
    })?;
    let mut session = Session::new(live, args);
    session.greet();
    let far = Instant::now() + Duration::from_secs(86_400 * 365);
    let end = session
        .args
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
            events = session.live.next() => session.take(events.context("reading kernel events")?)?,
        }
    }
    session.finish().await
}

struct Session {
    live: Live,
    correlator: Correlator,
    args: Args,
    verdicts: Verdicts,
    masters: usize,
    lost: u64,
}

impl Session {
    fn new(live: Live, args: Args) -> Self {
        let correlator = Correlator::new(absent(&live));
        Self {
            live,
            correlator,
            verdicts: Verdicts::new(args.output.clone(), clock::reading()),
            args,
            masters: 0,
            lost: 0,
        }
    }

    /// One line on stderr: all hooks stand.
    fn greet(&mut self) {
        let masters = self.live.following().masters();
        let standing = self.live.probes().standing();
        let absent = self.live.probes().absent().len();
        let hooks = if absent == 0 {
            format!("{standing} hooks")
        } else {
            format!("{standing} hooks, {absent} absent (`tracer doctor` says what that costs)")
        };
        if masters.is_empty() {
            eprintln!("tracing: no nginx is running yet, waiting for one; {hooks}");
        } else {
            let workers = self.live.following().workers();
            let who: Vec<String> = masters
                .iter()
                .map(|master| {
                    let version = master
                        .version
                        .as_deref()
                        .unwrap_or("nginx")
                        .replace('/', " ");
                    format!("{version} (master {})", master.pid)
                })
                .collect();
            let s = if workers == 1 { "" } else { "s" };
            eprintln!("tracing {workers} worker{s} of {}: {hooks}", who.join(", "));
        }
        self.masters = masters.len();
    }

    fn take(&mut self, events: Vec<Event>) -> Result<()> {
        for event in events {
            if let Event::Lost { events, .. } = event {
                self.lost += events;
                self.verdicts.lost(self.lost);
            }
            let outcome = self.correlator.feed(event);
            self.live.ask(outcome.questions);
            for case in outcome.cases {
                if let Some(verdict) = causes::judge(&case) {
                    self.verdicts.take(&verdict)?;
                }
            }
        }
        self.verdicts.flush(self.live.now())?;
        if self.live.following().masters().len() > self.masters {
            self.correlator.set_absent_hooks(absent(&self.live));
            self.greet();
        }
        self.masters = self.live.following().masters().len();
        Ok(())
    }

    async fn finish(mut self) -> Result<()> {
        let deadline = Instant::now() + LAST_WORDS;
        while self.correlator.is_waiting() {
            tokio::select! {
                () = sleep_until(deadline) => break,
                events = self.live.next() => self.take(events.context("reading kernel events")?)?,
            }
        }
        let mut events = Vec::new();
        self.live.collect(&mut events);
        self.take(events)?;
        for case in self.correlator.finish(self.live.now()) {
            if let Some(verdict) = causes::judge(&case) {
                self.verdicts.take(&verdict)?;
            }
        }
        self.verdicts.given_up(self.correlator.given_up());
        self.verdicts.finish()
    }
}

fn absent(live: &Live) -> Vec<String> {
    live.probes()
        .absent()
        .into_iter()
        .map(ToOwned::to_owned)
        .collect()
}
