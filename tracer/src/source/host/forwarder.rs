//! Programs that accept connections only to forward them: what they close or reset, the backend
//! behind them did, or is not there. Where they forward to is read off their arguments.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::{
    event::fact::{Forwarder, Owner},
    process::foreign,
};

/// Names as `comm` has them, which ends after 15 bytes.
const NAMES: [&str; 9] = [
    "docker-proxy",
    "socat",
    "systemd-socket-",
    "rootlessport",
    "rinetd",
    "redir",
    "sslh",
    "stunnel",
    "stunnel4",
];
const ARGUMENTS: u64 = 16 << 10;
/// Of a target so much is shown.
const SHOWN: usize = 256;

/// What this process forwards to; `None` for a program that is not known to forward.
pub(super) fn of(owner: &Owner) -> Option<Forwarder> {
    if !NAMES.contains(&owner.name.as_str()) {
        return None;
    }
    let arguments = foreign::proc_file(owner.pid, "cmdline", ARGUMENTS).ok()?;
    let arguments: Vec<String> = arguments
        .split(|byte| *byte == 0)
        .filter(|argument| !argument.is_empty())
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect();
    let target = target(&arguments);
    // `systemd-socket-activate` has the same beginning, before it becomes what it starts.
    if target.is_none() && owner.name == "systemd-socket-" {
        return None;
    }
    Some(Forwarder {
        address: target.as_deref().and_then(address),
        to: target.map(|mut to| {
            to.truncate(to.floor_char_boundary(SHOWN));
            to
        }),
        pid: owner.pid,
        name: owner.name.clone(),
        listens: None,
    })
}

/// See [`super::read_proc`].
pub(super) fn read(text: &str) {
    let arguments: Vec<String> = text.split('\0').map(str::to_owned).collect();
    let _ = target(&arguments).as_deref().and_then(address);
}

fn target(arguments: &[String]) -> Option<String> {
    let program = |argument: &String| argument.rsplit('/').next().map(str::to_owned);
    let value = |option: &str| {
        let mut rest = arguments.iter().skip_while(|argument| *argument != option);
        rest.nth(1).cloned()
    };
    match program(arguments.first()?)?.as_str() {
        "docker-proxy" => {
            let (ip, port) = (value("-container-ip")?, value("-container-port")?);
            Some(match ip.contains(':') {
                true => format!("[{ip}]:{port}"),
                false => format!("{ip}:{port}"),
            })
        }
        "socat" => arguments.iter().skip(1).rev().find_map(|one| connects(one)),
        _ => arguments
            .iter()
            .any(|argument| program(argument).as_deref() == Some("systemd-socket-proxyd"))
            .then(|| arguments.last().cloned())?
            .filter(|last| last.starts_with('/') != last.contains(':')),
    }
}

/// The end that socat connects to, if this is one: `TCP4:10.0.0.2:80,nodelay`,
/// `UNIX-CONNECT:/run/app.sock`.
fn connects(address: &str) -> Option<String> {
    let (kind, rest) = address.split_once(':')?;
    let end = rest.split(',').next()?;
    match kind.to_ascii_uppercase().as_str() {
        "TCP" | "TCP4" | "TCP6" | "TCP-CONNECT" | "TCP4-CONNECT" | "TCP6-CONNECT" | "OPENSSL"
        | "OPENSSL-CONNECT" | "SSL" => Some(end.to_owned()),
        "UNIX" | "UNIX-CONNECT" | "UNIX-CLIENT" => Some(format!("unix:{end}")),
        _ => None,
    }
}

fn address(target: &str) -> Option<SocketAddr> {
    let (host, port) = target.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let ip: IpAddr = match host {
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => host.parse().ok()?,
    };
    Some(SocketAddr::new(ip, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(command: &str) -> Option<(String, Option<SocketAddr>)> {
        let arguments: Vec<String> = command.split(' ').map(str::to_owned).collect();
        let target = target(&arguments)?;
        let address = address(&target);
        Some((target, address))
    }

    #[test]
    fn where_a_forwarder_leads_is_read_off_its_arguments() {
        for (command, expected) in [
            (
                "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80",
                "172.17.0.2:80",
            ),
            (
                "socat TCP-LISTEN:80,fork,reuseaddr TCP4:10.0.0.2:8080,nodelay",
                "10.0.0.2:8080",
            ),
            ("socat tcp:127.0.0.1:9 tcp-listen:80", "127.0.0.1:9"),
            (
                "/lib/systemd/systemd-socket-proxyd --exit-idle-time=30s localhost:3000",
                "localhost:3000",
            ),
        ] {
            let (to, address) = forwarded(command).unwrap();
            assert_eq!(to, expected);
            assert!(address.is_some(), "{command}");
        }
        let unix = "socat TCP-LISTEN:80,fork UNIX-CONNECT:/run/app.sock";
        assert_eq!(
            forwarded(unix),
            Some(("unix:/run/app.sock".to_owned(), None))
        );
        assert_eq!(forwarded("socat TCP-LISTEN:80 EXEC:/bin/cat"), None);
        assert_eq!(forwarded("systemd-socket-activate -l 80 /bin/app"), None);
    }
}
