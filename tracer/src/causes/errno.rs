//! Names of Linux errnos, as `errno -l` prints them (asm-generic numbering: x86-64, arm64).

/// `EPERM`.
pub(super) const EPERM: u32 = 1;
/// `ENOENT`.
pub(super) const ENOENT: u32 = 2;
/// `EAGAIN`.
pub(super) const EAGAIN: u32 = 11;
/// `EACCES`.
pub(super) const EACCES: u32 = 13;
/// `ENOTDIR`.
pub(super) const ENOTDIR: u32 = 20;
/// `EINVAL`.
pub(super) const EINVAL: u32 = 22;
/// `ENFILE`: the host's limit.
pub(super) const ENFILE: u32 = 23;
/// `EMFILE`: the process's limit.
pub(super) const EMFILE: u32 = 24;
/// `ENOSPC`.
pub(super) const ENOSPC: u32 = 28;
/// `EROFS`.
pub(super) const EROFS: u32 = 30;
/// `EDQUOT`: the user's quota.
pub(super) const EDQUOT: u32 = 122;
/// `EPIPE`.
pub(super) const EPIPE: u32 = 32;
/// `ELOOP`.
pub(super) const ELOOP: u32 = 40;
/// `EPROTOTYPE`.
pub(super) const EPROTOTYPE: u32 = 91;
/// `ENOPROTOOPT`.
pub(super) const ENOPROTOOPT: u32 = 92;
/// `EAFNOSUPPORT`.
pub(super) const EAFNOSUPPORT: u32 = 97;
/// `EADDRINUSE`.
pub(super) const EADDRINUSE: u32 = 98;
/// `EADDRNOTAVAIL`.
pub(super) const EADDRNOTAVAIL: u32 = 99;
/// `ENETUNREACH`.
pub(super) const ENETUNREACH: u32 = 101;
/// `ECONNRESET`.
pub(super) const ECONNRESET: u32 = 104;
/// `ETIMEDOUT`.
pub(super) const ETIMEDOUT: u32 = 110;
/// `ECONNREFUSED`.
pub(super) const ECONNREFUSED: u32 = 111;
/// `EHOSTUNREACH`.
pub(super) const EHOSTUNREACH: u32 = 113;

/// The name of a positive errno; a number without a name here is `errno N`.
#[must_use]
pub(crate) fn name(errno: u32) -> String {
    let known = match errno {
        EPERM => "EPERM",
        ENOENT => "ENOENT",
        4 => "EINTR",
        5 => "EIO",
        9 => "EBADF",
        EAGAIN => "EAGAIN",
        12 => "ENOMEM",
        EACCES => "EACCES",
        14 => "EFAULT",
        16 => "EBUSY",
        17 => "EEXIST",
        19 => "ENODEV",
        ENOTDIR => "ENOTDIR",
        EINVAL => "EINVAL",
        ENFILE => "ENFILE",
        EMFILE => "EMFILE",
        ENOSPC => "ENOSPC",
        EROFS => "EROFS",
        EDQUOT => "EDQUOT",
        EPIPE => "EPIPE",
        36 => "ENAMETOOLONG",
        38 => "ENOSYS",
        ELOOP => "ELOOP",
        64 => "ENONET",
        71 => "EPROTO",
        88 => "ENOTSOCK",
        90 => "EMSGSIZE",
        EPROTOTYPE => "EPROTOTYPE",
        ENOPROTOOPT => "ENOPROTOOPT",
        93 => "EPROTONOSUPPORT",
        94 => "ESOCKTNOSUPPORT",
        95 => "EOPNOTSUPP",
        EAFNOSUPPORT => "EAFNOSUPPORT",
        EADDRINUSE => "EADDRINUSE",
        EADDRNOTAVAIL => "EADDRNOTAVAIL",
        100 => "ENETDOWN",
        ENETUNREACH => "ENETUNREACH",
        102 => "ENETRESET",
        103 => "ECONNABORTED",
        ECONNRESET => "ECONNRESET",
        105 => "ENOBUFS",
        106 => "EISCONN",
        107 => "ENOTCONN",
        ETIMEDOUT => "ETIMEDOUT",
        ECONNREFUSED => "ECONNREFUSED",
        112 => "EHOSTDOWN",
        EHOSTUNREACH => "EHOSTUNREACH",
        114 => "EALREADY",
        115 => "EINPROGRESS",
        other => return format!("errno {other}"),
    };
    known.to_owned()
}
