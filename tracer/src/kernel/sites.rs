//! Where a kernel that gives no reasons for drops (before 5.17) makes those that matter.

use std::{collections::HashMap, fs};

use tracer_ebpf::abi::{DROP_SITES, DropSite, own_reason};

use super::Btf;

/// Each of these frees packets for this reason alone, or for its kin: by netfilter's verdict, or as
/// a neighbour was not found.
const FUNCTIONS: [(&str, u32); DROP_SITES] = [
    ("nf_hook_slow", own_reason::NETFILTER_DROP),
    ("arp_error_report", own_reason::NEIGH_FAILED),
    ("ndisc_error_report", own_reason::NEIGH_FAILED),
];

/// The sites of the running kernel; empty ones where it gives reasons, or hides its addresses.
#[must_use]
pub(crate) fn drop_sites(btf: &Btf) -> [DropSite; DROP_SITES] {
    let none = [DropSite::default(); DROP_SITES];
    if btf.tracepoint_arguments("kfree_skb") != Some(2) {
        return none;
    }
    match fs::read_to_string("/proc/kallsyms") {
        Ok(symbols) => find(&symbols),
        Err(_) => none,
    }
}

/// A function ends where the next symbol begins.
fn find(symbols: &str) -> [DropSite; DROP_SITES] {
    let text: Vec<(u64, &str)> = symbols.lines().filter_map(symbol).collect();
    let starts: HashMap<&str, u64> = text.iter().map(|&(at, name)| (name, at)).collect();
    FUNCTIONS.map(|(function, reason)| {
        let Some(&start) = starts.get(function).filter(|start| **start != 0) else {
            return DropSite::default();
        };
        let end = text
            .iter()
            .map(|&(at, _)| at)
            .filter(|&at| at > start)
            .min()
            .unwrap_or(start);
        DropSite {
            start,
            end,
            reason,
            padding: 0,
        }
    })
}

/// `ffffffff81a0b0c0 T nf_hook_slow`: functions of the kernel's own image.
fn symbol(line: &str) -> Option<(u64, &str)> {
    let mut words = line.split_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    let is_text = matches!(words.next()?, "t" | "T");
    let name = words.next()?;
    (is_text && words.next().is_none()).then_some((address, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_ends_where_the_next_begins() {
        let symbols = "ffffffff81000300 T nf_hook_slow\nffffffff81000100 t arp_error_report\n\
                       ffffffff81000380 T nf_after\nffffffff81000200 t between\n\
                       ffffffffc0000310 t in_a_module\t[nf_tables]\n";
        let [netfilter, arp, ndisc] = find(symbols);
        assert_eq!(
            (netfilter.start, netfilter.end),
            (0xffff_ffff_8100_0300, 0xffff_ffff_8100_0380)
        );
        assert_eq!(arp.end, 0xffff_ffff_8100_0200);
        assert_eq!(ndisc.end, 0);
    }

    #[test]
    fn hidden_addresses_are_no_sites() {
        let hidden = "0000000000000000 T nf_hook_slow\n0000000000000000 T nf_after\n";
        assert!(find(hidden).iter().all(|site| site.end == 0));
    }
}
