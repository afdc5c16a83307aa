//! Attaching what the table asks for: for each sight the best way that stands. A hook that does not attach costs its
//! evidence, not the run.

use std::{collections::BTreeMap, path::Path};

use aya::programs::{
    FEntry, FExit, KProbe, Program, ProgramError, RawTracePoint, UProbe,
    uprobe::UProbeAttachLocation, uprobe::UProbeScope,
};

use tracer_ebpf::abi::Layout;

use super::{
    load::{LoadError, Probes},
    table::{Hook, Place, SIGHTS, Sight, hooks},
};
use crate::kernel::Btf;

/// How a hook came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attached {
    /// It stands.
    Stands,
    /// It does not, and why.
    Absent(String),
    /// A better way stands.
    Spare,
    /// It stands aside until an nginx needs it.
    Aside,
}

impl Attached {
    /// It does, or will once it is needed.
    fn stands(&self) -> bool {
        matches!(self, Self::Stands | Self::Aside)
    }
}

/// An nginx executable whose functions are to be hooked.
#[derive(Debug, Clone, Copy)]
pub struct Executable<'a> {
    /// Opens it from here: `/proc/PID/exe`.
    pub path: &'a Path,
    /// Its device and inode number.
    pub id: (u64, u64),
    /// File offsets by function name.
    pub symbols: &'a BTreeMap<String, u64>,
    /// Its processes log what fails and have no unix upstreams: hooks in what it calls for each connection can stand aside.
    pub is_outspoken: bool,
}

/// Where nginx logs.
const LOGS: Place = Place::Entry("ngx_log_error_core");
/// Where the kernel says how a kprobe is asked for; without it the verifier need not look at the program.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";

/// How the sights of the table came out, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Seen, or inferred from what is seen.
    pub stand: usize,
    /// Of those, not by the best way.
    pub by_fallback: usize,
    /// Neither.
    pub lost: usize,
}

/// What the running kernel has, in both readers' terms.
pub(super) struct Kernel<'a> {
    pub(super) own: &'a Btf,
    pub(super) aya: &'a aya::Btf,
}

impl Probes {
    /// Attaches the kernel's hooks.
    ///
    /// # Errors
    /// A sight without which there is nothing to say has no way left.
    pub(super) fn attach_kernel(&mut self, kernel: &Kernel<'_>) -> Result<(), LoadError> {
        for sight in SIGHTS {
            let mut served = false;
            for way in sight.ways {
                for hook in *way {
                    if hook.place.is_nginx() || self.stands(hook.program) {
                        continue;
                    }
                    let outcome = if served {
                        Attached::Spare
                    } else {
                        self.try_hook(hook, kernel)
                    };
                    self.outcome.insert(hook.program, outcome);
                }
                served |= way.iter().all(|hook| self.stands(hook.program));
            }
            if let (true, Some(Attached::Absent(why))) = (
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

    fn try_hook(&mut self, hook: &Hook, kernel: &Kernel<'_>) -> Attached {
        if let Some(why) = left_out(hook, &self.without) {
            return why;
        }
        if let Err(why) = fits(hook.place, kernel.own) {
            return Attached::Absent(why);
        }
        match self.attach_hook(hook, kernel.aya) {
            Ok(()) => Attached::Stands,
            Err(error) => {
                // One that was loaded and found no place to stand in; whether it was, does not matter.
                let _ = match self.program(hook.program) {
                    Program::FEntry(program) => program.unload(),
                    Program::FExit(program) => program.unload(),
                    Program::KProbe(program) => program.unload(),
                    _ => Ok(()),
                };
                Attached::Absent(chain(&error))
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

    /// Hooks the functions of one nginx executable, each once however often it is called. Gives the layout that the kernel
    /// side is to follow its processes by.
    pub fn attach_nginx(&mut self, binary: &Executable<'_>, layout: Layout) -> Layout {
        let mut layout = self.usable(binary, layout);
        for sight in SIGHTS {
            let mut served = false;
            for way in sight.ways {
                let mut stands = true;
                for hook in way.iter().filter(|hook| hook.place.is_nginx()) {
                    let outcome = if served {
                        Attached::Spare
                    } else {
                        self.try_function(hook, binary, &layout)
                    };
                    stands &= outcome.stands();
                    if matches!(hook.place, Place::BySocket(_)) && !stands {
                        layout.connect = 0;
                    }
                    self.note(hook.program, outcome);
                }
                served |= stands;
            }
        }
        layout
    }

    /// Without the hooks that see what a layout is for nobody may count on it.
    fn usable(&self, binary: &Executable<'_>, layout: Layout) -> Layout {
        let mut layout = layout;
        // A client's answer is seen as it is written, and that an upstream gave none as nothing was read.
        let sees_transfers = self.sees("sent") && self.sees("received");
        if !sees_transfers {
            layout.status = 0;
        }
        // Where nginx closes connections is not seen of those whose log tells what failed.
        let sees_logs = hooks().any(|hook| {
            hook.place == LOGS
                && binary.symbols.contains_key(hook.place.name())
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

    /// One nginx without the function must stay visible beside another that has it.
    fn note(&mut self, program: &'static str, outcome: Attached) {
        match self.outcome.get(program) {
            Some(Attached::Absent(_)) => {}
            Some(Attached::Stands) if outcome != Attached::Stands => {}
            _ => {
                self.outcome.insert(program, outcome);
            }
        }
    }

    fn try_function(&mut self, hook: &Hook, binary: &Executable<'_>, layout: &Layout) -> Attached {
        if let Some(why) = left_out(hook, &self.without) {
            return why;
        }
        if matches!(hook.place, Place::BySocket(_)) && !layout.is_by_socket() {
            if !self
                .binaries
                .iter()
                .any(|(_, program)| *program == hook.program)
                && let Program::UProbe(program) = self.program(hook.program)
            {
                // It was verified beside the others; whether it was, does not matter.
                let _ = program.unload();
            }
            return Attached::Absent(
                "sockets do not lead to requests here: epoll, nginx 1.15.3, and the hooks sent and received are needed".to_owned(),
            );
        }
        let function = hook.place.name();
        let Some(&offset) = binary.symbols.get(function) else {
            return Attached::Absent(format!("this nginx does not export {function}"));
        };
        if matches!(hook.place, Place::BySocket(_)) && binary.is_outspoken {
            return Attached::Aside;
        }
        if !self.binaries.insert((binary.id, hook.program)) {
            return Attached::Stands;
        }
        match self.attach_function(hook, binary.path, offset) {
            Ok(()) => Attached::Stands,
            Err(error) => {
                self.binaries.remove(&(binary.id, hook.program));
                Attached::Absent(chain(&error))
            }
        }
    }

    fn attach_function(
        &mut self,
        hook: &Hook,
        path: &Path,
        offset: u64,
    ) -> Result<(), ProgramError> {
        let program: &mut UProbe = self.program(hook.program).try_into()?;
        if program.fd().is_err() {
            program.load()?;
        }
        let link = program.attach(
            UProbeAttachLocation::AbsoluteOffset(offset),
            path,
            UProbeScope::AllProcesses,
        )?;
        let link = program.take_link(link)?;
        self.links.push(link);
        Ok(())
    }

    /// How a program came out; `None` before an nginx was attached, for nginx's own.
    #[must_use]
    pub fn outcome(&self, program: &str) -> Option<&Attached> {
        self.outcome.get(program)
    }

    fn stands(&self, program: &str) -> bool {
        self.outcome(program).is_some_and(Attached::stands)
    }

    /// By which of its ways a sight is seen, the best being 0; `None` if by none.
    #[must_use]
    pub fn way(&self, sight: &Sight) -> Option<usize> {
        sight
            .ways
            .iter()
            .position(|way| way.iter().all(|hook| self.stands(hook.program)))
    }

    /// Whether something is seen, in any way.
    #[must_use]
    pub fn sees(&self, name: &str) -> bool {
        SIGHTS
            .iter()
            .any(|sight| sight.name == name && self.way(sight).is_some())
    }

    /// The names of the sights that no hook gives.
    #[must_use]
    pub fn absent(&self) -> Vec<&'static str> {
        self.unseen().map(|sight| sight.name).collect()
    }

    fn unseen(&self) -> impl Iterator<Item = &'static Sight> {
        SIGHTS
            .iter()
            .filter(|sight| self.way(sight).is_none() && self.was_tried(sight))
    }

    /// Nginx's own are not, before there is one.
    fn was_tried(&self, sight: &Sight) -> bool {
        let mut hooks = sight.ways.iter().copied().flatten();
        hooks.any(|hook| self.outcome(hook.program).is_some())
    }

    /// How the sights came out.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let ways: Vec<usize> = SIGHTS.iter().filter_map(|sight| self.way(sight)).collect();
        let (indirect, lost): (Vec<&Sight>, _) =
            self.unseen().partition(|sight| sight.instead.is_some());
        Tally {
            stand: ways.len() + indirect.len(),
            by_fallback: ways.iter().filter(|way| **way > 0).count() + indirect.len(),
            lost: lost.len(),
        }
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
pub(super) fn left_out(hook: &Hook, without: &[String]) -> Option<Attached> {
    let kind = hook.place.kind();
    let word = without
        .iter()
        .find(|word| *word == kind || *word == hook.program)?;
    Some(Attached::Absent(format!("left out by --without {word}")))
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

/// An error with its causes, in one line, without the verifier's listing.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    if let Some(at) = text.find("Verifier output") {
        text.truncate(at);
        text = text.trim_end_matches([' ', '.', '\n']).to_owned();
    }
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
