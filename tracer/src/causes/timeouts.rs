//! Nobody answers: `syn-timeout`.

use super::{
    cause::{ByHand, Cause},
    drops::telling_drops,
    finding::Finding,
    hook, logged,
    scene::Scene,
    wording,
};

pub(super) static SYN_TIMEOUT: Cause = Cause {
    id: "syn-timeout",
    title: "the SYNs were not answered, and nothing on this host dropped them",
    split: "SYNs were sent again and again, no RST, ICMP error or drop was seen, the address is not this host's own \
            (there, a full accept queue is silent too), and the next hop answers on the link.",
    log_lines: &[
        "upstream timed out (110: Connection timed out) while connecting to upstream",
        "connect() failed (110: Connection timed out) while connecting to upstream",
    ],
    logged: &[
        logged::SILENT.beyond_loopback(),
        logged::GAVE_UP.beyond_loopback(),
    ],
    by_hand: ByHand {
        command: "sudo tcpdump -ni any 'host IP and port PORT and tcp[tcpflags] & tcp-syn != 0'",
        shows: "SYNs are sent again and nothing answers them",
    },
    client_gets: "504, or 502 where the kernel gives up before nginx's timer",
    fix: "Is the peer up, does its firewall (or a cloud's security group) drop, does the way back exist? tcpdump on \
          the peer shows which half is lost.",
    matches: Some(syn_timeout),
};

fn syn_timeout(scene: &Scene<'_>) -> Option<Finding> {
    let (c, remote) = scene.unanswered()?;
    let local = scene.is_local(remote);
    if telling_drops(c).next().is_some()
        || local == Some(true)
        || scene.full_listener().is_some()
        || scene.silent_neighbor().is_some()
    {
        return None;
    }
    let waited = wording::duration(c.closed.since(c.start));
    let sent = wording::count(u64::from(c.syn_retransmits) + 1, "SYN");
    let summary =
        format!("{sent} to {remote} in {waited}, no answer; nothing on this host dropped them");
    let ip = remote.ip();
    let finding = Finding::proven(summary)
        .rests_on_silence_of(
            scene,
            &[
                hook::RETRANSMIT,
                hook::DROP,
                hook::RST_RECEIVED,
                hook::ICMP_RECEIVED,
            ],
        )
        .unless(
            local.is_some(),
            format!("whether {ip} is an address of this host could not be asked"),
        )
        .unless(
            c.syn_retransmits > 0,
            format!(
                "whether a second SYN would have been answered: only one was sent in {waited}; \
                 proxy_connect_timeout is shorter than the first retransmission (1 s)"
            ),
        );
    Some(
        finding
            .advise(format!("is {ip} up, and does a firewall or security group on the way, or on it, drop port {}?", remote.port()))
            .advise(format!("see which half is lost, on {ip}: tcpdump -ni any 'tcp port {} and tcp[13] & 2 != 0'", remote.port()))
            .advise(format!("see from here: ip route get {ip}; ip neigh show {ip}")),
    )
}
