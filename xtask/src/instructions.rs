//! Instructions that the collector executes for each healthy connection, counted by valgrind:
//! unlike a time they are the same on a loaded machine. What grew beyond the committed counts
//! fails; `BLESS=1` writes them again.
//!
//! libc's part depends on its version and, by a few percent, on the CPU's extensions: hence the
//! tolerance. What the compiler inlines of one source differs from folder to folder, by a tenth and
//! more of `decode`: commit the larger count of two clones.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::workspace::Workspace;
use crate::{build, command};

/// The parts of tracer/examples/hot_path.rs.
const PARTS: [&str; 4] = ["decode", "correlate", "series", "write"];
/// What starts the program is in both counts, and so not in their difference.
const FEW: u64 = 5_000;
const MANY: u64 = 25_000;
/// A count may be so many percent above the committed one.
const TOLERANCE: u64 = 5;
const HEAD: &str =
    "# Instructions a healthy connection takes in the collector, each part with decoding:
# `cargo xtask bench instructions`. BLESS=1 writes this file.
";

/// Counts, prints each with what is committed; false: one grew.
pub(crate) fn check(workspace: &Workspace) -> Result<bool> {
    let program = build::binary(
        workspace,
        "what executes the collector's hot path",
        &["--release", "--package", "tracer", "--example", "hot_path"],
    )?;
    let counted = PARTS
        .iter()
        .map(|part| {
            let [few, many] = [FEW, MANY].map(|count| executed(workspace, &program, part, count));
            Ok((*part, (many? - few?) / (MANY - FEW)))
        })
        .collect::<Result<Vec<_>>>()?;
    let file = workspace
        .root()
        .join(format!("tracer/benches/instructions-{ARCH}.txt"));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, table(&counted)).with_context(|| format!("writing {}", file.display()))?;
    }
    let committed = read(&file)?;
    let mut holds = true;
    for (part, count) in counted {
        let before = *committed
            .get(part)
            .with_context(|| format!("{} has no {part}", file.display()))?;
        let (is_more, verdict) = judge(before, count);
        println!("{part:>10}  {count:>6} instructions a connection, committed {before}{verdict}");
        holds &= !is_more;
    }
    if !holds {
        println!(
            "more than {TOLERANCE} % above {}: find what grew (valgrind --tool=callgrind {} PART 25000, then\n\
             callgrind_annotate), or accept it with: BLESS=1 cargo xtask bench instructions",
            file.display(),
            program.display()
        );
    }
    Ok(holds)
}

/// Whether it is too much, and what to print of it.
fn judge(before: u64, now: u64) -> (bool, String) {
    let change = |difference: u64| difference as f64 * 100.0 / before.max(1) as f64;
    if now * 100 > before * (100 + TOLERANCE) {
        (
            true,
            format!(": {:.1} % MORE", change(now.saturating_sub(before))),
        )
    } else if now * (100 + TOLERANCE) < before * 100 {
        let less = change(before.saturating_sub(now));
        (
            false,
            format!(": {less:.1} % less, to be kept with BLESS=1"),
        )
    } else {
        (false, String::new())
    }
}

/// Instructions of a whole run, as callgrind's summary has them.
fn executed(workspace: &Workspace, program: &Path, part: &str, count: u64) -> Result<u64> {
    let out = workspace.target().join(format!("callgrind.{part}.{count}"));
    let mut valgrind = valgrind(workspace)?;
    valgrind
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args([part, &count.to_string()]);
    command::output(&mut valgrind)?;
    let profile = fs::read_to_string(&out).with_context(|| format!("reading {}", out.display()))?;
    summary(&profile).with_context(|| format!("{} has no summary", out.display()))
}

fn summary(profile: &str) -> Option<u64> {
    let line = profile
        .lines()
        .find_map(|line| line.strip_prefix("summary: "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// That of the unpacked packages, which does not find its tools by itself.
fn valgrind(workspace: &Workspace) -> Result<Command> {
    let tree = workspace.tree().join("usr");
    let tools = tree.join("libexec/valgrind");
    ensure!(
        tools.is_dir(),
        "this release's valgrind has its tools elsewhere than in {}",
        tools.display()
    );
    let mut command = Command::new(tree.join("bin/valgrind"));
    command.env("VALGRIND_LIB", tools);
    Ok(command)
}

fn table(counted: &[(&str, u64)]) -> String {
    let mut text = HEAD.to_owned();
    for (part, count) in counted {
        let _ = writeln!(text, "{part:<10} {count}");
    }
    text
}

fn read(file: &PathBuf) -> Result<BTreeMap<String, u64>> {
    let text = fs::read_to_string(file).with_context(|| {
        format!(
            "reading {}; BLESS=1 cargo xtask bench instructions makes it",
            file.display()
        )
    })?;
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (part, count) = line.split_once(' ').context("a name and a count")?;
            Ok((part.to_owned(), count.trim().parse()?))
        })
        .collect::<Result<_>>()
        .with_context(|| format!("reading {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_percent_more_pass_and_beyond_says_how_much() {
        assert_eq!(judge(1000, 1050), (false, String::new()));
        assert_eq!(judge(1000, 1051), (true, ": 5.1 % MORE".to_owned()));
        assert_eq!(
            judge(1000, 900),
            (false, ": 10.0 % less, to be kept with BLESS=1".to_owned())
        );
    }

    #[test]
    fn callgrinds_summary_is_its_first_number() {
        assert_eq!(summary("events: Ir\nsummary: 123456\n"), Some(123_456));
        assert_eq!(summary("events: Ir\n"), None);
    }
}
