//! `int security_socket_connect(struct socket *sock, struct sockaddr *address, int addrlen)`: what
//! the security modules together say to nginx's connect(). Without it a denial is inferred from
//! the absence of any route lookup.

use aya_ebpf::{
    macros::{fexit, kretprobe},
    programs::{FExitContext, RetProbeContext},
};

use crate::task;

/// The parameters of the function: what it returned follows them.
const PARAMETERS: usize = 3;

/// The modules have spoken.
#[fexit]
pub fn security(ctx: FExitContext) -> i32 {
    said(ctx.arg(PARAMETERS))
}

/// The same.
#[kretprobe]
pub fn security_probe(ctx: RetProbeContext) -> i32 {
    said(ctx.ret::<u64>() as i32)
}

#[inline(always)]
fn said(verdict: i32) -> i32 {
    if verdict < 0
        && let Some(worker) = task::connecting_worker()
    {
        worker.routes.security = verdict.unsigned_abs() as u8;
    }
    0
}
