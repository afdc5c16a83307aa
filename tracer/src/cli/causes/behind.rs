//! The causes that can be behind a line of nginx's error log, and the command that decides each.

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    causes::{
        catalogue::{self, Cause, Place, Shown},
        errno,
    },
    clean,
    event::{Doing, Said, Upstream},
    nginx::pasted::Pasted,
    plural,
    render::wrap,
};

/// What a line shows of its causes.
pub(super) fn shown(line: &Pasted) -> Shown {
    Shown {
        said: line.said,
        errno: line.errno,
        doing: line.doing,
        place: line.upstream.as_ref().map(Place::of),
    }
}

/// The causes of what a line shows; none if nothing of it is known.
pub(super) fn causes(shown: &Shown) -> Vec<&'static Cause> {
    catalogue::behind(shown)
}

/// A line's answer, as `--format json` has it; the names are a contract.
#[derive(Serialize)]
struct Answer {
    message: String,
    upstream: Option<String>,
    errno: Option<String>,
    causes: Vec<Candidate>,
}

/// One cause that is possible.
#[derive(Serialize)]
struct Candidate {
    id: &'static str,
    title: &'static str,
    how_determined: &'static str,
    command: String,
    /// What the command shows if it is this cause.
    shows: String,
}

/// Writes a line's answer as one object.
pub(super) fn json(out: &mut impl Write, line: &Pasted) -> io::Result<()> {
    let shown = shown(line);
    let candidates = causes(&shown).into_iter().map(|cause| Candidate {
        id: cause.id,
        title: cause.title,
        how_determined: cause.split,
        command: filled(cause.by_hand.command, line),
        shows: filled(cause.by_hand.shows, line),
    });
    let answer = Answer {
        message: clean::cut(&line.message),
        upstream: line.upstream.as_ref().map(|to| clean::cut(&to.to_string())),
        errno: line.errno.map(errno::name),
        causes: candidates.collect(),
    };
    let answer = serde_json::to_string(&answer).map_err(io::Error::other)?;
    writeln!(out, "{}", clean::escaped(answer))
}

/// Writes a line's answer for people.
pub(super) fn text(out: &mut impl Write, line: &Pasted, width: usize) -> io::Result<()> {
    let causes = causes(&shown(line));
    let to = line.upstream.as_ref().map(|to| format!(" ({to})"));
    let said = format!("{}{}", line.message.trim(), to.unwrap_or_default());
    if !said.is_empty() {
        paragraph(out, width, 0, &clean::text(&said))?;
        paragraph(out, width, 0, "")?;
    }
    if causes.is_empty() {
        return paragraph(out, width, 0, unknown(line));
    }
    match causes.as_slice() {
        [_] => paragraph(
            out,
            width,
            0,
            "One cause can be behind this line. The log alone does not prove it.",
        )?,
        several => paragraph(
            out,
            width,
            0,
            &format!(
                "{} can be behind this line. The log alone cannot decide between them.",
                plural::count(several.len(), "cause")
            ),
        )?,
    }
    for cause in &causes {
        paragraph(out, width, 0, "")?;
        paragraph(out, width, 0, &format!("{}: {}", cause.id, cause.title))?;
        paragraph(out, width, 2, cause.split)?;
        // Whole, to be copied.
        let command = filled(cause.by_hand.command, line);
        writeln!(out, "    {command}")?;
        paragraph(
            out,
            width,
            2,
            &format!("it is this one if {}", filled(cause.by_hand.shows, line)),
        )?;
    }
    Ok(())
}

/// Lines of so many columns, with an indent.
pub(super) fn paragraph(
    out: &mut impl Write,
    width: usize,
    indent: usize,
    words: &str,
) -> io::Result<()> {
    let lines = wrap::lines(words, width.saturating_sub(indent));
    let mut lines = lines.iter();
    lines.try_for_each(|line| writeln!(out, "{:indent$}{line}", ""))
}

/// What to do about a line that no cause is behind.
pub(super) fn unknown(line: &Pasted) -> &'static str {
    let starts = |words: &str| line.message.starts_with(words);
    if starts("FastCGI sent in stderr") {
        "No failure of nginx's: it copies what the backend wrote to its stderr. Read that text; the request may have \
         been answered."
    } else if line.message.contains("is buffered to a temporary file") {
        "No failure: the body did not fit into nginx's buffers and went through a file."
    } else if line.said == Some(Said::Page) || starts("open() \"") {
        "No upstream is involved: nginx could not give a file of its own (404 or 403)."
    } else if line.doing == Some(Doing::Client) {
        "No upstream is involved: this is nginx's connection to the client."
    } else if line.doing == Some(Doing::CertificateStatus) {
        "No request fails for it: nginx asks an OCSP responder about its own certificate."
    } else if line.has_head {
        "No cause of the catalogue is behind this line: it is not about a failed attempt to reach an upstream. Paste the \
         line of the failed request: its message has the word upstream."
    } else {
        "This is not a line of nginx's error log as far as it goes. Paste the whole line, from its date on (error_log \
         names the file: nginx -T | grep error_log), in single quotes; or pipe it: tail -n 1 error.log | tracer causes \
         --log -"
    }
}

/// A command, or what it shows, for this line. Names of others are filled in only if no shell
/// obeys them.
pub(super) fn filled(words: &str, line: &Pasted) -> String {
    let mut words = words.to_owned();
    match &line.upstream {
        Some(Upstream::Inet(address)) => {
            let ip = address.ip().to_canonical().to_string();
            words = words
                .replace("ADDRESS", &address.to_string())
                .replace("PORT", &address.port().to_string())
                .replace("IP", &ip);
        }
        Some(Upstream::Unix(path)) if is_plain(path) => {
            words = words
                .replace("-ltnp 'sport = :PORT'", "-lxp src PATH")
                .replace("-ltn 'sport = :PORT'", "-lx src PATH")
                .replace("http://ADDRESS/", "--unix-socket PATH http://localhost/")
                .replace("ADDRESS", "unix:PATH")
                .replace("PATH", path);
        }
        _ => {}
    }
    if let Some(name) = &line.name {
        words = words.replace("NAME", name);
    }
    if let Some(pid) = line.pid {
        words = words.replace("PID", &pid.to_string());
    }
    match line.file.as_ref().and_then(|file| file.to_str()) {
        Some(file) if is_plain(file) => words.replace("FILE", file),
        _ => words,
    }
}

/// A path that a shell takes as it is.
fn is_plain(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./@:+-".contains(c);
    (path.starts_with('/') || path.starts_with('@')) && path.chars().all(plain)
}

/// What `live` adds to an answer.
pub(super) fn beyond_the_log(out: &mut impl Write, width: usize) -> io::Result<()> {
    let words = "`sudo tracer live` decides: it follows each failed request in the kernel (who sent the RST, which rule \
                 dropped the SYN, which process closed the connection) and names one cause, with the evidence. `tracer \
                 causes ID` describes one cause and its fix.";
    writeln!(out)?;
    paragraph(out, width, 0, words)
}
