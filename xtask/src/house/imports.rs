//! The four laws' import part, and no circle of imports (docs/architecture.md).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};

use super::rust::{self, Written};
use super::{Finding, Text};

/// Who may import whom: a folder may not import what begins with one of these paths.
struct Law {
    folders: &'static [&'static str],
    never: &'static [&'static str],
    why: &'static str,
}

const LAWS: [Law; 5] = [
    Law {
        folders: &["correlate", "causes", "series", "event", "top"],
        never: &[
            "crate::source",
            "crate::probe",
            "crate::kernel",
            "crate::process",
            "crate::cli",
        ],
        why: "the middle takes events and gives verdicts: put it into an event",
    },
    Law {
        folders: &["correlate", "causes", "series", "event", "top"],
        never: &[
            "libc",
            "rustix",
            "std::env",
            "std::fs",
            "std::net::TcpListener",
            "std::net::TcpStream",
            "std::net::UdpSocket",
            "std::os::unix::net",
            "std::process",
            "std::thread",
            "std::time::Instant",
            "std::time::SystemTime",
            "tokio",
        ],
        why: "the middle is pure: time and facts come in as events",
    },
    Law {
        folders: &["render"],
        never: &["crate::source", "crate::probe", "crate::cli"],
        why: "rendering takes finished data",
    },
    Law {
        folders: &["capture"],
        never: &["crate::causes", "crate::correlate"],
        why: "a capture is a format: it keeps the stream and judges nothing",
    },
    Law {
        folders: &["kernel"],
        never: &["crate::probe", "crate::source", "crate::cli"],
        why: "BTF is below what attaches by it",
    },
];

/// The folders that may import aya.
const ATTACHERS: [&str; 2] = ["probe", "source"];

const TRACER: &str = "tracer/src";
const BPF_SIDE: &str = "tracer-ebpf/src";

/// A file's imports of the same crate's other folders, and of other crates.
struct Module {
    file: String,
    /// The first module of its path; empty: the crate's root.
    folder: String,
    /// Absolute, `crate::…` or another crate's.
    imports: Vec<Written>,
}

/// The modules of a crate without what is compiled for tests alone.
fn modules(sources: &[Text], folder: &str) -> Result<Vec<Module>> {
    let mut modules = Vec::new();
    let mut tests = Vec::new();
    for Text { file, text } in sources {
        let below = file.strip_prefix(folder).context("a source's path")?;
        let path = path(below.trim_start_matches('/'));
        let tokens = rust::tokens(text).with_context(|| format!("reading {file}"))?;
        for name in rust::test_modules(tokens.clone()) {
            tests.push([path.clone(), vec![name]].concat());
        }
        let imports = rust::paths(tokens).into_iter();
        let imports = imports.filter_map(|written| absolute(written, &path));
        let module = Module {
            file: file.clone(),
            folder: path.first().cloned().unwrap_or_default(),
            imports: imports.collect(),
        };
        modules.push((path, module));
    }
    modules.retain(|(path, _)| !tests.iter().any(|test| path.starts_with(test)));
    Ok(modules.into_iter().map(|(_, module)| module).collect())
}

/// `causes/mod.rs` is `causes`, `causes/dns.rs` is `causes::dns`, `lib.rs` the root.
fn path(file: &str) -> Vec<String> {
    let parts = file.trim_end_matches(".rs").split('/');
    let own = |part: &&str| !matches!(*part, "mod" | "lib" | "main");
    parts.filter(own).map(str::to_owned).collect()
}

/// A path from the crate's root, or another crate's; none within its own folder by `self`.
fn absolute(mut written: Written, module: &[String]) -> Option<Written> {
    let mut here = [module, &written.within].concat();
    let mut rest = &written.path[..];
    match rest.first()?.as_str() {
        "crate" => return Some(written),
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|word| word == "super") {
                here.pop();
                rest = &rest[1..];
            }
        }
        _ => return Some(written),
    }
    written.path = [&["crate".to_owned()], &here[..], rest].concat();
    Some(written)
}

/// What breaks the laws.
fn unlawful(modules: &[Module]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut say = |module: &Module, import: &Written, why: &str| {
        found.push(Finding {
            file: module.file.clone(),
            line: import.line,
            what: format!(
                "`{}` may not be imported here: {why}",
                import.path.join("::")
            ),
        });
    };
    for module in modules {
        for import in &module.imports {
            let path = import.path.join("::");
            for law in &LAWS {
                let applies = law.folders.contains(&module.folder.as_str());
                if applies && law.never.iter().any(|never| reaches(&path, never)) {
                    say(module, import, law.why);
                }
            }
            if import.path.first().is_some_and(|first| first == "aya")
                && !ATTACHERS.contains(&module.folder.as_str())
            {
                say(module, import, "aya is for probe and source alone");
            }
        }
    }
    found
}

/// Whether the path is or lies below the other, or is a whole of which the other is a part.
fn reaches(path: &str, never: &str) -> bool {
    let below = |one: &str, other: &str| {
        one.strip_prefix(other)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    below(path, never) || (below(never, path) && path != "crate" && path != "std")
}

/// The circles between top-level modules: each import of one is listed.
fn circles(modules: &[Module]) -> Vec<Finding> {
    let folders: BTreeSet<&str> = modules.iter().map(|one| one.folder.as_str()).collect();
    let mut arrows: BTreeMap<&str, BTreeMap<&str, (&Module, &Written)>> = BTreeMap::new();
    for module in modules {
        for import in &module.imports {
            if let [root, to, ..] = &import.path[..]
                && root == "crate"
                && to != &module.folder
                && let Some(to) = folders.get(to.as_str())
                && !module.folder.is_empty()
            {
                let from = arrows.entry(&module.folder).or_default();
                from.entry(to).or_insert((module, import));
            }
        }
    }
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for start in &folders {
        // The shortest way back to where it began.
        let mut ways = std::collections::VecDeque::from([vec![*start]]);
        let mut reached = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            let last = way[way.len() - 1];
            for to in arrows.get(last).into_iter().flat_map(BTreeMap::keys) {
                if to == start {
                    let mut ring = way.clone();
                    ring.sort_unstable();
                    if seen.insert(ring) {
                        found.extend(described(&way, &arrows));
                    }
                } else if reached.insert(*to) {
                    ways.push_back([&way[..], &[*to]].concat());
                }
            }
        }
    }
    found
}

fn described(
    way: &[&str],
    arrows: &BTreeMap<&str, BTreeMap<&str, (&Module, &Written)>>,
) -> Vec<Finding> {
    let ring = format!("{} -> {}", way.join(" -> "), way[0]);
    let next = way.iter().cycle().skip(1);
    let steps = way.iter().zip(next);
    steps
        .map(|(from, to)| {
            let (module, import) = arrows[from][to];
            Finding {
                file: module.file.clone(),
                line: import.line,
                what: format!(
                    "`{}` is a part of the circle {ring}: move what both need below them",
                    import.path.join("::")
                ),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{assert_none, files};
    use super::*;

    fn parsed(sources: &[(&str, &str)]) -> Result<Vec<Module>> {
        let sources: Vec<Text> = sources
            .iter()
            .map(|(file, text)| Text {
                file: format!("tracer/src/{file}"),
                text: (*text).to_owned(),
            })
            .collect();
        modules(&sources, "tracer/src")
    }

    fn said(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn folders_of_tracer_keep_the_four_laws() -> Result<()> {
        assert_none(&unlawful(&modules(&files(&[TRACER], "rs")?, TRACER)?));
        Ok(())
    }

    #[test]
    fn no_folder_of_tracer_imports_another_in_a_circle() -> Result<()> {
        assert_none(&circles(&modules(&files(&[TRACER], "rs")?, TRACER)?));
        Ok(())
    }

    #[test]
    fn no_folder_of_the_bpf_side_imports_another_in_a_circle() -> Result<()> {
        assert_none(&circles(&modules(&files(&[BPF_SIDE], "rs")?, BPF_SIDE)?));
        Ok(())
    }

    #[test]
    fn a_circle_is_found_with_each_of_its_imports() -> Result<()> {
        let modules = parsed(&[
            ("nginx/mod.rs", "use crate::probe::Hook;"),
            ("probe/attach.rs", "\nuse super::super::process;"),
            (
                "process/mod.rs",
                "mod own; fn one() { crate::nginx::two() }",
            ),
            ("process/own.rs", "use super::super::event;"),
            ("event/mod.rs", "use self::one::Two; mod one;"),
        ])?;
        let ring = "nginx -> probe -> process -> nginx: move what both need below them";
        assert_eq!(
            said(&circles(&modules)),
            [
                format!(
                    "tracer/src/nginx/mod.rs:1: `crate::probe::Hook` is a part of the circle {ring}"
                ),
                format!(
                    "tracer/src/probe/attach.rs:2: `crate::process` is a part of the circle {ring}"
                ),
                format!(
                    "tracer/src/process/mod.rs:1: `crate::nginx::two` is a part of the circle {ring}"
                ),
            ]
        );
        Ok(())
    }

    #[test]
    fn files_of_one_folder_may_refer_to_each_other() -> Result<()> {
        let modules = parsed(&[
            ("causes/one.rs", "use super::two::Two;"),
            ("causes/two.rs", "use crate::causes::one::One;"),
        ])?;
        assert_none(&circles(&modules));
        Ok(())
    }

    #[test]
    fn what_only_tests_import_makes_no_circle() -> Result<()> {
        let modules = parsed(&[
            (
                "capture/mod.rs",
                "use crate::event; #[cfg(test)] mod tests;",
            ),
            ("capture/tests/mod.rs", "use crate::causes; mod examples;"),
            ("capture/tests/examples.rs", "use crate::causes;"),
            ("causes/mod.rs", "use crate::capture;"),
            ("event/mod.rs", ""),
        ])?;
        assert_none(&circles(&modules));
        assert_none(&unlawful(&modules));
        Ok(())
    }

    #[test]
    fn each_law_finds_who_breaks_it() -> Result<()> {
        let broken = [
            ("causes/dns.rs", "use crate::source::Host;"),
            (
                "correlate/case.rs",
                "fn now() { std::time::Instant::now(); }",
            ),
            ("series/mod.rs", "use std::{fs, time};"),
            ("event/head.rs", "use std::net::{SocketAddr, TcpStream};"),
            ("render/text.rs", "use aya::Ebpf;"),
            ("capture/replay.rs", "use crate::causes::diagnose;"),
            ("kernel/btf.rs", "use aya::Btf;"),
        ];
        for (file, text) in broken {
            let found = unlawful(&parsed(&[(file, text)])?);
            assert!(!found.is_empty(), "{file}: {text}");
        }
        let kept = [
            (
                "causes/dns.rs",
                "use std::net::SocketAddr; use std::time::Duration;",
            ),
            (
                "source/live.rs",
                "use aya::maps::RingBuf; use std::time::Instant;",
            ),
        ];
        assert_none(&unlawful(&parsed(&kept)?));
        Ok(())
    }
}
