//! What an ICMP error says, and the errno that TCP makes of it (`icmp_err_convert`,
//! `icmpv6_err_convert`).

use super::errno::{EACCES, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH};

/// An ICMP or ICMPv6 error about a TCP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Error {
    pub(super) v6: bool,
    pub(super) kind: u8,
    pub(super) code: u8,
}

impl Error {
    /// Its words: `port unreachable (ICMP 3/3)`.
    pub(super) fn words(self) -> String {
        let Self { v6, kind, code } = self;
        let words = match (v6, kind, code) {
            (false, 3, 0) | (true, 1, 0) => "network unreachable",
            (false, 3, 1) => "host unreachable",
            (false, 3, 2) => "protocol unreachable",
            (false, 3, 3) | (true, 1, 4) => "port unreachable",
            (false, 3, 6) => "network unknown",
            (false, 3, 7) => "host unknown",
            (false, 3, 9) => "network prohibited",
            (false, 3, 10) => "host prohibited",
            (false, 3, 13) | (true, 1, 1) => "administratively prohibited",
            (false, 11, _) | (true, 3, _) => "hop limit exceeded on the way",
            (true, 1, 2) => "beyond the scope of the source address",
            (true, 1, 3) => "address unreachable",
            (true, 1, 5) => "source address failed policy",
            (true, 1, 6) => "reject route",
            _ => "error",
        };
        let family = if v6 { "ICMPv6" } else { "ICMP" };
        format!("{words} ({family} {kind}/{code})")
    }

    /// Only a filter says so about a TCP packet: TCP itself answers a closed port with RST.
    pub(super) fn is_a_refusal_by_rule(self) -> bool {
        matches!(
            (self.v6, self.kind, self.code),
            (false, 3, 3 | 9 | 10 | 13) | (true, 1, 1 | 4 | 5)
        )
    }

    /// What a host says of a neighbour that does not answer ARP or ND.
    pub(super) fn is_a_silent_neighbour(self) -> bool {
        matches!(
            (self.v6, self.kind, self.code),
            (false, 3, 1) | (true, 1, 3)
        )
    }

    /// The errno that a connecting socket gets; `None` where TCP goes on trying (such as
    /// "fragmentation needed").
    pub(super) fn errno(self) -> Option<u32> {
        match (self.v6, self.kind, self.code) {
            (false, 3, 0 | 6 | 9 | 11) | (true, 1, 0) => Some(ENETUNREACH),
            (false, 3, 3) | (true, 1, 4) => Some(ECONNREFUSED),
            (false, 3, 1 | 10 | 12..=15) | (false, 11, _) | (true, 1, 2 | 3) | (true, 3, _) => {
                Some(EHOSTUNREACH)
            }
            (true, 1, 1 | 5 | 6) => Some(EACCES),
            (false, 3, 2) => Some(92),
            (false, 3, 5) => Some(95),
            (false, 3, 7) => Some(112),
            (false, 3, 8) => Some(64),
            (false, 12, _) | (true, 4, _) => Some(71),
            _ => None,
        }
    }
}
