//! Where an `ngx_http_request_t` keeps `headers_out.status`: what its client gets.
//!
//! The member moves between versions and builds. It is read off `ngx_http_send_header()`, which puts `r->err_status`
//! there and clears the status line beside it (src/http/ngx_http_core_module.c, the same since 0.9). An unknown
//! encoding gives `None`, never a guess. Only x86-64 is decoded.

/// The function, and how much of it is read: the assignment comes well within its first bytes.
pub(super) const SENDS: (&str, usize) = ("ngx_http_send_header", 96);
/// The structure is smaller than this.
const LIMIT: u16 = 4096;

/// The offset of `headers_out.status`, by the function's code:
/// `mov rax, [rdi + err_status]; test rax, rax; je …; mov [rdi + status], rax; mov qword [rdi + status + 8], 0`
pub(super) fn decode(code: &[u8]) -> Option<u16> {
    if cfg!(not(target_arch = "x86_64")) {
        return None;
    }
    let mut found = code.windows(30).filter_map(|code| {
        let (load, rest) = code.split_at(7);
        let (test, rest) = rest.split_at(5);
        let (store, clear) = rest.split_at(7);
        let (status, length) = (displacement(store)?, displacement(clear)?);
        let fits = load.starts_with(&[0x48, 0x8b, 0x87])
            && test.starts_with(&[0x48, 0x85, 0xc0, 0x74])
            && store.starts_with(&[0x48, 0x89, 0x87])
            && clear.starts_with(&[0x48, 0xc7, 0x87])
            && clear[7..11] == [0; 4]
            && length == status + 8;
        fits.then_some(status).filter(|status| *status < LIMIT)
    });
    found.next()
}

/// The 32 bits after an opcode of three bytes.
fn displacement(instruction: &[u8]) -> Option<u16> {
    let number = i32::from_le_bytes(*instruction.get(3..)?.first_chunk()?);
    u16::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of nginx 1.22.1's in Debian 12.
    const SEND_HEADER: [u8; 48] = [
        0x80, 0xbf, 0x1a, 0x05, 0x00, 0x00, 0x00, 0x78, 0x37, 0xf6, 0x87, 0x1b, 0x05, 0x00, 0x00,
        0x04, 0x75, 0x31, 0x48, 0x8b, 0x87, 0xe8, 0x04, 0x00, 0x00, 0x48, 0x85, 0xc0, 0x74, 0x12,
        0x48, 0x89, 0x87, 0x88, 0x02, 0x00, 0x00, 0x48, 0xc7, 0x87, 0x90, 0x02, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00,
    ];

    #[test]
    fn the_assignment_tells_the_member() {
        assert_eq!(decode(&SEND_HEADER), Some(0x288));
    }

    #[test]
    fn anything_else_is_no_guess() {
        assert_eq!(decode(&[]), None);
        for at in [18, 28, 32, 37, 40, 44] {
            let mut other = SEND_HEADER;
            other[at] ^= 1;
            assert_eq!(decode(&other), None, "{at}");
        }
    }
}
