//! Where an `ngx_http_request_t` keeps `headers_out.status`: what its client gets.
//!
//! The member moves between versions and builds. It is read off `ngx_http_send_header()`, which puts `r->err_status`
//! there and clears the status line beside it (src/http/ngx_http_core_module.c, the same since 0.9). An unknown
//! encoding gives `None`, never a guess. Only x86-64 is decoded.

/// The function, and how much of it is read: without optimisation it is as long.
pub(super) const SENDS: (&str, usize) = ("ngx_http_send_header", 256);
/// The structure is smaller than this.
const LIMIT: u16 = 4096;
/// More instructions than the assignment takes.
const STEPS: usize = 8;

/// The offset of `headers_out.status`, by the function's code:
/// `if (r->err_status) { r->headers_out.status = r->err_status; r->headers_out.status_line.len = 0; }`
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

/// The same, where the condition begins here: `mov R, [REQUEST + err_status]; test R, R; je END`.
fn assigned(code: &[u8], at: usize) -> Option<u16> {
    let Step::Load(tested, request, err_status) = Step::at(&code[at..])?.0 else {
        return None;
    };
    let rest = code.get(at + 7..)?;
    let [0x48, 0x85, both, 0x74, length, block @ ..] = rest else {
        return None;
    };
    if *both != 0xc0 | tested << 3 | tested {
        return None;
    }
    let block = block.get(..usize::from(*length))?;
    // Without optimisation the request is read from the frame each time.
    let frame = at.checked_sub(4).and_then(|at| Step::at(&code[at..]));
    let frame = match frame {
        Some((Step::FromFrame(into, slot), 4)) if into == request => Some(slot),
        _ => None,
    };
    let mut held = [Held::Other; 8];
    held[usize::from(tested)] = Held::ErrStatus;
    // The same register, where the request is read again before it is used.
    if tested != request {
        held[usize::from(request)] = Held::Request;
    }
    assignment(block, held, frame, err_status)
}

/// The member that a block assigns `err_status` to, if that is all that it does, but for clearing the next one.
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
            [0x48, 0x83, operands, a, b, c, d, 0, ..] => {
                let (4, to, member) = member(operands, [a, b, c, d])? else {
                    return None;
                };
                (Self::Clear(to, member), 8)
            }
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
