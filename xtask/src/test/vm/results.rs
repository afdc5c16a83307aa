//! What each test program said last in each kernel's guest, kept under `target/vm/results`: the
//! document is written of all of them, also where one program or one kernel was run again. A first
//! line says the kernel's release and the day.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::PROGRAMS;
use super::heard::{self, Heard};
use super::kernels::KERNELS;
use super::table::{Column, Table};
use crate::command;
use crate::workspace::Workspace;

/// Keeps what a guest's programs said, those of which `filter` left nothing out.
pub(super) fn keep(
    workspace: &Workspace,
    column: &Column,
    said: &str,
    filter: Option<&str>,
) -> Result<()> {
    for (program, lines) in heard::programs(said) {
        if filter.is_some_and(|filter| !program.contains(filter)) {
            continue;
        }
        let file = file(workspace, column.kernel, program);
        let folder = file.parent().context("the results' folder")?;
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let text = format!("{} {}\n{lines}", column.release, column.date);
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// The table of what is kept of all kernels and programs.
pub(super) fn kept(workspace: &Workspace) -> Result<Table> {
    let mut columns = Vec::new();
    for kernel in &KERNELS {
        let mut column = Column {
            kernel: kernel.name,
            release: String::new(),
            heard: Heard::default(),
            deaths: 0,
            took: Duration::ZERO,
            date: String::new(),
        };
        for program in PROGRAMS {
            let file = file(workspace, kernel.name, program);
            match fs::read_to_string(&file) {
                Ok(text) => take(&mut column, &text)
                    .with_context(|| format!("reading {}", file.display()))?,
                // It has not run there; the table has a gap.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("reading {}", file.display()));
                }
            }
        }
        columns.push(column);
    }
    Ok(Table { columns })
}

/// Adds one program's words; the kernel and the day are those of the latest.
fn take(column: &mut Column, text: &str) -> Result<()> {
    let (first, said) = text.split_once('\n').context("no first line")?;
    let (release, date) = first.split_once(' ').context("a short first line")?;
    if *date >= *column.date {
        date.clone_into(&mut column.date);
        release.clone_into(&mut column.release);
    }
    said.lines().for_each(|line| column.heard.read(line));
    Ok(())
}

/// Today, as in `2026-11-21`.
pub(super) fn today() -> Result<String> {
    let said = command::output(Command::new("date").args(["-u", "+%F"]))?;
    Ok(said.trim().to_owned())
}

fn file(workspace: &Workspace, kernel: &str, program: &str) -> PathBuf {
    let folder = workspace.target().join("vm/results");
    folder.join(kernel).join(program)
}
