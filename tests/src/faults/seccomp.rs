//! A seccomp filter that makes every connect() of nginx fail before the kernel's network code.

use std::os::unix::process::CommandExt;
use std::process::Command;

const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Makes connect() fail with `errno` in `command` and its children.
pub fn fail_connect(command: &mut Command, errno: i32) {
    let code = [
        // The number of the system call is the first word of struct seccomp_data.
        (LOAD_WORD, 0, 0, 0),
        (JUMP_EQUAL, 0, 1, libc::SYS_connect as u32),
        (RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        (RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
    .map(|(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k });
    // SAFETY: between fork and exec one system call is made; the filter's length and pointer
    // describe `code`, which the closure owns.
    unsafe {
        command.pre_exec(move || {
            let filter = libc::sock_fprog {
                len: code.len() as u16,
                filter: code.as_ptr().cast_mut(),
            };
            match libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const filter,
            ) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}
