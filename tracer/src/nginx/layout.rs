//! What lies where in an nginx process, beyond what nginx's ABI fixes.
//!
//! Each place is read off a few instructions of a function whose source is known; an unknown
//! encoding gives none, never a guess.

use tracer_ebpf::abi::{Layout, Members};

use super::{binary::Binary, elf::find, errno::errno_offset};

/// The function that counts a connection's requests (src/http/ngx_http_request.c), and how much of
/// it is read: some compilers put all that it calls before into it.
pub(super) const COUNTS: (&str, usize) = ("ngx_http_create_request", 2048);
/// The function that makes every attempt to reach an upstream (src/event/ngx_event_connect.c).
pub(super) const CONNECTS: &str = "ngx_event_connect_peer";
/// Since then a connection to an upstream counts its requests as well
/// (src/http/ngx_http_upstream.c).
const COUNTS_UPSTREAM: [u32; 3] = [1, 15, 3];
/// Where `ngx_connection_t.requests` can lie.
const PLAUSIBLE: std::ops::Range<u64> = 0x80..0x200;

/// The layout of a process that runs this binary; what is not known is 0.
#[must_use]
pub(super) fn layout(pid: u32, binary: &Binary) -> Layout {
    let connect = binary
        .connect
        .and_then(|(address, codes)| Some((binary.in_process(pid, address)?, codes)));
    let (connect, connecting) = connect.unwrap_or_default();
    Layout {
        errno: errno_offset(pid).unwrap_or(0),
        requests: binary.requests,
        status: binary.status,
        connect,
        connecting,
        members: binary.members,
    }
}

/// Where this version, built with these arguments, is expected to have the members that move
/// (src/event/ngx_event_connect.h, src/core/ngx_log.h, src/http/ngx_http_request.h, and those of
/// the forks). [`Members::UNKNOWN`] of a build that was never looked at: its memory shows them all
/// the same.
pub(super) fn expected(version: &str, arguments: &[u8]) -> Members {
    let Some((make, number)) = version.split_once('/') else {
        return Members::UNKNOWN;
    };
    let number = numbers(number);
    let has = |argument: &[u8]| find(arguments, argument).is_some();
    // Each of them brings `pc->ssl` and what goes with it.
    let has_ssl = has(b"--with-compat") || has(b"_ssl_module") || has(b"--with-http_v3_module");
    let upstream = if has(b"--without-http-cache") { 64 } else { 72 };
    let peer_log = match (make, has_ssl) {
        ("Angie", true) if number >= [1, 12, 0] => 160,
        ("Angie", true) if number >= [1, 8, 0] => 152,
        ("Angie", true) if number >= [1, 2, 0] => 136,
        ("Tengine" | "tengine", true) if number >= [3, 2, 0] => 120,
        ("nginx" | "openresty", _) if number >= [1, 9, 0] => {
            let sndbuf = if number >= [1, 31, 3] { 8 } else { 0 };
            sndbuf + if has_ssl { 112 } else { 96 }
        }
        ("freenginx", true) if number >= [1, 25, 4] => 112,
        _ => return Members::UNKNOWN,
    };
    let log_data = match make {
        "Angie" if number >= [1, 12, 0] => 32,
        "freenginx" if number >= [1, 27, 2] => 32,
        _ => 40,
    };
    Members {
        peer_log,
        log_data,
        upstream,
        state: 0,
    }
}

/// The first three parts of a version's number.
fn numbers(number: &str) -> [u32; 3] {
    let mut parts = number.split(['.', '-']).map_while(|part| part.parse().ok());
    [0; 3].map(|absent: u32| parts.next().unwrap_or(absent))
}

/// Whether this version counts the requests of connections to upstreams. Forks but Angie, which
/// began later, go by nginx's numbers; of others it is not known.
pub(super) fn counts_upstream_requests(version: &str) -> bool {
    let Some((name, number)) = version.split_once('/') else {
        return false;
    };
    let number = numbers(number);
    match name {
        "Angie" => true,
        "nginx" | "openresty" | "freenginx" => number >= COUNTS_UPSTREAM,
        _ => false,
    }
}

/// Where an `ngx_connection_t` counts its requests, by the function's code; where that is not
/// known, a request is known by nginx's milliseconds and its tries.
///
/// The one place that is counted up by `c->requests++`: `add qword [reg + disp32], 1` or `inc qword
/// [reg + disp32]`; without optimisation `mov R, [reg + disp32]`, a sum, and `mov [reg + disp32],
/// R`.
pub(super) fn counted(code: &[u8]) -> Option<u64> {
    if cfg!(not(target_arch = "x86_64")) {
        return None;
    }
    let mut places = (0..code.len())
        .filter_map(|at| counted_up(&code[at..]).or_else(|| summed_up(&code[at..])))
        .filter(|place| PLAUSIBLE.contains(place));
    let place = places.next()?;
    places.all(|other| other == place).then_some(place)
}

/// The place that these bytes count up.
fn counted_up(code: &[u8]) -> Option<u64> {
    // REX.W or REX.WB; mod = 10, /0, with a SIB byte only for rsp and r12 themselves.
    let [0x48 | 0x49, opcode, register @ 0x80..=0x87, rest @ ..] = code else {
        return None;
    };
    let rest = match register {
        0x84 => rest.strip_prefix(&[0x24])?,
        _ => rest,
    };
    let (place, rest) = rest.split_first_chunk()?;
    let adds_one = match opcode {
        0x83 => rest.first() == Some(&1),
        opcode => *opcode == 0xff,
    };
    adds_one.then(|| u32::from_le_bytes(*place).into())
}

/// The same, without optimisation: the pointer is read from the frame each time.
fn summed_up(code: &[u8]) -> Option<u64> {
    // mov R, [rax + PLACE]
    let rest = code.strip_prefix(&[0x48, 0x8b])?;
    let (operands, rest) = rest.split_first()?;
    let (place, rest) = rest.split_first_chunk::<4>()?;
    let rest = match *operands {
        // gcc: lea rdx, [rax + 1]; mov rax, [rbp + SLOT]; mov [rax + PLACE], rdx
        0x80 => {
            let rest = rest.strip_prefix(&[0x48, 0x8d, 0x50, 0x01, 0x48, 0x8b, 0x45])?;
            rest.get(1..)?.strip_prefix(&[0x48, 0x89, 0x90])?
        }
        // clang: add rcx, 1; mov [rax + PLACE], rcx
        0x88 => rest.strip_prefix(&[0x48, 0x83, 0xc1, 0x01, 0x48, 0x89, 0x88])?,
        _ => return None,
    };
    rest.starts_with(place)
        .then(|| u32::from_le_bytes(*place).into())
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_either_encoding() {
        let add = [0x90, 0x48, 0x83, 0x83, 0xd8, 0, 0, 0, 0x01, 0x90];
        assert_eq!(counted(&add), Some(0xd8));
        let inc = [0x49, 0xff, 0x87, 0xe0, 0, 0, 0, 0x90];
        assert_eq!(counted(&inc), Some(0xe0));
        // Of 1.22.1, by gcc 12 with -flto -O3, and with -O0; by clang 14 with -O0.
        let by_r12 = [0x49, 0x83, 0x84, 0x24, 0xd8, 0, 0, 0, 0x01];
        assert_eq!(counted(&by_r12), Some(0xd8));
        let gcc = [
            0x48, 0x8b, 0x45, 0xd8, 0x48, 0x8b, 0x80, 0xd8, 0, 0, 0, 0x48, 0x8d, 0x50, 0x01, 0x48,
            0x8b, 0x45, 0xd8, 0x48, 0x89, 0x90, 0xd8, 0, 0, 0,
        ];
        assert_eq!(counted(&gcc), Some(0xd8));
        let clang = [
            0x48, 0x8b, 0x45, 0xf0, 0x48, 0x8b, 0x88, 0xd8, 0, 0, 0, 0x48, 0x83, 0xc1, 0x01, 0x48,
            0x89, 0x88, 0xd8, 0, 0, 0,
        ];
        assert_eq!(counted(&clang), Some(0xd8));
    }

    #[test]
    fn requests_of_upstream_connections_are_counted_since_1_15_3() {
        for (version, counts) in [
            ("nginx/1.15.2", false),
            ("nginx/1.15.3", true),
            ("nginx/1.30.0", true),
            ("openresty/1.13.6.2", false),
            ("openresty/1.25.3.1", true),
            ("Angie/1.5.1", true),
            ("tengine/2.1.0", false),
            ("nginx", false),
        ] {
            assert_eq!(counts_upstream_requests(version), counts, "{version}");
        }
    }

    /// Measured on builds of these, see `docs/builds.md`.
    #[test]
    fn members_are_where_each_version_and_build_has_them() {
        let ssl = b"--with-compat --with-http_ssl_module".as_slice();
        for (version, arguments, peer_log, log_data, upstream) in [
            ("nginx/1.22.1", ssl, 112, 40, 72),
            ("nginx/1.31.2", ssl, 112, 40, 72),
            ("nginx/1.31.3", ssl, 120, 40, 72),
            ("nginx/1.32.0", ssl, 120, 40, 72),
            ("nginx/1.26.3", b"--with-pcre".as_slice(), 96, 40, 72),
            (
                "nginx/1.26.3",
                b"--with-compat --without-http-cache",
                112,
                40,
                64,
            ),
            (
                "openresty/1.25.3.1",
                b"--with-stream_ssl_module",
                112,
                40,
                72,
            ),
            ("Tengine/3.2.0", ssl, 120, 40, 72),
            ("Angie/1.5.1", ssl, 136, 40, 72),
            ("Angie/1.11.0", ssl, 152, 40, 72),
            ("Angie/1.12.0", ssl, 160, 32, 72),
            ("freenginx/1.27.2", ssl, 112, 32, 72),
        ] {
            let members = expected(version, arguments);
            let found = (members.peer_log, members.log_data, members.upstream);
            assert_eq!(found, (peer_log, log_data, upstream), "{version}");
        }
        for version in ["nginx", "Angie/1.1.0", "Tengine/2.4.1", "other/1.0"] {
            assert_eq!(expected(version, ssl), Members::UNKNOWN, "{version}");
        }
    }

    #[test]
    fn anything_else_is_no_guess() {
        let two = [
            0x48, 0x83, 0x83, 0xd8, 0, 0, 0, 0x01, 0x48, 0x83, 0x83, 0xe0, 0, 0, 0, 0x01,
        ];
        assert_eq!(counted(&two), None);
        let other_place = [
            0x48, 0x8b, 0x88, 0xd8, 0, 0, 0, 0x48, 0x83, 0xc1, 0x01, 0x48, 0x89, 0x88, 0xe0, 0, 0,
            0,
        ];
        assert_eq!(counted(&other_place), None);
        let adds_two = [0x48, 0x83, 0x83, 0xd8, 0, 0, 0, 0x02];
        assert_eq!(counted(&adds_two), None);
        let implausible = [0x48, 0x83, 0x83, 0x08, 0, 0, 0, 0x01];
        assert_eq!(counted(&implausible), None);
        assert_eq!(counted(&[]), None);
    }
}
