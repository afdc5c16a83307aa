//! A whole error log: how many of its lines can have which causes. Nothing is kept but counts, of
//! at most [`KINDS`] kinds of lines with [`UPSTREAMS`] upstreams each.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::behind::{self, paragraph};
use crate::{
    capture,
    causes::{catalogue::Shown, errno},
    clean,
    nginx::pasted::Pasted,
    plural,
    render::wrap,
};

/// Kinds of lines that are counted apart; nginx has fewer.
const KINDS: usize = 512;
/// Upstreams that a kind counts apart.
const UPSTREAMS: usize = 256;
/// Upstreams that are shown.
const SHOWN: usize = 4;
/// A longer line is read to its end, and judged by this part of it.
const LINE: u64 = 64 << 10;

/// Lines of an error log, counted.
#[derive(Default)]
pub(super) struct Log {
    lines: u64,
    /// Of those, lines of an error log.
    own: u64,
    /// Times as nginx wrote them: the first line's and the last one's.
    times: Option<(String, String)>,
    kinds: HashMap<Shown, Kind>,
    /// Lines of attempts that failed in more kinds than are counted.
    uncounted: u64,
    /// The only line, until there is another.
    only: Option<Pasted>,
}

/// Lines that show the same.
struct Kind {
    lines: u64,
    /// The first one's words.
    message: String,
    first: Option<String>,
    last: Option<String>,
    upstreams: HashMap<String, u64>,
    others: u64,
}

/// A kind, as `--format json` has it; the names are a contract.
#[derive(Serialize)]
struct Counted<'a> {
    lines: u64,
    message: String,
    errno: Option<String>,
    causes: Vec<&'static str>,
    upstreams: Vec<AtUpstream<'a>>,
    first: Option<&'a str>,
    last: Option<&'a str>,
}

#[derive(Serialize)]
struct AtUpstream<'a> {
    upstream: String,
    lines: u64,
    #[serde(skip)]
    name: &'a str,
}

/// Lines without a cause, as `--format json` has them.
#[derive(Serialize)]
struct Rest {
    lines: u64,
    message: Option<String>,
    causes: [&'static str; 0],
}

impl Log {
    /// Reads a file to its end; `-` is stdin.
    ///
    /// # Errors
    /// It cannot be read, or is compressed.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let name = capture::shown(path);
        let file: Box<dyn Read> = match path == Path::new("-") {
            true => Box::new(io::stdin().lock()),
            false => Box::new(File::open(path).with_context(|| format!("opening {name}"))?),
        };
        let mut file = BufReader::with_capacity(256 << 10, file);
        let start = file.fill_buf().with_context(|| format!("reading {name}"))?;
        if start.starts_with(&[0x1f, 0x8b]) {
            bail!("{name} is compressed: zcat {name} | tracer causes --log -");
        }
        let mut log = Self::default();
        log.take_all(file)
            .with_context(|| format!("reading {name}"))?;
        Ok(log)
    }

    /// Counts all lines.
    pub(super) fn take_all(&mut self, mut input: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if input.by_ref().take(LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if line.last() != Some(&b'\n') {
                input.skip_until(b'\n')?;
            }
            if !line.trim_ascii().is_empty() {
                self.take(Pasted::read(&line));
            }
        }
    }

    fn take(&mut self, line: Pasted) {
        self.lines += 1;
        let shown = behind::shown(&line);
        let is_failure = !behind::causes(&shown).is_empty();
        if line.has_head || is_failure {
            self.own += 1;
        }
        if let Some(time) = &line.time {
            match &mut self.times {
                Some((_, last)) => last.clone_from(time),
                none => *none = Some((time.clone(), time.clone())),
            }
        }
        if is_failure {
            if self.kinds.contains_key(&shown) || self.kinds.len() < KINDS {
                let kind = self.kinds.entry(shown);
                kind.or_insert_with(|| Kind::of(&line)).take(&line);
            } else {
                self.uncounted += 1;
            }
        }
        self.only = (self.lines == 1).then_some(line);
    }

    /// The only line.
    pub(super) fn only(&self) -> Option<&Pasted> {
        self.only.as_ref()
    }

    /// Is there a line, and none of an error log?
    pub(super) fn is_another_s(&self) -> bool {
        self.lines > 0 && self.own == 0
    }

    fn failures(&self) -> u64 {
        let counted = self.kinds.values().map(|kind| kind.lines);
        counted.sum::<u64>() + self.uncounted
    }

    /// The most frequent first.
    fn sorted(&self) -> Vec<(&Shown, &Kind)> {
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by(|(_, a), (_, b)| (b.lines, &a.message).cmp(&(a.lines, &b.message)));
        kinds
    }

    /// Writes the counts for people.
    pub(super) fn text(&self, out: &mut impl Write, width: usize) -> io::Result<()> {
        let failures = self.failures();
        let mut head = plural::count(self.lines, "line");
        if let Some((from, to)) = &self.times {
            head = format!("{head}, {from} to {to}");
        }
        let head = format!(
            "{head}: {} of failed attempts, {} other",
            plural::count(failures, "line"),
            self.lines - failures
        );
        paragraph(out, width, 0, &head)?;
        let kinds = self.sorted();
        let column = kinds
            .first()
            .map_or(0, |(_, kind)| kind.lines.to_string().len());
        for (shown, kind) in &kinds {
            writeln!(out)?;
            let message = clean::text(kind.message.trim());
            let indent = column + 2;
            let mut count = kind.lines.to_string();
            for line in wrap::lines(&message, width.saturating_sub(indent)) {
                writeln!(out, "{count:>column$}  {line}")?;
                count.clear();
            }
            if let Some(upstreams) = kind.summary() {
                paragraph(out, width, indent, &upstreams)?;
            }
            let ids: Vec<&str> = behind::causes(shown).iter().map(|cause| cause.id).collect();
            let causes = match ids.as_slice() {
                [only] => format!("can be {only}"),
                several => format!("can be {}", several.join(", ")),
            };
            paragraph(out, width, indent, &causes)?;
        }
        if self.uncounted > 0 {
            let others = plural::count(self.uncounted, "line");
            writeln!(out, "\n{others} of more kinds")?;
        }
        if failures > 0 {
            let words = "The log alone cannot decide between the causes of a line. `tracer causes 'LINE'` shows what \
                         distinguishes those of one line, and the command that decides each.";
            writeln!(out)?;
            paragraph(out, width, 0, words)?;
        }
        Ok(())
    }

    /// Writes the counts, a kind a line; lines without a cause come last. The counts add up to all
    /// lines.
    pub(super) fn json(&self, out: &mut impl Write) -> io::Result<()> {
        for (shown, kind) in self.sorted() {
            let causes = behind::causes(shown).iter().map(|cause| cause.id).collect();
            object(
                out,
                &Counted {
                    lines: kind.lines,
                    message: clean::cut(&kind.message),
                    errno: shown.errno.map(errno::name),
                    causes,
                    upstreams: kind.sorted(),
                    first: kind.first.as_deref(),
                    last: kind.last.as_deref(),
                },
            )?;
        }
        let rest = self.lines - self.failures() + self.uncounted;
        if rest > 0 {
            let rest = Rest {
                lines: rest,
                message: None,
                causes: [],
            };
            object(out, &rest)?;
        }
        Ok(())
    }
}

fn object(out: &mut impl Write, object: &impl Serialize) -> io::Result<()> {
    let line = serde_json::to_string(object).map_err(io::Error::other)?;
    writeln!(out, "{}", clean::escaped(line))
}

impl Kind {
    fn of(line: &Pasted) -> Self {
        // Lines of this kind differ in it, and are counted by it.
        let message = match &line.upstream {
            Some(to) => line.message.replace(&to.to_string(), "UPSTREAM"),
            None => line.message.clone(),
        };
        Self {
            lines: 0,
            message,
            first: line.time.clone(),
            last: None,
            upstreams: HashMap::new(),
            others: 0,
        }
    }

    fn take(&mut self, line: &Pasted) {
        self.lines += 1;
        if let Some(time) = &line.time {
            self.last = Some(time.clone());
        }
        let to = line.upstream.as_ref().map(ToString::to_string);
        let Some(name) = to.or_else(|| line.name.clone()) else {
            return;
        };
        if let Some(count) = self.upstreams.get_mut(&name) {
            *count += 1;
        } else if self.upstreams.len() < UPSTREAMS {
            self.upstreams.insert(clean::cut(&name), 1);
        } else {
            self.others += 1;
        }
    }

    fn sorted(&self) -> Vec<AtUpstream<'_>> {
        let upstreams = self.upstreams.iter().map(|(name, &lines)| AtUpstream {
            upstream: name.clone(),
            lines,
            name,
        });
        let mut upstreams: Vec<_> = upstreams.collect();
        upstreams.sort_by(|a, b| (b.lines, a.name).cmp(&(a.lines, b.name)));
        upstreams
    }

    /// The upstreams with most lines.
    fn summary(&self) -> Option<String> {
        let sorted = self.sorted();
        let shown = sorted.iter().take(SHOWN);
        let mut parts: Vec<String> = shown
            .map(|at| format!("{} ({})", clean::text(at.name), at.lines))
            .collect();
        let more = sorted.len().saturating_sub(SHOWN);
        if self.others > 0 {
            parts.push(format!("more than {} others", UPSTREAMS - SHOWN));
        } else if more > 0 {
            parts.push(plural::count(more, "other"));
        }
        (!parts.is_empty()).then(|| format!("to {}", parts.join(", ")))
    }
}

#[cfg(test)]
mod tests;
