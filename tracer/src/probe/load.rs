//! Loads the BPF object, and exchanges settings and counters with it while it runs.
//!
//! All links are file descriptors of this process: whatever ends it, SIGKILL included, takes every
//! hook away.

use std::{collections::HashMap, path::Path, thread};

use aya::{
    EbpfLoader,
    maps::{Array, HashMap as BpfHashMap, MapData, PerCpuArray, RingBuf},
    programs::Program,
};
use tracer_ebpf::abi::{self, ProgramKey, counter, quota, shedding, worker_places};

use super::{
    attach::Kernel,
    diagnostics, object,
    probes::{AT_START, LoadError, Probes},
    sizes::Sizes,
    targets::Targets,
};
use crate::{
    event::{Time, decode::KernelNames},
    kernel::{self, Btf},
    process,
};

impl Probes {
    /// Loads the object with maps of these sizes, fills in what this kernel's BTF says, and
    /// attaches the kernel's hooks by the best way that is there, `without` these kinds of places
    /// and programs.
    ///
    /// # Errors
    /// No BTF, no permission, or a required capability has no way left.
    pub(crate) fn load(
        btf_path: &Path,
        log_level: u8,
        without: &[String],
        sizes: &Sizes,
        follows_all: bool,
    ) -> Result<Self, LoadError> {
        let object = object::of_kernel(without).map_err(LoadError::Object)?;
        // Three readers of the same megabytes, each for itself: the loader's own comes with it.
        let (own, btf, mut loader) = thread::scope(|scope| {
            let own = scope.spawn(|| Btf::read(btf_path));
            let btf = scope.spawn(|| aya::Btf::parse_file(btf_path, aya::Endianness::default()));
            let loader = EbpfLoader::new();
            let panicked = "reading BTF does not panic";
            (
                own.join().expect(panicked),
                btf.join().expect(panicked),
                loader,
            )
        });
        let own = own.map_err(LoadError::NoBtf)?;
        let btf = btf?;
        let (offsets, missing_members) = kernel::offsets(&own);
        let names = kernel::names(&own);
        let wanted = kernel::wanted_drops(&names);
        let sites = kernel::drop_sites(&own).map(RawSite);
        let stack_registers = kernel::stack_registers(&own);
        let has_cookies = own
            .enumerators("bpf_func_id")
            .iter()
            .any(|(_, name)| name == "BPF_FUNC_get_attach_cookie");
        // Nobody can choose pids whose places are another's.
        let seed = process::random_number();
        let (follows_all, cookies) = (u32::from(follows_all), u32::from(has_cookies));
        let mut ebpf = loader
            .btf(&btf)
            .override_global("OFFSETS", offsets.as_slice(), true)
            .override_global("WANTED_DROPS", wanted.as_slice(), true)
            .override_global("SITES", sites.as_slice(), true)
            .override_global("STACK_REGISTERS", &stack_registers, true)
            .override_global("FOLLOWS_ALL", &follows_all, true)
            .override_global("HAS_COOKIES", &cookies, true)
            .override_global("SEED", &seed, true)
            .override_global(aya_log::LEVEL, &log_level, false)
            .map_max_entries("EVENTS", sizes.ring)
            .map_max_entries("CONNECTIONS", sizes.connections)
            .map_max_entries("REQUESTS", sizes.requests)
            .load(&object)?;
        let ring = RingBuf::try_from(ebpf.take_map("EVENTS").ok_or(LoadError::Map("EVENTS"))?)?;
        let log = (log_level > 0)
            .then(|| diagnostics::read(&mut ebpf))
            .flatten();
        let mut probes = Self {
            ebpf,
            log,
            ring: Some(ring),
            outcome: HashMap::new(),
            targets: Targets::new(has_cookies),
            patience: AT_START,
            without: without.to_vec(),
            names,
            missing_members,
            seed,
        };
        let kernel = Kernel {
            own: &own,
            aya: &btf,
        };
        probes.verify(&own);
        probes.attach_kernel(&kernel)?;
        Ok(probes)
    }

    pub(super) fn loaded(&self, name: &str) -> Option<&Program> {
        self.ebpf.program(name)
    }

    pub(super) fn program(&mut self, name: &'static str) -> &mut Program {
        self.ebpf
            .program_mut(name)
            .expect("the table names programs of the object built beside it")
    }

    /// Follows whoever executes this program, from now on; what lies where in it is `program`'s.
    ///
    /// # Errors
    /// The map is full.
    pub(crate) fn follow_program(
        &mut self,
        key: ProgramKey,
        program: abi::Program,
    ) -> Result<(), LoadError> {
        Ok(self
            .programs()?
            .insert(&RawKey(key), &RawProgram(program), 0)?)
    }

    /// Follows a program no more.
    ///
    /// # Errors
    /// The map is not there.
    pub(crate) fn unfollow_program(&mut self, key: ProgramKey) -> Result<(), LoadError> {
        // It may have been full.
        let _ = self.programs()?.remove(&RawKey(key));
        Ok(())
    }

    fn programs(&mut self) -> Result<BpfHashMap<&mut MapData, RawKey, RawProgram>, LoadError> {
        let map = self.ebpf.map_mut("PROGRAMS");
        Ok(BpfHashMap::try_from(
            map.ok_or(LoadError::Map("PROGRAMS"))?,
        )?)
    }

    /// What lies where in a followed process that serves no request: whoever it forks shares it.
    /// One that serves keeps what was known, as its hooks write to the same place.
    ///
    /// # Errors
    /// The map is not there.
    pub(crate) fn set_layout(&mut self, pid: u32, layout: abi::Layout) -> Result<(), LoadError> {
        let seed = self.seed;
        let mut slots = self.workers()?;
        for place in worker_places(pid, seed) {
            let mut held = slots.get(&place, 0)?.0;
            if held.pid == pid && held.layout != layout {
                held.layout = layout;
                slots.set(place, &RawWorker(held), 0)?;
            }
        }
        Ok(())
    }

    /// Follows a process that was there before: its hooks count from now on, and what it forks is
    /// followed. One that is followed already is left as it is.
    ///
    /// # Errors
    /// Its family has used up its quota, or there is no place.
    pub(crate) fn follow(
        &mut self,
        pid: u32,
        family: u32,
        layout: abi::Layout,
    ) -> Result<(), LoadError> {
        let seed = self.seed;
        let slots = self.workers()?;
        let mut free = None;
        for place in worker_places(pid, seed) {
            match slots.get(&place, 0)?.0.pid {
                // The kernel side was faster.
                has if has == pid => return Ok(()),
                0 => {
                    free = free.or(Some(place));
                    break;
                }
                abi::NOBODY => free = free.or(Some(place)),
                _ => {}
            }
        }
        let place = free.ok_or(LoadError::Workers)?;
        let members = self.members(family, 1)?;
        if members > quota(family) {
            self.members(family, -1)?;
            return Err(LoadError::Workers);
        }
        let worker = abi::Worker {
            pid,
            family,
            layout,
            ..abi::Worker::UNKNOWN
        };
        Ok(self.workers()?.set(place, &RawWorker(worker), 0)?)
    }

    /// Follows a process no more.
    ///
    /// # Errors
    /// The maps are not there.
    pub(crate) fn unfollow(&mut self, pid: u32) -> Result<(), LoadError> {
        let seed = self.seed;
        let mut slots = self.workers()?;
        let mut family = None;
        for place in worker_places(pid, seed) {
            let held = slots.get(&place, 0)?.0;
            if held.pid == pid {
                let nobody = abi::Worker {
                    pid: abi::NOBODY,
                    ..abi::Worker::UNKNOWN
                };
                slots.set(place, &RawWorker(nobody), 0)?;
                family = Some(held.family);
            }
        }
        if let Some(family) = family {
            self.members(family, -1)?;
        }
        Ok(())
    }

    /// Counts a family's members; gives how many it has then.
    fn members(&mut self, family: u32, change: i32) -> Result<u32, LoadError> {
        let map = self.ebpf.map_mut("FAMILIES");
        let mut map: BpfHashMap<_, u32, u32> =
            BpfHashMap::try_from(map.ok_or(LoadError::Map("FAMILIES"))?)?;
        let members = map.get(&family, 0).unwrap_or(0);
        let members = members.saturating_add_signed(change);
        map.insert(&family, &members, 0)?;
        Ok(members)
    }

    fn workers(&mut self) -> Result<Array<&mut MapData, RawWorker>, LoadError> {
        let map = self.ebpf.map_mut("WORKERS");
        Ok(Array::try_from(map.ok_or(LoadError::Map("WORKERS"))?)?)
    }

    /// The ring buffer, once.
    pub(crate) fn take_ring(&mut self) -> Option<RingBuf<MapData>> {
        self.ring.take()
    }

    /// Prints what the BPF side said since, if it was asked to say anything.
    pub(crate) fn print_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// What the kernel side reported and left out since it was loaded.
    ///
    /// # Errors
    /// The map is not there.
    pub(crate) fn counters(&self) -> Result<Counters, LoadError> {
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(
            self.ebpf
                .map("COUNTERS")
                .ok_or(LoadError::Map("COUNTERS"))?,
        )?;
        let sum = |slot: u32| -> Result<u64, LoadError> { Ok(map.get(&slot, 0)?.iter().sum()) };
        Ok(Counters {
            written: sum(counter::WRITTEN)?,
            lost: sum(counter::LOST)?,
            healthy: sum(counter::HEALTHY)?,
            failed: sum(counter::UNTOLD)?,
            bare: sum(counter::BARE)?,
            closings: sum(counter::CLOSINGS)?,
            refused: sum(counter::REFUSED)?,
        })
    }

    /// Asks the kernel side to leave this out, the sample of those requests that begin `since`
    /// then.
    ///
    /// # Errors
    /// The map is not there.
    pub(crate) fn shed(&mut self, shed: Shed, since: Time) -> Result<(), LoadError> {
        let mut map: Array<_, u64> = Array::try_from(
            self.ebpf
                .map_mut("SHEDDING")
                .ok_or(LoadError::Map("SHEDDING"))?,
        )?;
        map.set(shedding::HEALTHY, &u64::from(shed.healthy), 0)?;
        map.set(shedding::DETAILS, &u64::from(shed.details), 0)?;
        map.set(shedding::GRANT, &shed.grant, 0)?;
        // In this order: whatever the hooks read in between is what held.
        let before = map.get(&shedding::SAMPLE, 0)?;
        map.set(shedding::BEFORE, &before, 0)?;
        map.set(shedding::SINCE, &since.0, 0)?;
        Ok(map.set(shedding::SAMPLE, &shed.sample, 0)?)
    }

    /// Asks the kernel side to leave out connections that served well and of which nothing was
    /// asked: no verdict rests on them.
    ///
    /// # Errors
    /// The map is not there.
    pub(crate) fn leave_out_unasked(&mut self) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("SHEDDING");
        let mut map: Array<_, u64> = Array::try_from(map.ok_or(LoadError::Map("SHEDDING"))?)?;
        Ok(map.set(shedding::UNASKED, &1, 0)?)
    }

    /// Returns what this kernel's numbers mean.
    #[must_use]
    pub(crate) fn names(&self) -> &KernelNames {
        &self.names
    }

    /// Kernel structure members that this kernel lacks.
    #[must_use]
    pub(crate) fn missing_members(&self) -> &[String] {
        &self.missing_members
    }
}

/// What to leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shed {
    /// Healthy connections.
    pub healthy: bool,
    /// What failed requests ask: their lines, their hosts.
    pub details: bool,
    /// A power of two less 1: of so many failed requests and one more all but one.
    pub sample: u64,
    /// How many failed requests of each worker come whatever the sample, in 134 ms.
    pub grant: u64,
}

/// What the kernel side reported, and what it left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Records that were written.
    pub written: u64,
    /// Records that found the ring full.
    pub lost: u64,
    /// Healthy connections that were to be left out.
    pub healthy: u64,
    /// Failed attempts that were to be left out.
    pub failed: u64,
    /// Times that it was not to be read what a failed request asks.
    pub bare: u64,
    /// Times that a failure was met that only the closing of connections reports.
    pub closings: u64,
    /// Processes of nginx's that found no place to be followed.
    pub refused: u64,
}

/// [`ProgramKey`], in the loader's terms.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct RawKey(ProgramKey);

/// [`abi::Program`], in the loader's terms.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct RawProgram(abi::Program);

/// [`abi::Worker`], in the loader's terms.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct RawWorker(abi::Worker);

/// [`abi::DropSite`], in the loader's terms.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct RawSite(abi::DropSite);

// SAFETY: repr(transparent) over repr(C) integers, without implicit padding (asserted in
// tracer-ebpf).
unsafe impl aya::Pod for RawKey {}
// SAFETY: as above.
unsafe impl aya::Pod for RawProgram {}
// SAFETY: as above.
unsafe impl aya::Pod for RawWorker {}
// SAFETY: as above.
unsafe impl aya::Pod for RawSite {}
