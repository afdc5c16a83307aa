//! The loaded object and its links, and why there may be none.

use std::{collections::HashMap, io, time::Duration};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use aya_log::EbpfLogger;
use thiserror::Error;

use super::{diagnostics::Stderr, outcome::Outcome, targets::Targets};
use crate::{event::decode::KernelNames, kernel::BtfError, process::keeper};

/// Why nothing could be attached at all.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// The kernel's type information is missing.
    #[error(
        "this kernel gives no BTF ({0}); tracer needs CONFIG_DEBUG_INFO_BTF=y, kernel 5.10 or later"
    )]
    NoBtf(#[source] BtfError),
    /// The object could not be unpacked.
    #[error("unpacking the BPF object")]
    Object(#[source] io::Error),
    /// The aya side of the same.
    #[error("reading the kernel's BTF")]
    Btf(#[from] aya::BtfError),
    /// The object did not load: not permitted, locked down, or this kernel can not.
    #[error("loading the BPF programs")]
    Load(#[from] aya::EbpfError),
    /// A capability without which nothing can be reported.
    #[error("attaching {sight}: {why}")]
    Required {
        /// Its name.
        sight: &'static str,
        /// Why.
        why: String,
    },
    /// A map is missing or of another kind: the object is not ours.
    #[error("the BPF object lacks the map {0}")]
    Map(&'static str),
    /// More processes of nginx's than there are places for.
    #[error("no place to follow another process")]
    Workers,
    /// A map could not be used.
    #[error("using a BPF map")]
    MapUse(#[from] aya::maps::MapError),
}

/// How long attaching to one function may take before tracing begins: on a host whose CPUs are all
/// taken the kernel needs seconds, and without it there is nothing to trace.
pub(super) const AT_START: Duration = Duration::from_secs(10);

/// The loaded object and its links.
pub(crate) struct Probes {
    pub(super) ebpf: Ebpf,
    pub(super) ring: Option<RingBuf<MapData>>,
    pub(super) log: Option<EbpfLogger<Stderr>>,
    /// How each program came out, nginx's once one nginx was attached.
    pub(super) outcome: HashMap<&'static str, Outcome>,
    /// The program files that are nginx, and what is attached in them.
    pub(super) targets: Targets,
    /// How long attaching to one function may take.
    pub(super) patience: Duration,
    /// Kinds of places and programs that are not to be used.
    pub(super) without: Vec<String>,
    pub(super) names: KernelNames,
    pub(super) missing_members: Vec<String>,
    /// See [`tracer_ebpf::abi::worker_places`].
    pub(super) seed: u32,
}

impl Probes {
    /// From now on there are events to read, which attaching holds up.
    pub(crate) fn begin_tracing(&mut self) {
        self.patience = keeper::PATIENCE;
    }
}

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probes")
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}
