//! `cargo xtask test --builds`: nginx as compiled in every way of [`crate::tree::builds`], the same
//! faults on each. Each test leaves its results in its build's folder; a run of all builds writes
//! the table in docs/builds.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::tally::Tally;
use super::{attempt, kernel, summarise};
use crate::tree::builds::{self, BUILDS, Build, SHORT};
use crate::workspace::Workspace;
use crate::{build, privilege, setup};

const TABLE: &str = "docs/builds.md";
/// Tests of a process run two at a time, as the other real-kernel tests do.
const ARGUMENTS: [&str; 4] = [
    "--include-ignored",
    "--exact",
    "--show-output",
    "--test-threads=2",
];

/// The builds that the whole test has, or those of the tests that the filter names.
pub(super) fn short(filter: Option<&str>) -> Result<Vec<&'static Build>> {
    let wanted = SHORT
        .iter()
        .filter(|name| filter.is_none_or(|filter| name.contains(filter)));
    wanted.map(|name| builds::named(name)).collect()
}

pub(super) fn run(workspace: &Workspace, named: &[String]) -> Result<ExitCode> {
    let chosen: Vec<&Build> = if named.is_empty() {
        BUILDS.iter().collect()
    } else {
        let found = named.iter().map(|name| builds::named(name));
        found.collect::<Result<_>>()?
    };
    setup::tests(workspace, &chosen)?;
    for build in &chosen {
        // Of an earlier run; root's file in the caller's folder.
        drop(fs::remove_file(results(workspace, build)));
    }
    let mut tally = Tally::default();
    let outcome = attempt("nginx in many builds", || {
        tests(workspace, &chosen, &mut tally)
    });
    let table = table(workspace, &chosen);
    println!("\n{table}");
    if named.is_empty() {
        let path = workspace.root().join(TABLE);
        fs::write(&path, table).with_context(|| format!("writing {}", path.display()))?;
        println!("written to {TABLE}");
    }
    Ok(summarise(&[outcome], &tally))
}

fn tests(workspace: &Workspace, chosen: &[&Build], tally: &mut Tally) -> Result<bool> {
    let tracer = build::release(workspace).inspect_err(|_| tally.lost())?;
    let built = kernel::built(workspace, &["--test", "builds"]);
    let programs = built.inspect_err(|_| tally.lost())?;
    let program = programs.first().context("no test program builds")?;
    let mut run =
        privilege::as_root("env", "run the real-kernel tests").inspect_err(|_| tally.lost())?;
    run.args(kernel::environment(workspace, &tracer)?)
        .arg(program)
        .args(ARGUMENTS)
        .args(chosen.iter().map(|build| build.name))
        .current_dir(workspace.root().join("tests"));
    tally.follow(&mut run)
}

/// Where a build's test leaves a line a fault: its name, a tab, what was said.
fn results(workspace: &Workspace, build: &Build) -> std::path::PathBuf {
    builds::folder(workspace).join(build.name).join("results")
}

fn table(workspace: &Workspace, chosen: &[&Build]) -> String {
    let mut faults: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    for build in chosen {
        let text = fs::read_to_string(results(workspace, build)).unwrap_or_default();
        let mut row = BTreeMap::new();
        for (fault, said) in text.lines().filter_map(|line| line.split_once('\t')) {
            if !faults.iter().any(|known| known == fault) {
                faults.push(fault.to_owned());
            }
            row.insert(fault.to_owned(), said.replace('|', "\\|"));
        }
        rows.push((build, row));
    }

    let mut text = format!(
        "# Builds of nginx\n\n\
         Written by `cargo xtask test --builds`, which compiles nginx from Debian's source packages in these ways and has \
         the same\nfaults on each. `ok`: every verdict is right, and proven where the kernel shows the cause. `inferred`: right, \
         but less sure, as\nsymbols are missing. `-`: this build cannot have the fault. Anything else is what was said \
         instead.\n\n| build | |{}\n|---|---|{}\n",
        faults
            .iter()
            .map(|fault| format!(" {fault} |"))
            .collect::<String>(),
        "---|".repeat(faults.len())
    );
    for (build, row) in rows {
        let cell = |fault: &String| {
            let said = row.get(fault).map_or("-", String::as_str);
            format!(" {said} |")
        };
        let cells: String = if row.is_empty() {
            " no result |".to_owned()
        } else {
            faults.iter().map(cell).collect()
        };
        let _ = writeln!(text, "| `{}` | {} |{cells}", build.name, build.what);
    }
    text
}
