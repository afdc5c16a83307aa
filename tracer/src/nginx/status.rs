//! Where an `ngx_http_request_t` keeps `headers_out.status`: what its client gets.
//!
//! The member moves between versions and builds. It is read off `ngx_http_send_header()`, which
//! puts `r->err_status` there and clears the status line next to it
//! (src/http/ngx_http_core_module.c, the same since 0.9). An unknown encoding yields `None`, never
//! a guess. Only x86-64 is decoded.

/// The function, and how much of it is read: without optimisation it is as long.
pub(super) const SENDS: (&str, usize) = ("ngx_http_send_header", 256);
/// The structure is smaller than this.
const LIMIT: u16 = 4096;
/// More instructions than the assignment takes.
const STEPS: usize = 8;

/// The offset of `headers_out.status`, by the function's code: `if (r->err_status) {
/// r->headers_out.status = r->err_status; r->headers_out.status_line.len = 0; }`
pub(super) fn decode(code: &[u8]) -> Option<u16> {
    if cfg!(not(target_arch = "x86_64")) {
        return None;
    }
    (0..code.len()).find_map(|at| assigned(code, at))
}

/// What a register holds, as far as it matters.
#[derive(Clone, Copy, PartialEq)]
enum Held {
    Other,
    Request,
    ErrStatus,
    Zero,
}

/// The same, where the condition begins here: `mov R, [REQUEST + err_status]; test R, R; je END`,
/// or `cmp qword [REQUEST + err_status], 0; je END`.
fn assigned(code: &[u8], at: usize) -> Option<u16> {
    let mut held = [Held::Other; 8];
    let (step, length) = Step::at(&code[at..])?;
    let rest = &code[at + length..];
    let (request, err_status, rest) = match step {
        Step::Load(tested, request, err_status) => {
            let both = 0xc0 | tested << 3 | tested;
            held[usize::from(request)] = Held::Request;
            held[usize::from(tested)] = Held::ErrStatus;
            let rest = rest.strip_prefix(&[0x48, 0x85, both])?;
            (request, err_status, rest)
        }
        Step::IsZero(request, err_status) => {
            held[usize::from(request)] = Held::Request;
            (request, err_status, rest)
        }
        _ => return None,
    };
    let (length, block) = match rest {
        [0x74, length, block @ ..] => (usize::from(*length), block),
        [0x0f, 0x84, length, 0, 0, 0, block @ ..] => (usize::from(*length), block),
        _ => return None,
    };
    // Without optimisation the request is read from the frame each time.
    let frame = at.checked_sub(4).and_then(|at| Step::at(&code[at..]));
    let frame = match frame {
        Some((Step::FromFrame(into, slot), 4)) if into == request => Some(slot),
        _ => None,
    };
    assignment(block.get(..length)?, held, frame, err_status)
}

/// The member that a block assigns `err_status` to, if that is all that it does, but for clearing
/// the next one.
fn assignment(
    mut block: &[u8],
    mut held: [Held; 8],
    frame: Option<u8>,
    err_status: u16,
) -> Option<u16> {
    let (mut status, mut cleared) = (None, None);
    for _ in 0..STEPS {
        if block.is_empty() {
            break;
        }
        let (step, length) = Step::at(block)?;
        block = &block[length..];
        let mut hold = |register: u8, what| held[usize::from(register)] = what;
        match step {
            Step::FromFrame(into, slot) if Some(slot) == frame => hold(into, Held::Request),
            Step::Zero(into) => hold(into, Held::Zero),
            Step::Load(into, from, member)
                if member == err_status && held[usize::from(from)] == Held::Request =>
            {
                held[usize::from(into)] = Held::ErrStatus;
            }
            Step::Store(from, to, member) if held[usize::from(to)] == Held::Request => {
                let stored = match held[usize::from(from)] {
                    Held::ErrStatus => &mut status,
                    Held::Zero => &mut cleared,
                    _ => return None,
                };
                if stored.replace(member).is_some() {
                    return None;
                }
            }
            Step::Clear(to, member) if held[usize::from(to)] == Held::Request => {
                if cleared.replace(member).is_some() {
                    return None;
                }
            }
            _ => return None,
        }
    }
    let status = status.filter(|status| block.is_empty() && *status < LIMIT)?;
    (cleared == Some(status + 8)).then_some(status)
}

/// An instruction that the assignment may be made of; registers by number, members by offset.
enum Step {
    /// `mov R, [rbp + SLOT]`
    FromFrame(u8, u8),
    /// `mov R, [R + MEMBER]`
    Load(u8, u8, u16),
    /// `mov [R + MEMBER], R`
    Store(u8, u8, u16),
    /// `mov qword [R + MEMBER], 0`, `and qword [R + MEMBER], 0`
    Clear(u8, u16),
    /// `cmp qword [R + MEMBER], 0`
    IsZero(u8, u16),
    /// `xor R, R`
    Zero(u8),
}

impl Step {
    /// The instruction that these bytes begin with, and its length.
    fn at(bytes: &[u8]) -> Option<(Self, usize)> {
        // All members lie further than 127 bytes: a displacement has four. No base is rsp.
        let member = |operands: u8, at: [u8; 4]| {
            let is_far = operands & 0xc0 == 0x80 && operands & 7 != 4;
            let member = u16::try_from(u32::from_le_bytes(at)).ok()?;
            is_far.then_some((operands >> 3 & 7, operands & 7, member))
        };
        Some(match *bytes {
            [0x31, both, ..] if both >= 0xc0 && both >> 3 & 7 == both & 7 => {
                (Self::Zero(both & 7), 2)
            }
            [0x48, 0x8b, operands, slot, ..] if operands & 0xc7 == 0x45 => {
                (Self::FromFrame(operands >> 3 & 7, slot), 4)
            }
            [0x48, 0x8b, operands, a, b, c, d, ..] => {
                let (into, from, member) = member(operands, [a, b, c, d])?;
                (Self::Load(into, from, member), 7)
            }
            [0x48, 0x89, operands, a, b, c, d, ..] => {
                let (from, to, member) = member(operands, [a, b, c, d])?;
                (Self::Store(from, to, member), 7)
            }
            [0x48, 0xc7, operands, a, b, c, d, 0, 0, 0, 0, ..] => {
                let (0, to, member) = member(operands, [a, b, c, d])? else {
                    return None;
                };
                (Self::Clear(to, member), 11)
            }
            [0x48, 0x83, operands, a, b, c, d, 0, ..] => match member(operands, [a, b, c, d])? {
                (4, to, member) => (Self::Clear(to, member), 8),
                (7, from, member) => (Self::IsZero(from, member), 8),
                _ => return None,
            },
            _ => return None,
        })
    }
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
    /// What gcc 12 makes of the assignment in 1.22.1 with `-Os`.
    const SMALL: [u8; 28] = [
        0x48, 0x8b, 0x87, 0xd0, 0x04, 0x00, 0x00, 0x48, 0x85, 0xc0, 0x74, 0x10, 0x48, 0x89, 0x87,
        0x88, 0x02, 0x00, 0x00, 0x31, 0xc0, 0x48, 0x89, 0x87, 0x90, 0x02, 0x00, 0x00,
    ];
    /// With `-O0`.
    const PLAIN: [u8; 53] = [
        0x48, 0x8b, 0x45, 0xf8, 0x48, 0x8b, 0x80, 0xd0, 0x04, 0x00, 0x00, 0x48, 0x85, 0xc0, 0x74,
        0x25, 0x48, 0x8b, 0x45, 0xf8, 0x48, 0x8b, 0x90, 0xd0, 0x04, 0x00, 0x00, 0x48, 0x8b, 0x45,
        0xf8, 0x48, 0x89, 0x90, 0x88, 0x02, 0x00, 0x00, 0x48, 0x8b, 0x45, 0xf8, 0x48, 0xc7, 0x80,
        0x90, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ];
    /// What clang 14 makes of it with `-O0`.
    const CLANG: [u8; 55] = [
        0x48, 0x8b, 0x45, 0xf0, 0x48, 0x83, 0xb8, 0xd0, 0x04, 0x00, 0x00, 0x00, 0x0f, 0x84, 0x25,
        0x00, 0x00, 0x00, 0x48, 0x8b, 0x45, 0xf0, 0x48, 0x8b, 0x88, 0xd0, 0x04, 0x00, 0x00, 0x48,
        0x8b, 0x45, 0xf0, 0x48, 0x89, 0x88, 0x88, 0x02, 0x00, 0x00, 0x48, 0x8b, 0x45, 0xf0, 0x48,
        0xc7, 0x80, 0x90, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    ];
    const ALL: [&[u8]; 4] = [&SEND_HEADER, &SMALL, &PLAIN, &CLANG];

    #[test]
    fn the_assignment_tells_the_member() {
        for code in ALL {
            assert_eq!(decode(code), Some(0x288));
        }
    }

    #[test]
    fn anything_else_is_no_guess() {
        assert_eq!(decode(&[]), None);
        for at in [18, 28, 32, 37, 40, 44] {
            let mut other = SEND_HEADER;
            other[at] ^= 1;
            assert_eq!(decode(&other), None, "{at}");
        }
        // Another place to clear, another register, another jump, another slot of the frame.
        for at in [2, 7, 9, 10, 11, 12, 14, 15, 19, 20, 23, 24] {
            let mut other = SMALL;
            other[at] ^= 1;
            assert_eq!(decode(&other), None, "{at}");
        }
        for at in [3, 7, 15, 19, 23, 30, 34, 41, 45, 49] {
            let mut other = PLAIN;
            other[at] ^= 1;
            assert_eq!(decode(&other), None, "{at}");
        }
    }

    #[test]
    fn code_that_ends_early_tells_nothing() {
        for code in ALL {
            for length in 0..code.len() {
                assert_eq!(decode(&code[..length]), None);
            }
        }
    }
}
