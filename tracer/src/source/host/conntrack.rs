//! What an address is translated to (DNAT), by the connections that a network namespace tracks.
//!
//! Asked of `/proc/PID/net/nf_conntrack` (net/netfilter/nf_conntrack_standalone.c), which needs no privilege to change
//! anything, unlike netlink; a kernel without `CONFIG_NF_CONNTRACK_PROCFS` has none. A line has both directions of a
//! connection: `… src=C dst=SERVICE sport=… dport=80 [UNREPLIED] src=POD dst=C sport=8080 dport=… …`.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use crate::process;

/// Bytes that are read of a table: some thousand connections.
const READ: u64 = 1 << 20;

/// Where tracked connections to an address led, in the namespace of a process. `None`: nowhere else, or to several.
pub(super) fn translation(pid: u32, remote: SocketAddr) -> Option<SocketAddr> {
    let table = process::read_start(format!("/proc/{pid}/net/nf_conntrack"), READ).ok()?;
    let table = String::from_utf8_lossy(&table);
    let led = table.lines().filter_map(|line| led_to(line, remote));
    let led: HashSet<SocketAddr> = led.collect();
    // A service of several backends is balanced among them: which one a connection met is not known.
    let mut led = led.into_iter();
    led.next().filter(|_| led.next().is_none())
}

/// The other end of a tracked connection to `remote`, if that is another.
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
}
