//! The one way to the terminal. A line that leaves here holds no control or direction character,
//! whatever the names, paths and versions in it are: a line feed or an escape sequence in them is
//! shown, not obeyed.
//!
//! Nothing else names stdout and stderr, nor prints: a test reads the sources.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{chain, clean};

/// One line to stderr, as `eprintln!`, cleaned.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::say::line(&format!($($words)*))
    };
}
pub(crate) use say;

/// Lines that are held while a picture has the terminal.
static HELD: Mutex<Option<Vec<String>>> = Mutex::new(None);
/// So many at most; the first tell more than the last.
const HELD_LINES: usize = 64;

fn held() -> MutexGuard<'static, Option<Vec<String>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line to stderr, cleaned. A closed stderr hides it, no more.
pub(crate) fn line(words: &str) {
    let words = clean::line(words);
    match &mut *held() {
        Some(lines) if lines.len() < HELD_LINES => lines.push(words),
        Some(_) => {}
        None => {
            let _ = writeln!(io::stderr().lock(), "{words}");
        }
    }
}

/// Holds what is said from now on.
pub(crate) fn hold() {
    held().get_or_insert_default();
}

/// Says what was held.
pub(crate) fn release() {
    let lines = held().take();
    for line in lines.into_iter().flatten() {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }
}

/// A command's error in one line to stderr.
pub fn error(error: &anyhow::Error) {
    line(&format!("tracer: {}", chain::text(error.as_ref())));
}

/// Lines of plain text to a writer, each cleaned.
#[derive(Debug)]
pub(crate) struct Lines<W>(W);

impl Lines<io::StdoutLock<'static>> {
    /// To stdout.
    pub(crate) fn to_stdout() -> Self {
        Self(io::stdout().lock())
    }
}

impl<W: Write> Lines<W> {
    /// What `writeln!` calls: its own line feed is the only one.
    pub(crate) fn write_fmt(&mut self, words: fmt::Arguments<'_>) -> io::Result<()> {
        let words = words.to_string();
        let words = words.strip_suffix('\n').unwrap_or(&words);
        writeln!(self.0, "{}", clean::line(words))
    }
}

/// stdout for what is written in a format: text with colours, JSON, the catalogue. Its renderer has
/// cleaned it.
pub(crate) fn rendered() -> io::Stdout {
    io::stdout()
}

/// stderr for the same.
pub(crate) fn rendered_aside() -> io::StderrLock<'static> {
    io::stderr().lock()
}

/// Is stdout a terminal?
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Returns the columns of stdout's terminal.
pub(crate) fn width() -> Option<usize> {
    let (columns, _) = terminal_size::terminal_size_of(io::stdout())?;
    Some(columns.0.into()).filter(|&columns| columns > 0)
}

/// Returns the columns and rows of stdout's terminal.
pub(crate) fn size() -> Option<(u16, u16)> {
    let (columns, rows) = terminal_size::terminal_size_of(io::stdout())?;
    (columns.0 > 0 && rows.0 > 0).then_some((columns.0, rows.0))
}

/// Is stderr?
pub(crate) fn is_terminal_aside() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let mut out = Vec::new();
        let mut lines = Lines(&mut out);
        let version = "nginx/1.2\x1b[2J\x1b]0;pwn\x07\nno failed request\u{202e}";
        writeln!(lines, "master 1: {version}").unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "master 1: nginx/1.2\\x1b[2J\\x1b]0;pwn\\x07\\x0ano failed request\\u{202e}\n"
        );
    }

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() && name != "tests" {
                sources(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") && name != "tests.rs" {
                found.push(path);
            }
        }
    }

    #[test]
    fn nothing_else_writes_to_the_terminal() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        sources(&source, &mut files);
        assert!(files.len() > 150, "{} files", files.len());
        let own = source.join("say.rs");
        let ways = [
            "print!(",
            "println!(",
            "io::stderr()",
            "io::stdout()",
            "dbg!(",
        ];
        let mut others = Vec::new();
        for file in files.iter().filter(|file| **file != own) {
            let text = fs::read_to_string(file).unwrap();
            // What a test prints is of the test's own making.
            let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
            for (number, line) in text[..end].lines().enumerate() {
                let is_other = line.trim().starts_with("//") || line.contains("SKIPPED: ");
                if ways.iter().any(|way| line.contains(way)) && !is_other {
                    others.push(format!("{}:{}: {line}", file.display(), number + 1));
                }
            }
        }
        assert!(others.is_empty(), "{}", others.join("\n"));
        // It finds what it looks for.
        let text = fs::read_to_string(own).unwrap();
        assert!(ways[2..4].iter().all(|way| text.contains(way)));
    }
}
