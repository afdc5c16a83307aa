//! Attaches what the table lists: for each capability the best way that attaches. A hook that does
//! not attach costs its evidence, not the run.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Instant};

use aya::{
    maps::Array,
    programs::{
        FEntry, FExit, KProbe, Program, ProgramError, RawTracePoint, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};

use tracer_ebpf::abi::Layout;

use super::{
    outcome::{Outcome, State, Tally},
    probes::{LoadError, Probes},
    table::{Hook, Place, SIGHTS, Sight, hooks},
    targets::{self, Gone, Likeness},
};
use crate::{
    chain,
    kernel::Btf,
    nginx::{Binary, ExeId},
    process::{self, keeper},
};

/// An nginx executable whose functions are to be hooked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Executable<'a> {
    /// A process that runs it.
    pub pid: u32,
    /// What it has.
    pub binary: &'a Binary,
    /// Its processes log what fails and have no unix upstreams: hooks in what it calls for each
    /// connection are deferred.
    pub is_outspoken: bool,
    /// The functions that have a breakpoint in that process's memory already.
    pub breakpoints: &'a BTreeSet<String>,
    /// Why nothing may be attached to it.
    pub forbidden: Option<&'static str>,
}

/// Who else runs a file whose hooks lose the mount that they were attached through.
#[derive(Debug)]
pub(crate) struct Moved {
    /// A process that runs it.
    pub pid: u32,
    /// What it has.
    pub binary: Arc<Binary>,
    /// See [`Executable`].
    pub is_outspoken: bool,
    /// What lies where in it.
    pub layout: Layout,
}

/// Where nginx logs.
const LOGS: Place = Place::Entry("ngx_log_error_core");
/// Where the kernel says how to request a kprobe; without it the verifier need not look at the
/// program.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";

/// What the running kernel has, in both readers' terms.
pub(super) struct Kernel<'a> {
    pub(super) own: &'a Btf,
    pub(super) aya: &'a aya::Btf,
}

impl Probes {
    /// Attaches the kernel's hooks.
    ///
    /// # Errors
    /// A required capability has no way left.
    pub(super) fn attach_kernel(&mut self, kernel: &Kernel<'_>) -> Result<(), LoadError> {
        for sight in SIGHTS {
            let mut served = false;
            for way in sight.ways {
                for hook in *way {
                    if hook.place.is_nginx() || self.serves(hook.program) {
                        continue;
                    }
                    let outcome = if served {
                        Outcome::Spare
                    } else {
                        self.try_hook(hook, kernel)
                    };
                    self.outcome.insert(hook.program, outcome);
                }
                served |= way.iter().all(|hook| self.serves(hook.program));
            }
            if let (true, Some(Outcome::Missing(why))) = (
                sight.required && !served,
                self.outcome(sight.ways[0][0].program),
            ) {
                return Err(LoadError::Required {
                    sight: sight.name,
                    why: why.clone(),
                });
            }
        }
        Ok(())
    }

    fn try_hook(&mut self, hook: &Hook, kernel: &Kernel<'_>) -> Outcome {
        if let Some(why) = left_out(hook, &self.without) {
            return why;
        }
        if let Err(why) = fits(hook.place, kernel.own) {
            return Outcome::Missing(why);
        }
        match self.attach_hook(hook, kernel.aya) {
            Ok(()) => Outcome::Attached,
            Err(error) => {
                // One that was loaded and found no place to stand in; whether it was, does not
                // matter.
                let _ = match self.program(hook.program) {
                    Program::FEntry(program) => program.unload(),
                    Program::FExit(program) => program.unload(),
                    Program::KProbe(program) => program.unload(),
                    _ => Ok(()),
                };
                Outcome::Missing(chain::text(&error))
            }
        }
    }

    fn attach_hook(&mut self, hook: &Hook, btf: &aya::Btf) -> Result<(), ProgramError> {
        let program = self.program(hook.program);
        match hook.place {
            Place::Tracepoint { name, .. } => {
                let program: &mut RawTracePoint = program.try_into()?;
                if program.fd().is_err() {
                    program.load()?;
                }
                program.attach(name)?;
            }
            Place::Fentry(function) => {
                let program: &mut FEntry = program.try_into()?;
                program.load(function, btf)?;
                program.attach()?;
            }
            Place::Fexit { function, .. } => {
                let program: &mut FExit = program.try_into()?;
                program.load(function, btf)?;
                program.attach()?;
            }
            Place::Kprobe(function) | Place::Kretprobe(function) => {
                let program: &mut KProbe = program.try_into()?;
                program.load()?;
                program.attach(function, 0)?;
            }
            Place::Entry(_) | Place::Return(_) | Place::BySocket(_) => {}
        }
        Ok(())
    }

    /// Hooks the functions of one nginx executable, each once however often it is called. Gives the
    /// layout that the kernel side is to follow its processes by.
    pub(crate) fn attach_nginx(&mut self, executable: &Executable<'_>, layout: Layout) -> Layout {
        let binary = executable.binary;
        let place = self
            .targets
            .enter(binary.id, likeness(binary), executable.breakpoints);
        let layout = self.attach_at(place, executable, layout);
        self.count_in(place);
        self.merge();
        layout
    }

    fn attach_at(&mut self, place: usize, executable: &Executable<'_>, layout: Layout) -> Layout {
        let mut layout = self.usable(executable, layout);
        for sight in SIGHTS {
            let mut served = false;
            for way in sight.ways {
                let mut stands = true;
                for hook in way.iter().filter(|hook| hook.place.is_nginx()) {
                    let outcome = if served {
                        Outcome::Spare
                    } else {
                        self.try_function(place, hook, executable, &layout)
                    };
                    stands &= outcome.serves();
                    if matches!(hook.place, Place::BySocket(_)) && !stands {
                        layout.connect = 0;
                    }
                    self.targets.at(place).outcome.insert(hook.program, outcome);
                }
                served |= stands;
            }
        }
        layout
    }

    /// What is attached to a target's generation of now counts from now on.
    fn count_in(&mut self, place: usize) {
        let Some((number, generation)) = self.targets.at(place).counting() else {
            return;
        };
        let map = self.ebpf.map_mut("GENERATIONS");
        let map = map.and_then(|map| Array::<_, u32>::try_from(map).ok());
        if let Some(mut map) = map {
            // An array's element can be set.
            let _ = map.set(number, &generation, 0);
        }
    }

    /// Tries whether the kernel lets this process attach to nginx: some want `CAP_SYS_ADMIN` for
    /// it. The breakpoint is at this program's first instruction, which ran before.
    ///
    /// # Errors
    /// It does not; the reason is the kernel's.
    pub(crate) fn may_attach(&mut self) -> Result<(), String> {
        let Some(hook) = hooks().find(|hook| hook.place == LOGS) else {
            return Ok(());
        };
        if let Some(Outcome::Missing(why)) = left_out(&hook, &self.without) {
            return Err(why);
        }
        let Some(offset) = process::own_entry() else {
            return Ok(());
        };
        let path = targets::of_process(std::process::id());
        match self.attach_function(&hook, &path, offset, None) {
            Ok(link) => targets::detach_aside(vec![link]),
            Err(error) => {
                let function = hook.place.name();
                return Err(format!("attaching to {function}: {}", chain::text(&error)));
            }
        }
        Ok(())
    }

    /// Nobody runs this file by its mount any more: nothing may keep that busy. `runs` gives a
    /// process that runs the file as another mount shows it.
    pub(crate) fn release(&mut self, id: ExeId, executable: impl Fn(ExeId) -> Option<Moved>) {
        match self.targets.leave(id) {
            Gone::Nothing => return,
            Gone::Target(mut target) => targets::detach_aside(target.take()),
            Gone::Moves(place) => {
                let others = self.targets.members(place).to_vec();
                let moved = others
                    .into_iter()
                    .find_map(|other| Some((other, executable(other)?)));
                if let Some((other, moved)) = moved {
                    self.targets.lead(place, other);
                    let before = self.targets.at(place).next();
                    let executable = Executable {
                        pid: moved.pid,
                        binary: &moved.binary,
                        is_outspoken: moved.is_outspoken,
                        breakpoints: &BTreeSet::new(),
                        forbidden: None,
                    };
                    self.attach_at(place, &executable, moved.layout);
                    self.count_in(place);
                    targets::detach_aside(before);
                }
            }
        }
        self.merge();
    }

    /// Of several nginx the worst counts: what one lacks is not hidden by another that has it. It
    /// is the same one in whatever order they came.
    fn merge(&mut self) {
        for hook in hooks().filter(|hook| hook.place.is_nginx()) {
            let outcomes = self
                .targets
                .iter()
                .filter_map(|target| target.outcome.get(hook.program));
            match worst(outcomes).cloned() {
                Some(worst) => self.outcome.insert(hook.program, worst),
                None => self.outcome.remove(hook.program),
            };
        }
    }

    /// When hooks were attached last to a file that looks like this one, and was reached by another
    /// mount; `None` if to none, or it is known to be the same.
    #[must_use]
    pub(crate) fn attached_to_like(&self, binary: &Binary) -> Option<Instant> {
        self.targets.attached_to_like(binary.id, &likeness(binary))
    }

    /// Are there hooks in this file?
    #[must_use]
    pub(crate) fn is_attached(&self, id: ExeId) -> bool {
        self.targets.of(id).is_some_and(|target| !target.is_bare())
    }

    /// Why the failures of an nginx can not be seen; `None` if they can.
    #[must_use]
    pub(crate) fn blindness(&self, id: ExeId) -> Option<String> {
        let target = self.targets.of(id)?;
        SIGHTS
            .iter()
            .filter(|sight| sight.sees_failures)
            .find_map(|sight| {
                let stands = |hook: &Hook| {
                    target
                        .outcome
                        .get(hook.program)
                        .is_some_and(Outcome::serves)
                };
                if sight.ways.iter().any(|way| way.iter().all(stands)) {
                    return None;
                }
                let mut hooks = sight.ways.iter().copied().flatten();
                hooks.find_map(|hook| match target.outcome.get(hook.program) {
                    Some(Outcome::Missing(why)) => Some(format!("{}: {why}", sight.name)),
                    _ => None,
                })
            })
    }

    /// Without the hooks that see what a layout is for nobody may count on it.
    fn usable(&self, executable: &Executable<'_>, layout: Layout) -> Layout {
        let mut layout = layout;
        // A client's answer is seen as it is written, and that an upstream gave none as nothing was
        // read.
        let sees_transfers = self.sees("sent") && self.sees("received");
        if !sees_transfers {
            layout.status = 0;
        }
        // Where nginx closes connections is not seen of those whose log tells what failed.
        let sees_logs = hooks().any(|hook| {
            hook.place == LOGS
                && executable.binary.functions.contains_key(hook.place.name())
                && left_out(&hook, &self.without).is_none()
        });
        let is_by_socket = sees_transfers
            && sees_logs
            && BY_SOCKET.iter().all(|member| {
                !self
                    .missing_members()
                    .iter()
                    .any(|missing| missing == member)
            });
        if !is_by_socket {
            layout.connect = 0;
        }
        layout
    }

    fn try_function(
        &mut self,
        place: usize,
        hook: &Hook,
        executable: &Executable<'_>,
        layout: &Layout,
    ) -> Outcome {
        if let Some(why) = left_out(hook, &self.without) {
            return why;
        }
        if let Some(why) = executable.forbidden {
            return Outcome::Missing(why.to_owned());
        }
        if matches!(hook.place, Place::BySocket(_)) && !layout.is_by_socket() {
            if !self.targets.iter().any(|target| target.has(hook.program))
                && let Program::UProbe(program) = self.program(hook.program)
            {
                // It was verified with the others; whether it was, does not matter.
                let _ = program.unload();
            }
            return Outcome::Missing(
                "sockets do not lead to requests here: epoll, nginx 1.15.3, and the hooks sent and received are needed".to_owned(),
            );
        }
        let function = hook.place.name();
        let Some(entries) = executable.binary.functions.get(function) else {
            return Outcome::Missing(format!("this nginx does not export {function}"));
        };
        let target = self.targets.at(place);
        if target.has(hook.program) {
            return Outcome::Attached;
        }
        if matches!(hook.place, Place::BySocket(_)) && executable.is_outspoken {
            return Outcome::Deferred;
        }
        let (path, cookie) = (targets::of_process(executable.pid), target.cookie());
        let mut stands = false;
        let mut why = String::new();
        for offset in entries.all() {
            match self.attach_function(hook, &path, offset, cookie) {
                Ok(link) => {
                    self.targets
                        .at(place)
                        .add(hook.program, link, Instant::now());
                    stands = true;
                }
                Err(error) => why = chain::text(&error),
            }
            // What is called most is the function itself.
            if !stands && entries.own == Some(offset) {
                break;
            }
        }
        if stands && matches!(hook.place, Place::BySocket(_)) {
            self.expect_unix_upstreams();
        }
        match stands {
            true => Outcome::Attached,
            false => Outcome::Missing(why),
        }
    }

    /// Who serves an upstream's unix socket may read before nginx's own write has shown that one
    /// is: see `hints.rs` of the BPF side.
    fn expect_unix_upstreams(&mut self) {
        let map = self.ebpf.map_mut("UNIX_UPSTREAMS");
        let map = map.and_then(|map| Array::<_, [u32; 1]>::try_from(map).ok());
        if let Some(mut map) = map {
            // Without it the first such request may not show who served it.
            let _ = map.set(0, &[1], 0);
        }
    }

    fn attach_function(
        &mut self,
        hook: &Hook,
        path: &Path,
        offset: u64,
        cookie: Option<u64>,
    ) -> Result<UProbeLink, ProgramError> {
        let patience = self.patience;
        let program: &mut UProbe = self.program(hook.program).try_into()?;
        if program.fd().is_err() {
            program.load()?;
        }
        let (info, kind, name) = (program.info()?, program.kind(), hook.program);
        let path = path.to_owned();
        // By the keeper, and for a bounded time: reading the file's instruction may never return.
        keeper::with_admin(patience, move || {
            // SAFETY: it describes the program above, which is a uprobe of this kind.
            let mut program = unsafe { UProbe::from_program_info(info, name.into(), kind) }?;
            let point = UProbeAttachPoint {
                location: UProbeAttachLocation::AbsoluteOffset(offset),
                cookie,
            };
            let link = program.attach([point], path, UProbeScope::AllProcesses)?;
            program.take_link(link)
        })
        .map_err(ProgramError::IOError)?
    }

    /// How a program came out; `None` before an nginx was attached, for nginx's own.
    #[must_use]
    pub(crate) fn outcome(&self, program: &str) -> Option<&Outcome> {
        self.outcome.get(program)
    }

    fn serves(&self, program: &str) -> bool {
        self.outcome(program).is_some_and(Outcome::serves)
    }

    /// Which of its ways shows a capability, the best being 0; `None` if none does.
    #[must_use]
    pub(crate) fn way(&self, sight: &Sight) -> Option<usize> {
        sight
            .ways
            .iter()
            .position(|way| way.iter().all(|hook| self.serves(hook.program)))
    }

    /// Whether something is seen, in any way.
    #[must_use]
    pub(crate) fn sees(&self, name: &str) -> bool {
        SIGHTS
            .iter()
            .any(|sight| sight.name == name && self.way(sight).is_some())
    }

    /// The names of the sights that no hook gives.
    #[must_use]
    pub(crate) fn absent(&self) -> Vec<&'static str> {
        SIGHTS
            .iter()
            .filter(|sight| self.way(sight).is_none() && self.was_tried(sight))
            .map(|sight| sight.name)
            .collect()
    }

    /// Nginx's own are not, before there is one.
    fn was_tried(&self, sight: &Sight) -> bool {
        let mut hooks = sight.ways.iter().copied().flatten();
        hooks.any(|hook| self.outcome(hook.program).is_some())
    }

    /// The state of a capability; `None` for nginx's own before there is one.
    #[must_use]
    pub(crate) fn state(&self, sight: &Sight) -> Option<State> {
        let way = self.way(sight);
        (way.is_some() || self.was_tried(sight)).then(|| State::of(sight, way))
    }

    /// How many sights are in each state.
    #[must_use]
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        SIGHTS
            .iter()
            .filter_map(|sight| self.state(sight))
            .for_each(|state| tally.add(state));
        tally
    }
}

fn worst<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Option<&'a Outcome> {
    outcomes.max_by_key(|outcome| match outcome {
        Outcome::Missing(why) => (outcome.rank(), why.as_str()),
        _ => (outcome.rank(), ""),
    })
}

fn likeness(binary: &Binary) -> Likeness {
    Likeness {
        size: binary.size,
        modified: binary.mtime,
        functions: binary.functions.clone(),
    }
}

/// What sockets lead to requests by.
const BY_SOCKET: [&str; 8] = [
    "unix_sock.addr",
    "flowi4.__fl_common.flowic_proto",
    "flowi6.__fl_common.flowic_proto",
    "sock.sk_wq",
    "socket_wq.wait.head",
    "eppoll_entry.wait.entry",
    "eppoll_entry.base",
    "epitem.event.data",
];

/// Whether a hook, or its kind of place, is not to be used.
pub(super) fn left_out(hook: &Hook, without: &[String]) -> Option<Outcome> {
    let kind = hook.place.kind();
    let word = without
        .iter()
        .find(|word| *word == kind || *word == hook.program)?;
    Some(Outcome::Missing(format!("left out by --without {word}")))
}

/// Whether this kernel has the place, as the program takes it for.
pub(super) fn fits(place: Place, btf: &Btf) -> Result<(), String> {
    match place {
        Place::Tracepoint {
            name,
            at_least,
            below,
        } => match btf.tracepoint_arguments(name) {
            None => Err("this kernel has no such tracepoint".to_owned()),
            Some(count) if count < at_least || count >= below => {
                Err(format!("this kernel's has {count} arguments"))
            }
            Some(_) => Ok(()),
        },
        Place::Fexit {
            function,
            parameters,
        } => match btf.function_parameters(function) {
            None => Err("this kernel has no such function".to_owned()),
            Some(count) if count != parameters => {
                Err(format!("this kernel's has {count} parameters"))
            }
            Some(_) => Ok(()),
        },
        Place::Kprobe(_) | Place::Kretprobe(_) if !Path::new(KPROBES).exists() => {
            Err("this kernel has no kprobes".to_owned())
        }
        Place::Fentry(function) | Place::Kprobe(function) | Place::Kretprobe(function) => {
            match btf.function_parameters(function) {
                None => Err("this kernel has no such function".to_owned()),
                Some(_) => Ok(()),
            }
        }
        Place::Entry(_) | Place::Return(_) | Place::BySocket(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_nginx_the_same_one_counts_in_whatever_order_they_came() {
        let absent = |why: &str| Outcome::Missing(why.to_owned());
        let all = [
            Outcome::Attached,
            absent("a"),
            Outcome::Deferred,
            absent("b"),
        ];
        assert_eq!(worst(all.iter()), Some(&absent("b")));
        assert_eq!(worst(all.iter().rev()), Some(&absent("b")));
        assert_eq!(worst([].iter()), None);
    }
}
