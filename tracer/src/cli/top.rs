//! `tracer top`: failures, latencies and queues as they change; or of a capture.

use std::{
    collections::HashSet,
    io::{self, Write as _},
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use ratatui::{Terminal, backend::TestBackend};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{
    keyboard::Keyboard,
    playing::{self, Captures},
    screen::{NoTerminal, Screen},
    session::{self, Blind, Following},
    verdicts::{Output, zone},
};
use crate::{
    clean,
    engine::{Engine, Judged, Played},
    event::{Clock, Event, Question, coverage::Change},
    render::{coverage, notice},
    say::{self, say},
    source::{Live, clock, system},
    top::{Look, Model, Snapshot, State, Wish, draw},
};

/// Arguments of `tracer top`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Show these captures of `tracer record` instead of the running nginx; `-` reads one from
    /// stdin
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print once and end; needs no terminal. Live, it prints after --duration (10 s by default)
    #[arg(long)]
    once: bool,
    /// Panic at the first key: tests see that the terminal is given back
    #[arg(long, hide = true)]
    fault: bool,
    #[command(flatten)]
    following: Following,
}

const EXAMPLES: &str = "Examples:
  sudo tracer top
  tracer top incident.trc
  sudo tracer top --once --format json --duration 30s

Keys:
  up, down, page up, page down, home, end (or k j b space g G)   select, scroll
  Enter                             the verdict's evidence and advice; Esc goes back
  Tab                               the other list: upstreams, verdicts
  q, Ctrl-C                         quit";

/// How often a live picture changes.
const FRAME: Duration = Duration::from_millis(250);
/// How often accept queues are asked about.
const ASK: Duration = Duration::from_secs(1);
/// How long `--once` looks at a living system, unless asked otherwise.
const LOOK: Duration = Duration::from_secs(10);
/// Columns of `--once` where there is no terminal.
const COLUMNS: u16 = 120;
/// What the counts may hold (bytes).
const MEMORY: u64 = 16 << 20;
/// Lines that it may have.
const LINES: usize = 2000;

/// Runs it.
///
/// # Errors
/// No terminal; else those of `live` or `explain`.
pub(super) fn run(args: Args) -> Result<()> {
    if !args.once && !say::is_terminal() {
        return Err(NoTerminal.into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?;
    if args.files.is_empty() {
        return runtime.block_on(follow(args));
    }
    let (mut model, title) = played(args.files, &args.following.output)?;
    let look = look(&args.following.output, title);
    let snapshot = model.snapshot();
    match args.once {
        true => print(&snapshot, &look, &args.following.output),
        false => runtime.block_on(browse(&snapshot, &look, args.fault)),
    }
}

fn look(output: &Output, title: String) -> Look {
    Look {
        color: output.has_colors(),
        zone: zone(output.utc),
        title,
    }
}

/// All of the captures.
fn played(files: Vec<PathBuf>, output: &Output) -> Result<(Model, String)> {
    let captures = Captures::of(files);
    let mut replay = captures.open()?;
    let mut model = Model::new(false);
    for run in replay.runs() {
        model.seen(run.header().clock.wall);
    }
    playing::play(&mut replay, |run, played| {
        let clock = &run.header().clock;
        match played {
            Played::Event(event) => {
                model.event(event, clock);
                note(&mut model, event, clock);
            }
            Played::Verdict(verdict) if output.shows(verdict) => {
                model.verdict(verdict, &Arc::from(run.header().host.as_str()), clock);
            }
            Played::Verdict(_) | Played::Cut => {}
        }
        Ok(())
    })?;
    for run in replay.runs() {
        model.seen(run.unix_now());
    }
    playing::report_damages(&replay);
    Ok((model, format!("capture: {}", captures.names().join(", "))))
}

/// Keeps what is no failed request and yet explains an incident.
fn note(model: &mut Model, event: &Event, clock: &Clock) {
    let words = match event {
        Event::Notice(one) => Some(notice::sentence(one, |time| {
            crate::render::json::rfc3339(clock, time)
        })),
        Event::Coverage(one) => coverage::sentence(&one.change, one.at),
        _ => None,
    };
    if let Some(words) = words {
        model.notice(clean::cut(&words));
    }
}

/// Prints what a terminal would show, or the same for machines.
fn print(snapshot: &Snapshot, look: &Look, output: &Output) -> Result<()> {
    let mut out = say::rendered().lock();
    let written = match output.is_json() {
        true => snapshot.json(&mut out),
        false => page(snapshot, look).and_then(|page| out.write_all(page.as_bytes())),
    };
    written
        .and_then(|()| out.flush())
        .context("writing to stdout")
}

/// The picture in plain lines, as high as it needs to be.
fn page(snapshot: &Snapshot, look: &Look) -> io::Result<String> {
    let (upstreams, queues) = (snapshot.upstreams.len(), snapshot.queues.len());
    // The lists have fixed shares of the height.
    let height = (3 * (upstreams + 2) + 6 * (queues + 2) + snapshot.verdicts.len() + 10).min(LINES);
    let width = say::size().map_or(COLUMNS, |(width, _)| width.max(80));
    let backend = TestBackend::new(width, u16::try_from(height).unwrap_or(u16::MAX));
    let mut terminal = Terminal::new(backend).map_err(io::Error::other)?;
    let mut state = State::still();
    let drawn = terminal.draw(|frame| draw(frame, snapshot, &mut state, look));
    let drawn = drawn.map_err(io::Error::other)?;
    let mut page = String::new();
    for row in drawn.buffer.content().chunks(usize::from(width)) {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        page.push_str(line.trim_end());
        page.push('\n');
    }
    Ok(format!("{}\n", page.trim_end()))
}

/// What ends a run from outside, and what changes the terminal.
struct Signals {
    ends: Vec<Signal>,
    resized: Signal,
}

impl Signals {
    fn handle() -> Result<Self> {
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::quit(),
        ];
        let ends = kinds.into_iter().map(signal).collect::<io::Result<_>>();
        Ok(Self {
            ends: ends.context("handling signals")?,
            resized: signal(SignalKind::window_change()).context("handling SIGWINCH")?,
        })
    }
}

/// The next of these.
async fn any(signals: &mut [Signal]) {
    std::future::poll_fn(|context| {
        let mut signals = signals.iter_mut();
        match signals.any(|one| one.poll_recv(context).is_ready()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}

/// A capture's picture, until a key or a signal ends it.
async fn browse(snapshot: &Snapshot, look: &Look, fault: bool) -> Result<()> {
    let mut signals = Signals::handle()?;
    let mut keyboard = Keyboard::open().map_err(|_| NoTerminal)?;
    let mut screen = Screen::take()?;
    let mut state = State::default();
    loop {
        let is_drawn = screen.draw(|frame| draw(frame, snapshot, &mut state, look))?;
        tokio::select! {
            biased;
            () = any(&mut signals.ends) => return Ok(()),
            () = sleep(FRAME), if !is_drawn => {}
            _ = signals.resized.recv() => {}
            keys = keyboard.read() => {
                assert!(!fault, "a test's own");
                if keys.is_empty() || state.take(&keys, snapshot) == Wish::Quit {
                    return Ok(());
                }
            }
        }
    }
}

/// A living system's.
struct Watch {
    live: Live,
    engine: Engine,
    model: Model,
    output: Output,
    clock: Clock,
    host: Arc<str>,
    /// What was asked for the picture alone: the verdicts stay those of `live`.
    asked: HashSet<Question>,
    is_blind: bool,
}

async fn follow(args: Args) -> Result<()> {
    let mut signals = Signals::handle()?;
    let following = args.following;
    let live = session::start(&following, MEMORY, true)?;
    let title = format!("live: {}", session::followed(&live));
    let look = look(&following.output, title);
    let duration = following.duration.or(args.once.then_some(LOOK));
    let mut watch = Watch {
        live,
        engine: Engine::default(),
        model: Model::new(true),
        output: following.output,
        clock: clock::reading(),
        host: system::host().into(),
        asked: HashSet::new(),
        is_blind: false,
    };
    let far = Duration::from_secs(86_400 * 365);
    let mut end = pin!(sleep_until(Instant::now() + duration.unwrap_or(far)));
    if args.once {
        let time = duration.unwrap_or(LOOK).as_secs();
        say!("tracing {} for {time} s", session::followed(&watch.live));
        loop {
            tokio::select! {
                biased;
                () = any(&mut signals.ends) => break,
                () = &mut end => break,
                events = watch.live.next() => watch.take(events.context("reading kernel events")?),
            }
        }
        watch.finish().await?;
        print(&watch.model.snapshot(), &look, &watch.output)?;
    } else {
        let mut keyboard = Keyboard::open().map_err(|_| NoTerminal)?;
        let mut screen = Screen::take()?;
        let mut state = State::default();
        let mut frames = interval(FRAME);
        let mut asks = interval(ASK);
        frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
        asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shown = watch.model.snapshot();
        loop {
            tokio::select! {
                biased;
                () = any(&mut signals.ends) => break,
                () = &mut end => break,
                keys = keyboard.read() => {
                    if keys.is_empty() || state.take(&keys, &shown) == Wish::Quit {
                        break;
                    }
                    screen.draw(|frame| draw(frame, &shown, &mut state, &look))?;
                }
                _ = signals.resized.recv() => {
                    screen.draw(|frame| draw(frame, &shown, &mut state, &look))?;
                }
                _ = frames.tick() => {
                    shown = watch.model.snapshot();
                    screen.draw(|frame| draw(frame, &shown, &mut state, &look))?;
                }
                _ = asks.tick() => watch.ask(),
                events = watch.live.next() => watch.take(events.context("reading kernel events")?),
            }
        }
    }
    match watch.is_blind {
        true => Err(Blind::some().into()),
        false => Ok(()),
    }
}

impl Watch {
    fn take(&mut self, events: Vec<Event>) {
        let mut questions = Vec::new();
        for event in events {
            if let Event::Coverage(coverage) = &event
                && let Change::Blind { is_foreign, .. } = coverage.change
            {
                self.is_blind |= !is_foreign;
            }
            self.model.event(&event, &self.clock);
            note(&mut self.model, &event, &self.clock);
            if let Event::Fact(fact) = &event
                && self.asked.remove(&fact.question)
            {
                continue;
            }
            let step = self.engine.feed(event);
            questions.extend(step.questions);
            self.judged(step.verdicts);
        }
        // Both answers come; each is taken as what it may have been asked for.
        for question in &questions {
            self.asked.remove(question);
        }
        self.live.ask(questions);
    }

    fn judged(&mut self, verdicts: Judged) {
        for verdict in verdicts {
            if self.output.shows(&verdict) {
                self.model.verdict(&verdict, &self.host, &self.clock);
            }
        }
    }

    /// Asks how full the accept queues of upstreams in use are, once those asked before answered.
    fn ask(&mut self) {
        let now = self.clock.unix_nanos(self.live.now());
        let questions = self.model.questions(now);
        // An answer that never comes must not be waited for.
        self.asked = questions.iter().cloned().collect();
        self.live.ask(questions);
    }

    /// What is in flight is judged.
    async fn finish(&mut self) -> Result<()> {
        let events = self.live.collect();
        self.take(events);
        let deadline = Instant::now() + session::LAST_WORDS;
        while self.engine.is_waiting() && self.live.is_asking() {
            tokio::select! {
                () = sleep_until(deadline) => break,
                events = self.live.next() => self.take(events.context("reading kernel events")?),
            }
        }
        let events = self.live.collect();
        self.take(events);
        while let Some(verdicts) = self.engine.finish(self.live.now()) {
            self.judged(verdicts);
        }
        Ok(())
    }
}
