//! Loading the BPF object and attaching its programs. A hook that does not attach costs its evidence, not the run.
//!
//! All links are file descriptors of this process: whatever ends it, SIGKILL included, takes every hook away.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap as BpfHashMap, MapData, PerCpuArray, RingBuf},
    programs::{BtfTracePoint, Program, UProbe, uprobe::UProbeAttachLocation, uprobe::UProbeScope},
};
use aya_log::EbpfLogger;
use thiserror::Error;
use tracer_ebpf::abi::{self, counter};

use super::{
    diagnostics::{self, Stderr},
    table::{HOOKS, Hook, Place},
};
use crate::kernel::{self, Btf, BtfError, Reasons};

/// Why nothing could be attached at all.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The kernel's type information is missing.
    #[error(
        "this kernel gives no BTF ({0}); tracer needs CONFIG_DEBUG_INFO_BTF=y, kernel 5.10 or later"
    )]
    NoBtf(#[source] BtfError),
    /// The aya side of the same.
    #[error("reading the kernel's BTF")]
    Btf(#[from] aya::BtfError),
    /// The object did not load: not permitted, locked down, or this kernel can not.
    #[error("loading the BPF programs")]
    Load(#[from] aya::EbpfError),
    /// A hook without which there is nothing to say.
    #[error("attaching {hook}")]
    Required {
        /// Its name.
        hook: &'static str,
        /// Why.
        source: aya::programs::ProgramError,
    },
    /// A map is missing or of another kind: the object is not ours.
    #[error("the BPF object lacks the map {0}")]
    Map(&'static str),
    /// A map could not be used.
    #[error("using a BPF map")]
    MapUse(#[from] aya::maps::MapError),
}

/// How a hook came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attached {
    /// It stands.
    Stands,
    /// This kernel has none such, or another variant serves.
    Absent(String),
}

/// The loaded object and its links.
pub struct Probes {
    ebpf: Ebpf,
    ring: Option<RingBuf<MapData>>,
    log: Option<EbpfLogger<Stderr>>,
    /// How each hook of [`HOOKS`] came out, nginx's once one nginx was attached.
    outcome: HashMap<&'static str, Attached>,
    /// Executables whose functions are hooked: device and inode.
    binaries: HashSet<(u64, u64)>,
    reasons: Reasons,
    missing_members: Vec<String>,
}

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probes")
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl Probes {
    /// Loads the object, fills in what this kernel's BTF says, and attaches all kernel hooks.
    ///
    /// # Errors
    /// No BTF, no permission, or a required hook does not stand.
    pub fn load(btf_path: &Path, log_level: u8) -> Result<Self, LoadError> {
        let own = Btf::read(btf_path).map_err(LoadError::NoBtf)?;
        let btf = aya::Btf::parse_file(btf_path, aya::Endianness::default())?;
        let (offsets, missing_members) = kernel::offsets(&own);
        let reasons = Reasons::new(&own);
        let wanted = reasons.wanted_drops();
        let mut ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .override_global("OFFSETS", offsets.as_slice(), true)
            .override_global("WANTED_DROPS", wanted.as_slice(), true)
            .override_global(aya_log::LEVEL, &log_level, false)
            .load(aya::include_bytes_aligned!(concat!(
                env!("OUT_DIR"),
                "/tracer-ebpf"
            )))?;
        let ring = RingBuf::try_from(ebpf.take_map("EVENTS").ok_or(LoadError::Map("EVENTS"))?)?;
        let log = (log_level > 0)
            .then(|| diagnostics::read(&mut ebpf))
            .flatten();
        let mut probes = Self {
            ebpf,
            log,
            ring: Some(ring),
            outcome: HashMap::new(),
            binaries: HashSet::new(),
            reasons,
            missing_members,
        };
        for hook in HOOKS {
            if let Place::Tracepoint {
                name,
                at_least,
                below,
            } = hook.place
            {
                let arguments = own.tracepoint_arguments(name);
                let outcome = match arguments {
                    None => Attached::Absent("this kernel has no such tracepoint".to_owned()),
                    Some(count) if count < at_least || count >= below => {
                        Attached::Absent(format!("this kernel's has {count} arguments"))
                    }
                    Some(_) => match probes.attach_tracepoint(hook.program, name, &btf) {
                        Ok(()) => Attached::Stands,
                        Err(source) if hook.required => {
                            return Err(LoadError::Required {
                                hook: hook.program,
                                source,
                            });
                        }
                        Err(error) => Attached::Absent(chain(&error)),
                    },
                };
                probes.outcome.insert(hook.program, outcome);
            }
        }
        Ok(probes)
    }

    fn attach_tracepoint(
        &mut self,
        program: &'static str,
        name: &str,
        btf: &aya::Btf,
    ) -> Result<(), aya::programs::ProgramError> {
        let program: &mut BtfTracePoint = self.program(program).try_into()?;
        program.load(name, btf)?;
        program.attach()?;
        Ok(())
    }

    /// Hooks the functions of one nginx executable, once however often it is called.
    ///
    /// `path` must open the executable from here (`/proc/PID/exe`); `symbols` gives file offsets by function name.
    pub fn attach_nginx(&mut self, path: &Path, id: (u64, u64), symbols: &BTreeMap<String, u64>) {
        if !self.binaries.insert(id) {
            return;
        }
        for hook in HOOKS {
            let (Place::Entry(function) | Place::Return(function)) = hook.place else {
                continue;
            };
            let outcome = match symbols.get(function) {
                None => Attached::Absent(format!("this nginx does not export {function}")),
                Some(&offset) => match self.attach_function(hook, path, offset) {
                    Ok(()) => Attached::Stands,
                    Err(error) => Attached::Absent(chain(&error)),
                },
            };
            // One nginx without the function must stay visible beside another that has it.
            let entry = self
                .outcome
                .entry(hook.program)
                .or_insert_with(|| outcome.clone());
            if outcome != Attached::Stands {
                *entry = outcome;
            }
        }
    }

    fn attach_function(
        &mut self,
        hook: &Hook,
        path: &Path,
        offset: u64,
    ) -> Result<(), aya::programs::ProgramError> {
        let program: &mut UProbe = self.program(hook.program).try_into()?;
        if program.fd().is_err() {
            program.load()?;
        }
        program.attach(
            UProbeAttachLocation::AbsoluteOffset(offset),
            path,
            UProbeScope::AllProcesses,
        )?;
        Ok(())
    }

    fn program(&mut self, name: &'static str) -> &mut Program {
        self.ebpf
            .program_mut(name)
            .expect("HOOKS names programs of the object built beside it")
    }

    /// Follows a master: its children are workers from their fork on.
    ///
    /// # Errors
    /// The map is full.
    pub fn follow_master(&mut self, pid: u32, layout: abi::Layout) -> Result<(), LoadError> {
        let layout = self.usable(layout);
        let mut map: BpfHashMap<_, u32, RawLayout> = BpfHashMap::try_from(
            self.ebpf
                .map_mut("MASTERS")
                .ok_or(LoadError::Map("MASTERS"))?,
        )?;
        Ok(map.insert(pid, RawLayout(layout), 0)?)
    }

    /// Follows a worker that was there before its master was followed.
    ///
    /// # Errors
    /// The map is full.
    pub fn follow_worker(&mut self, pid: u32, layout: abi::Layout) -> Result<(), LoadError> {
        let layout = self.usable(layout);
        let mut map: BpfHashMap<_, u32, RawWorker> = BpfHashMap::try_from(
            self.ebpf
                .map_mut("WORKERS")
                .ok_or(LoadError::Map("WORKERS"))?,
        )?;
        let worker = abi::Worker {
            layout,
            ..abi::Worker::default()
        };
        match map.insert(pid, RawWorker(worker), BPF_NOEXIST) {
            // The fork hook was faster.
            Err(aya::maps::MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::EEXIST) =>
            {
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Without the hook that sees replies nobody may wait for one.
    fn usable(&self, layout: abi::Layout) -> abi::Layout {
        let status = if self.stands("sent") {
            layout.status
        } else {
            0
        };
        abi::Layout { status, ..layout }
    }

    /// Follows a process no more.
    ///
    /// # Errors
    /// The maps are not there.
    pub fn unfollow(&mut self, pid: u32) -> Result<(), LoadError> {
        let mut map: BpfHashMap<_, u32, RawWorker> = BpfHashMap::try_from(
            self.ebpf
                .map_mut("WORKERS")
                .ok_or(LoadError::Map("WORKERS"))?,
        )?;
        // Gone already is what was wanted.
        let _ = map.remove(&pid);
        Ok(())
    }

    /// The ring buffer, once.
    pub fn take_ring(&mut self) -> Option<RingBuf<MapData>> {
        self.ring.take()
    }

    /// Prints what the BPF side said since, if it was asked to say anything.
    pub fn print_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Records that the kernel side had to drop since it was loaded.
    ///
    /// # Errors
    /// The map is not there.
    pub fn lost(&self) -> Result<u64, LoadError> {
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(
            self.ebpf
                .map("COUNTERS")
                .ok_or(LoadError::Map("COUNTERS"))?,
        )?;
        Ok(map.get(&counter::LOST, 0)?.iter().sum())
    }

    /// How a hook came out; `None` before an nginx was attached, for nginx's own.
    #[must_use]
    pub fn outcome(&self, hook: &str) -> Option<&Attached> {
        self.outcome.get(hook)
    }

    /// Names of the hooks that do not stand and for which no variant does.
    #[must_use]
    pub fn absent(&self) -> Vec<&'static str> {
        HOOKS
            .iter()
            .filter(|hook| matches!(self.outcome(hook.program), Some(Attached::Absent(_))))
            .filter(|hook| {
                !HOOKS
                    .iter()
                    .any(|other| is_variant(hook, other) && self.stands(other.program))
            })
            .map(|hook| hook.program)
            .collect()
    }

    /// How many hooks stand.
    #[must_use]
    pub fn standing(&self) -> usize {
        HOOKS
            .iter()
            .filter(|hook| self.stands(hook.program))
            .count()
    }

    fn stands(&self, hook: &str) -> bool {
        self.outcome(hook) == Some(&Attached::Stands)
    }

    /// This kernel's names of reasons.
    #[must_use]
    pub fn reasons(&self) -> &Reasons {
        &self.reasons
    }

    /// Kernel structure members that this kernel lacks.
    #[must_use]
    pub fn missing_members(&self) -> &[String] {
        &self.missing_members
    }
}

/// `bpf(2)`: create only.
const BPF_NOEXIST: u64 = 1;

fn is_variant(one: &Hook, other: &Hook) -> bool {
    match (one.place, other.place) {
        (Place::Tracepoint { name: a, .. }, Place::Tracepoint { name: b, .. }) => {
            a == b && one.program != other.program
        }
        _ => false,
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

/// [`abi::Layout`], in the loader's terms.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct RawLayout(abi::Layout);

/// [`abi::Worker`], in the loader's terms.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct RawWorker(abi::Worker);

// SAFETY: repr(transparent) over repr(C) integers, without implicit padding (asserted in tracer-ebpf).
unsafe impl aya::Pod for RawLayout {}
// SAFETY: as above.
unsafe impl aya::Pod for RawWorker {}
