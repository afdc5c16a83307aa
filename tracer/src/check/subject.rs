//! One nginx that is checked: whose view counts, and its configuration.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{
    finding::{CONFIG_CHANGED, CONFIG_UNREADABLE, Finding},
    tcp::Fault,
    words::quoted,
};
use crate::{
    nginx::{
        Master,
        config::{At, Tree},
    },
    process::{self, Guest},
    source::clock,
};

/// A process's start is known in ticks of 10 ms, a file's change in the kernel's own.
const TICKS: Duration = Duration::from_millis(20);

/// Readings of the clocks.
const READINGS: usize = 8;

/// See [the module](self).
#[derive(Debug)]
pub(super) struct Subject {
    /// 0: a file that no running nginx was started with.
    pub(super) master: u32,
    /// A worker, or this process.
    pub(super) viewer: u32,
    /// Those that take requests.
    pub(super) workers: Vec<u32>,
    /// `None`: it is tried from where tracer itself is.
    pub(super) guest: Option<Guest>,
    pub(super) tree: Tree,
    pub(super) conf: PathBuf,
    /// What paths are relative to.
    pub(super) prefix: Option<PathBuf>,
    /// Folders for temporary files as they were compiled in, by directive.
    pub(super) temporary: BTreeMap<&'static str, PathBuf>,
    /// When the oldest worker began.
    pub(super) since: Option<SystemTime>,
}

impl Subject {
    /// A running nginx, with its own configuration or another.
    ///
    /// # Errors
    /// It has no worker, is gone, or its configuration cannot be read.
    pub(super) fn of(master: &Master, conf: Option<&Path>) -> io::Result<Self> {
        let workers = master.serving();
        let viewer = workers.first().copied();
        let viewer = viewer.ok_or_else(|| io::Error::other("it has no worker"))?;
        let user = process::status(viewer)?;
        let own = master.configuration().map(PathBuf::from);
        let is_own = conf.is_none() || conf == own.as_deref();
        let conf = conf.map(Path::to_owned).or(own);
        let conf = conf.ok_or_else(|| io::Error::other("its configuration file is not known"))?;
        let reader = master.shown();
        Ok(Self {
            master: master.pid,
            viewer,
            guest: Some(Guest::of(viewer, &user)?),
            tree: Tree::read(reader, &conf, master.directives())?,
            conf,
            prefix: master.prefix.clone(),
            temporary: master.binary.temporary.clone(),
            since: since(&workers).filter(|_| is_own),
            workers,
        })
    }

    /// A file, seen from where tracer is.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn of_file(conf: &Path) -> io::Result<Self> {
        let own = std::process::id();
        Ok(Self {
            master: 0,
            viewer: own,
            workers: Vec::new(),
            guest: None,
            tree: Tree::read(own, conf, Vec::new())?,
            conf: conf.to_owned(),
            prefix: None,
            temporary: BTreeMap::new(),
            since: None,
        })
    }

    /// A fault at a place of the configuration.
    pub(super) fn finding(&self, at: &At, fault: Fault) -> Finding {
        Finding {
            severity: fault.severity,
            master: self.master,
            at: at.clone(),
            peer: None,
            cause: fault.cause,
            text: fault.text,
            fix: fault.fix,
        }
    }

    /// A finding about the files as a whole.
    pub(super) fn whole(&self) -> At {
        At {
            file: self.conf.to_string_lossy().into(),
            line: 0,
        }
    }

    /// Was this file written since the workers read it?
    pub(super) fn is_newer(&self, file: &str) -> bool {
        let seen = self
            .tree
            .files
            .iter()
            .find(|one| *one.path == *Path::new(file));
        self.since
            .zip(seen)
            .is_some_and(|(since, seen)| seen.written > since + TICKS)
    }

    /// What is wrong with the files themselves.
    pub(super) fn files(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        let files = self.tree.files.iter();
        let newer: Vec<_> = files
            .map(|seen| seen.path.to_string_lossy())
            .filter(|path| self.is_newer(path))
            .collect();
        if let Some(first) = newer.first() {
            let more = match newer.len() {
                1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            let at = At {
                file: first.as_ref().into(),
                line: 0,
            };
            let text = format!(
                "{first}{more} was written after the workers began: they run an older configuration, and what follows is about the files"
            );
            let fix = "Load it: nginx -t && nginx -s reload".to_owned();
            found.push(self.finding(&at, Fault::warning(CONFIG_CHANGED, text, fix)));
        }
        for unread in self.tree.unread.iter().filter(|one| one.is_missing) {
            let (file, line) = &unread.from;
            let at = At {
                file: file.to_string_lossy().into(),
                line: *line,
            };
            let path = unread.path.display();
            let text = format!(
                "{path} cannot be read: {}; nginx does not start or reload",
                unread.why
            );
            let word = quoted(&unread.path.to_string_lossy());
            let fix = format!("Restore the file, or remove its include; see: ls -l {word}");
            found.push(self.finding(&at, Fault::error(CONFIG_UNREADABLE, text, fix)));
        }
        found
    }

    /// Files that nginx may read and tracer cannot.
    pub(super) fn unread(&self) -> impl Iterator<Item = String> {
        let unread = self.tree.unread.iter().filter(|one| !one.is_missing);
        unread.map(|one| format!("{}: {}", one.path.display(), one.why))
    }
}

/// When the oldest of these processes began, by the wall clock.
fn since(workers: &[u32]) -> Option<SystemTime> {
    let starts = workers.iter().map(|pid| process::start_time(*pid).ok());
    // Of one that is not known, none is.
    let starts: Option<Vec<_>> = starts.collect();
    let oldest = starts?.into_iter().min()?;
    // Between the clocks this thread may have to wait: the reading that took least counts.
    let readings = (0..READINGS).map(|_| {
        let reading = clock::reading();
        (clock::now().0.saturating_sub(reading.boot), reading)
    });
    let (_, reading) = readings.min_by_key(|(took, _)| *took)?;
    let wall = reading.unix_nanos(oldest);
    Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(wall))
}
