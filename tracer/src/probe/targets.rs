//! The program files that are nginx, and what is attached in them.
//!
//! A breakpoint is set in a file's inode, whatever mount it is reached by. Containers of one image
//! show one file of a lower layer by an inode each (overlayfs): what is attached through one of
//! them holds for all, and is moved to another when the one that it was attached through goes, as a
//! link keeps the mount busy that its path led through.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    thread,
    time::Instant,
};

use aya::programs::uprobe::UProbeLink;
use tracer_ebpf::abi::TARGETS;

use super::{outcome::Outcome, table::hooks};
use crate::nginx::{Entries, ExeId};

/// What copies of one file have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Likeness {
    pub(super) size: u64,
    pub(super) modified: (i64, i64),
    pub(super) functions: BTreeMap<String, Entries>,
}

/// A program file, by however many mounts it is reached.
#[derive(Debug)]
pub(super) struct Target {
    /// Its number in the kernel side's `GENERATIONS`; `None` where there are too many, or links
    /// have no cookies.
    number: Option<u32>,
    generation: u32,
    likeness: Likeness,
    /// As mounts show it; links were made through the first.
    members: Vec<ExeId>,
    pub(super) outcome: HashMap<&'static str, Outcome>,
    /// When a link was added last.
    attached: Option<Instant>,
    /// By program.
    links: Vec<(&'static str, UProbeLink)>,
}

impl Target {
    pub(super) fn add(&mut self, program: &'static str, link: UProbeLink, at: Instant) {
        self.links.push((program, link));
        self.attached = Some(at);
    }

    pub(super) fn is_bare(&self) -> bool {
        self.links.is_empty()
    }

    pub(super) fn has(&self, program: &str) -> bool {
        self.links.iter().any(|(held, _)| *held == program)
    }

    /// The functions that it has breakpoints in, by name.
    fn functions(&self) -> impl Iterator<Item = &'static str> {
        let functions: BTreeSet<&str> = hooks()
            .filter(|hook| hook.place.is_nginx() && self.has(hook.program))
            .map(|hook| hook.place.name())
            .collect();
        functions.into_iter()
    }

    /// All its links.
    pub(super) fn take(&mut self) -> Vec<UProbeLink> {
        self.links.drain(..).map(|(_, link)| link).collect()
    }

    /// What a link carries, so that the kernel side can tell whether it counts.
    pub(super) fn cookie(&self) -> Option<u64> {
        let number = self.number?;
        Some(u64::from(number) << 32 | u64::from(self.generation))
    }

    /// Its number and the generation that counts.
    pub(super) fn counting(&self) -> Option<(u32, u32)> {
        Some((self.number?, self.generation))
    }

    /// Begins the next generation: what is attached from now on counts once it is in force. Gives
    /// the links of before.
    pub(super) fn next(&mut self) -> Vec<UProbeLink> {
        self.generation = self.generation.wrapping_add(1).max(1);
        self.outcome.clear();
        self.take()
    }
}

/// What is to be done about a mount that is gone.
pub(super) enum Gone {
    /// Nothing: it is not known, or links lead through another.
    Nothing,
    /// Its target goes with it.
    Target(Target),
    /// Its target has others, and links lead through this one: its place among the targets.
    Moves(usize),
}

/// All of them.
#[derive(Debug)]
pub(super) struct Targets {
    has_cookies: bool,
    all: Vec<Target>,
}

impl Targets {
    pub(super) fn new(has_cookies: bool) -> Self {
        Self {
            has_cookies,
            all: Vec::new(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Target> {
        self.all.iter()
    }

    pub(super) fn at(&mut self, place: usize) -> &mut Target {
        &mut self.all[place]
    }

    /// The place of a file's target, which is made if need be. A file that looks like a known one,
    /// and whose functions have breakpoints where that one has and nowhere else, is that one.
    pub(super) fn enter(
        &mut self,
        id: ExeId,
        likeness: Likeness,
        breakpoints: &BTreeSet<String>,
    ) -> usize {
        if let Some(known) = self.find(id) {
            return known;
        }
        let like = |target: &Target| {
            !target.links.is_empty()
                && target.likeness == likeness
                && target
                    .functions()
                    .eq(breakpoints.iter().map(String::as_str))
        };
        if let Some(same) = self.all.iter().position(like) {
            self.all[same].members.push(id);
            return same;
        }
        let number = (0..TARGETS).find(|number| {
            self.has_cookies && self.all.iter().all(|one| one.number != Some(*number))
        });
        self.all.push(Target {
            number,
            generation: 1,
            likeness,
            members: vec![id],
            outcome: HashMap::new(),
            attached: None,
            links: Vec::new(),
        });
        self.all.len() - 1
    }

    /// When the hooks were attached of a file that looks like this one and is not known to be it.
    pub(super) fn attached_to_like(&self, id: ExeId, likeness: &Likeness) -> Option<Instant> {
        if self.find(id).is_some() {
            return None;
        }
        let like = self
            .all
            .iter()
            .filter(|target| target.likeness == *likeness);
        like.filter_map(|target| target.attached).max()
    }

    /// The target of a file.
    pub(super) fn of(&self, id: ExeId) -> Option<&Target> {
        self.find(id).map(|place| &self.all[place])
    }

    fn find(&self, id: ExeId) -> Option<usize> {
        self.all
            .iter()
            .position(|target| target.members.contains(&id))
    }

    /// Nobody runs the file by this mount any more.
    pub(super) fn leave(&mut self, id: ExeId) -> Gone {
        let Some(place) = self.find(id) else {
            return Gone::Nothing;
        };
        let target = &mut self.all[place];
        let led = target.members.first() == Some(&id);
        target.members.retain(|member| *member != id);
        if target.members.is_empty() {
            Gone::Target(self.all.swap_remove(place))
        } else if led {
            Gone::Moves(place)
        } else {
            Gone::Nothing
        }
    }

    /// Has this member's path be the one that links are made through.
    pub(super) fn lead(&mut self, place: usize, id: ExeId) {
        let members = &mut self.all[place].members;
        if let Some(at) = members.iter().position(|member| *member == id) {
            members.swap(0, at);
        }
    }

    /// The mounts that a target is reached by.
    pub(super) fn members(&self, place: usize) -> &[ExeId] {
        &self.all[place].members
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        let links = self.all.drain(..).flat_map(|mut target| target.take());
        detach(links.collect());
    }
}

/// Takes links away, all at once: the kernel waits until no CPU is in a hook any more, for all of
/// them as long as for one.
pub(super) fn detach(links: Vec<UProbeLink>) {
    thread::scope(|scope| {
        for link in links {
            scope.spawn(move || drop(link));
        }
    });
}

/// The same, without waiting for it.
pub(super) fn detach_aside(links: Vec<UProbeLink>) {
    if links.is_empty() {
        return;
    }
    // Without a thread it is waited for: dropped with the closure.
    let _ = thread::Builder::new()
        .name("detach".to_owned())
        .spawn(move || detach(links));
}

/// How a process's own file is reached from here.
pub(super) fn of_process(pid: u32) -> std::path::PathBuf {
    Path::new("/proc").join(pid.to_string()).join("exe")
}
