//! Has the kernel verify programs on several CPUs at once: one after the other would be most of the
//! time from exec to `tracing`. What does not load here is loaded where it is attached, and its
//! failure is reported there.

use std::{
    collections::HashSet,
    num::NonZero,
    sync::{Mutex, PoisonError},
    thread,
};

use aya::programs::Program;

use super::{
    attach,
    probes::Probes,
    table::{Hook, Place, SIGHTS},
};
use crate::kernel::Btf;

/// More gain nothing: one program takes as long as all others together.
const THREADS: usize = 4;

impl Probes {
    /// Loads the programs that will be attached if all goes well: those of tracepoints, and
    /// nginx's.
    pub(super) fn verify(&mut self, btf: &Btf) {
        let may = |hook: &Hook| {
            attach::left_out(hook, &self.without).is_none() && attach::fits(hook.place, btf).is_ok()
        };
        let ways = SIGHTS
            .iter()
            .filter_map(|sight| sight.ways.iter().find(|way| way.iter().all(may)));
        let wanted: HashSet<&str> = ways
            .copied()
            .flatten()
            .filter(|hook| hook.place.is_nginx() || matches!(hook.place, Place::Tracepoint { .. }))
            .map(|hook| hook.program)
            .collect();
        let programs = self.ebpf.programs_mut();
        let programs = programs.filter(|(name, _)| wanted.contains(name));
        let queue = Mutex::new(programs.map(|(_, program)| program));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        thread::scope(|scope| {
            for _ in 0..cpus.min(THREADS) {
                scope.spawn(|| {
                    while let Some(program) = next() {
                        let _ = match program {
                            Program::RawTracePoint(program) => program.load(),
                            Program::UProbe(program) => program.load(),
                            _ => Ok(()),
                        };
                    }
                });
            }
        });
    }
}
