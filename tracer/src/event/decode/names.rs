//! What a record's numbers mean on the kernel that wrote it.

use std::collections::HashMap;

use tracer_ebpf::abi::own_reason;

/// Names and sizes of one kernel; they differ between versions.
#[derive(Debug, Clone)]
pub struct KernelNames {
    /// `enum skb_drop_reason`, without its prefix.
    pub drops: HashMap<u32, String>,
    /// `enum sk_rst_reason`, without its prefix.
    pub resets: HashMap<u32, String>,
    /// Bytes of a page, in which memory limits are counted.
    pub page_size: u64,
}

impl Default for KernelNames {
    fn default() -> Self {
        Self {
            drops: HashMap::new(),
            resets: HashMap::new(),
            page_size: 4096,
        }
    }
}

impl KernelNames {
    /// Returns the name of a drop reason; a number that the kernel has no name for stands for
    /// itself.
    #[must_use]
    pub fn drop(&self, reason: u32) -> String {
        let named = self.drops.get(&reason).cloned();
        named
            .or_else(|| own(reason).map(str::to_owned))
            .unwrap_or_else(|| format!("reason {reason}"))
    }

    /// Returns the name of a reset reason, `None` where the kernel has none.
    #[must_use]
    pub fn reset(&self, reason: u32) -> Option<String> {
        self.resets.get(&reason).cloned()
    }
}

/// The names of the reasons that tracer itself gives.
fn own(reason: u32) -> Option<&'static str> {
    match reason {
        own_reason::LISTEN_OVERFLOW => Some("LISTEN_OVERFLOW"),
        own_reason::NETFILTER_DROP => Some("NETFILTER_DROP"),
        own_reason::NEIGH_FAILED => Some("NEIGH_FAILED"),
        _ => None,
    }
}
