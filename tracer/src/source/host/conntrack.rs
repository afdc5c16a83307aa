//! What an address is translated to (DNAT), by the connections that a network namespace tracks.
//!
//! Asked of `/proc/PID/net/nf_conntrack` (net/netfilter/nf_conntrack_standalone.c), which needs no
//! privilege to change anything, unlike netlink; a kernel without `CONFIG_NF_CONNTRACK_PROCFS` has
//! none. A line has both directions of a connection: `… src=C dst=SERVICE sport=… dport=80
//! [UNREPLIED] src=POD dst=C sport=8080 dport=… …`.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use crate::process;

/// Bytes that are read of a table: some thousand connections.
const READ: u64 = 1 << 20;

/// Where tracked connections to an address led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Led {
    /// Nowhere else, as far as is known.
    Straight,
    /// To this end.
    To(SocketAddr),
    /// A service of several backends is balanced among them: which one a connection met is not
    /// known.
    Several,
}

/// Where tracked connections to an address led, in the namespace of a process.
pub(super) fn translation(pid: u32, remote: SocketAddr) -> Led {
    match process::read_start(format!("/proc/{pid}/net/nf_conntrack"), READ) {
        Ok(table) => led(&String::from_utf8_lossy(&table), remote),
        Err(_) => Led::Straight,
    }
}

/// Of several ends the one that has not answered, if it is one: what is asked about failed.
fn led(table: &str, remote: SocketAddr) -> Led {
    let (mut all, mut silent) = (HashSet::new(), HashSet::new());
    for line in table.lines() {
        let Some(end) = led_to(line, remote) else {
            continue;
        };
        all.insert(end);
        if line.contains("[UNREPLIED]") {
            silent.insert(end);
        }
    }
    let only = |ends: &HashSet<SocketAddr>| {
        let first = ends.iter().next().copied();
        first.filter(|_| ends.len() == 1)
    };
    match (only(&silent).or_else(|| only(&all)), all.is_empty()) {
        (Some(end), _) => Led::To(end),
        (None, true) => Led::Straight,
        (None, false) => Led::Several,
    }
}

/// Returns the translated peer of a tracked connection to `remote`, if it is another address.
fn led_to(line: &str, remote: SocketAddr) -> Option<SocketAddr> {
    let mut words = line.split_ascii_whitespace();
    if !words.any(|word| word == "tcp") {
        return None;
    }
    let mut value = |key: &str| words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let asked: IpAddr = value("dst")?.parse().ok()?;
    let asked_port: u16 = value("dport")?.parse().ok()?;
    if (asked, asked_port) != (remote.ip(), remote.port()) {
        return None;
    }
    let answers: IpAddr = value("src")?.parse().ok()?;
    let end = SocketAddr::new(answers, value("sport")?.parse().ok()?);
    (end != remote).then_some(end)
}

/// See [`super::read_proc`].
pub(super) fn read(text: &str) {
    let remote = SocketAddr::from(([10, 96, 0, 10], 80));
    let _ = text.lines().filter_map(|line| led_to(line, remote)).count();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answering_end_is_where_it_led() {
        let remote: SocketAddr = "10.96.0.10:80".parse().unwrap();
        let translated = "ipv4     2 tcp      6 119 SYN_SENT src=10.0.0.1 dst=10.96.0.10 sport=40000 dport=80 [UNREPLIED] \
                          src=10.88.0.2 dst=10.0.0.1 sport=8080 dport=40000 mark=0 use=1";
        assert_eq!(led_to(translated, remote), "10.88.0.2:8080".parse().ok());
        let plain = "ipv4     2 tcp      6 9 CLOSE src=10.0.0.1 dst=10.96.0.10 sport=40000 dport=80 src=10.96.0.10 \
                     dst=10.0.0.1 sport=80 dport=40000 mark=0 use=1";
        assert_eq!(led_to(plain, remote), None);
        assert_eq!(led_to(translated, "10.96.0.10:81".parse().unwrap()), None);
        assert_eq!(led_to("ipv4 2 udp 17 src=", remote), None);
        assert_eq!(led_to("tcp dst=10.96.0.10 dport=80", remote), None);
    }

    #[test]
    fn of_several_ends_the_silent_one_is_meant() {
        let line = |end: &str, silent: &str| {
            format!(
                "ipv4 2 tcp 6 9 X src=10.0.0.1 dst=10.96.0.10 sport=4 dport=80 {silent} src={end} dst=10.0.0.1 sport=8080 dport=4\n"
            )
        };
        let remote: SocketAddr = "10.96.0.10:80".parse().unwrap();
        let to = |end: &str| Led::To(format!("{end}:8080").parse().unwrap());
        let (a, b) = (line("10.88.0.2", ""), line("10.88.0.3", ""));
        let silent = line("10.88.0.3", "[UNREPLIED]");
        assert_eq!(led("", remote), Led::Straight);
        assert_eq!(led(&a.repeat(2), remote), to("10.88.0.2"));
        assert_eq!(led(&format!("{a}{b}"), remote), Led::Several);
        assert_eq!(led(&format!("{a}{b}{silent}"), remote), to("10.88.0.3"));
    }
}
