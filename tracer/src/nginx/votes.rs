//! Where `ngx_log_error_core` is in a program that names none of its functions: what is called once
//! the address of a text is loaded that nginx logs.
//!
//! Each such place is a vote. One alone may mislead, as the next call may be another's; the
//! function that most places agree on by far is the one.

use std::{collections::BTreeMap, io, ops::ControlFlow};

use super::elf::{Elf, find};

pub(super) const NAME: &str = "ngx_log_error_core";
/// Texts that are given to the function, each at one place at least, in all versions. They are its
/// fourth argument.
const TEXTS: [&[u8]; 16] = [
    b"%s %P exited with code %d",
    b"%s %P exited on signal %d",
    b"start %s %P",
    b"gracefully shutting down",
    b"reconfiguring",
    b"reopening logs",
    b"%ui worker_connections are not enough",
    b"connect() to %V failed",
    b"no live upstreams",
    b"upstream timed out",
    b"upstream prematurely closed connection",
    b"upstream sent too big header",
    b"upstream sent no valid HTTP/1.0 header",
    b"client intended to send too large body: %O bytes",
    b"client prematurely closed connection",
    b"client sent invalid header line",
];
const LONGEST: usize = 64;
/// Bytes of code between the load of a text and the call: the other arguments.
const WINDOW: usize = 64;
/// A winner has so many votes, and more than twice those of the next.
const QUORUM: usize = 3;
/// More places than a text has, and functions than are called there.
const PLACES: usize = 256;

/// The function's address in the file's own address space.
pub(super) fn log_error(elf: &Elf<'_>) -> io::Result<Option<u64>> {
    let texts = texts(elf)?;
    if texts.len() < QUORUM {
        return Ok(None);
    }
    let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
    // A load, and a call.
    let overlap = 2 * WINDOW;
    elf.codes(overlap, |address, bytes, is_last| {
        // What begins later is whole in the piece that follows.
        let begins = match is_last {
            true => bytes.len(),
            false => bytes.len().saturating_sub(overlap),
        };
        for at in 0..begins {
            if let Some(called) = called_with(elf, &texts, Code { address, bytes }, at)
                && (votes.len() < PLACES || votes.contains_key(&called))
            {
                *votes.entry(called).or_default() += 1;
            }
        }
    })?;
    Ok(winner(&votes))
}

/// Where the texts are.
fn texts(elf: &Elf<'_>) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    elf.constants(LONGEST, |address, bytes, _| {
        for text in TEXTS {
            let mut from = 0;
            while let Some(at) = find(&bytes[from..], text) {
                let place = address.wrapping_add((from + at) as u64);
                // What two pieces have in common is seen twice.
                if !found.contains(&place) {
                    found.push(place);
                }
                from += at + text.len();
                if found.len() >= PLACES {
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    found.sort_unstable();
    Ok(found)
}

fn winner(votes: &BTreeMap<u64, usize>) -> Option<u64> {
    let (&place, &most) = votes.iter().max_by_key(|(_, count)| **count)?;
    let others = votes.iter().filter(|(other, _)| **other != place);
    let next = others.map(|(_, count)| *count).max().unwrap_or(0);
    (most >= QUORUM && most > 2 * next).then_some(place)
}

/// The code that is called next, if the instruction at a place among these bytes begins to load the
/// address of a text.
fn called_with(elf: &Elf<'_>, texts: &[u64], code: Code<'_>, at: usize) -> Option<u64> {
    let (loaded, from) = if cfg!(target_arch = "aarch64") {
        code.loads_arm64(at)?
    } else {
        code.loads(at)?
    };
    texts.binary_search(&loaded).ok()?;
    (from..from + WINDOW).find_map(|at| {
        let called = if cfg!(target_arch = "aarch64") {
            code.calls_arm64(at)?
        } else {
            code.calls(at)?
        };
        // What looks like a call may be part of another instruction.
        elf.code_offset(called).map(|_| called)
    })
}

/// Some code, and where it lies.
#[derive(Clone, Copy)]
struct Code<'a> {
    address: u64,
    bytes: &'a [u8],
}

impl Code<'_> {
    /// Which address the instruction here loads, and where the next one is.
    fn loads(&self, at: usize) -> Option<(u64, usize)> {
        match *self.bytes.get(at..)? {
            // lea REGISTER, [rip + DISTANCE]
            [0x48 | 0x4c, 0x8d, register, a, b, c, d, ..] if register & 0xc7 == 5 => {
                Some((self.behind(at + 7, [a, b, c, d]), at + 7))
            }
            // mov REGISTER, ADDRESS
            [0xb8..=0xbf, a, b, c, d, ..] => {
                Some((u32::from_le_bytes([a, b, c, d]).into(), at + 5))
            }
            _ => None,
        }
    }

    /// What the instruction here calls: call DISTANCE
    fn calls(&self, at: usize) -> Option<u64> {
        match *self.bytes.get(at..)? {
            [0xe8, a, b, c, d, ..] => Some(self.behind(at + 5, [a, b, c, d])),
            _ => None,
        }
    }

    fn behind(&self, at: usize, distance: [u8; 4]) -> u64 {
        let distance = i64::from(i32::from_le_bytes(distance));
        self.here(at).wrapping_add_signed(distance)
    }

    fn here(&self, at: usize) -> u64 {
        self.address.wrapping_add(at as u64)
    }

    /// adrp REGISTER, PAGE, then soon add ANY, REGISTER, INSIDE
    fn loads_arm64(&self, at: usize) -> Option<(u64, usize)> {
        let first = self
            .arm64(at)
            .filter(|word| word & 0x9f00_0000 == 0x9000_0000)?;
        let pages = (first >> 5 & 0x7_ffff) << 2 | first >> 29 & 3;
        let page = (self.here(at) & !0xfff).wrapping_add_signed(signed(pages, 21) << 12);
        (at + 4..at + WINDOW).step_by(4).find_map(|at| {
            let word = self.arm64(at)?;
            let is_add = word & 0xffc0_0000 == 0x9100_0000 && word >> 5 & 31 == first & 31;
            let inside = u64::from(word >> 10 & 0xfff);
            is_add.then(|| (page.wrapping_add(inside), at + 4))
        })
    }

    /// bl DISTANCE
    fn calls_arm64(&self, at: usize) -> Option<u64> {
        let word = self
            .arm64(at)
            .filter(|word| word & 0xfc00_0000 == 0x9400_0000)?;
        Some(self.here(at).wrapping_add_signed(signed(word, 26) << 2))
    }

    /// An instruction of arm64's; they lie at multiples of 4.
    fn arm64(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        self.here(at)
            .is_multiple_of(4)
            .then(|| u32::from_le_bytes(*bytes))
    }
}

/// The lowest so many bits, as a number with a sign.
fn signed(bits: u32, count: u32) -> i64 {
    i64::from((bits << (32 - count)).cast_signed() >> (32 - count))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{binary, elf::tests::Made},
        *,
    };

    /// A program without sections: four texts at 4 MiB, then code that loads each and calls a
    /// function.
    fn program(targets: [u64; 4]) -> Made {
        const AT: u64 = 0x40_0000;
        let mut bytes = Vec::new();
        let mut places = Vec::new();
        for text in &TEXTS[..4] {
            places.push(AT + bytes.len() as u64);
            bytes.extend(*text);
            bytes.push(0);
        }
        bytes.extend(b"nginx version: nginx/1.22.1\0");
        bytes.resize(512, 0);
        for (place, target) in places.iter().zip(targets) {
            load_and_call(&mut bytes, AT, *place, target);
        }
        bytes.resize(2048, 0);
        Made::of_code(&bytes)
    }

    #[cfg(not(target_arch = "aarch64"))]
    fn load_and_call(bytes: &mut Vec<u8>, at: u64, text: u64, target: u64) {
        let here = at + bytes.len() as u64;
        // lea rcx, [rip + …]; xor eax, eax; call …, as gcc has it.
        bytes.extend([0x48, 0x8d, 0x0d]);
        bytes.extend((text.wrapping_sub(here + 7) as u32).to_le_bytes());
        bytes.extend([0x31, 0xc0, 0xe8]);
        bytes.extend((target.wrapping_sub(here + 14) as u32).to_le_bytes());
    }

    #[cfg(target_arch = "aarch64")]
    fn load_and_call(bytes: &mut Vec<u8>, at: u64, text: u64, target: u64) {
        bytes.extend(arm64(at + bytes.len() as u64, text, target));
    }

    /// adrp x3, …; add x3, x3, …; mov x2, 0; bl …
    fn arm64(at: u64, text: u64, target: u64) -> Vec<u8> {
        let pages = ((text >> 12).wrapping_sub(at >> 12)) as u32;
        let words = [
            0x9000_0003 | (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5,
            0x9100_0063 | (text as u32 & 0xfff) << 10,
            0xd280_0002,
            0x9400_0000 | (target.wrapping_sub(at + 12) >> 2) as u32 & 0x3ff_ffff,
        ];
        words.into_iter().flat_map(u32::to_le_bytes).collect()
    }

    /// Where the function is found to be, as an offset in the file.
    fn found(made: &Made) -> Option<u64> {
        let binary = binary::shown(&|into, at| made.read(into, at)).unwrap();
        assert_eq!(binary.version.as_deref(), Some("nginx/1.22.1"));
        binary.functions.get(NAME)?.own
    }

    #[test]
    fn the_function_that_most_texts_are_given_to_is_the_one() {
        let offset = |address: u64| Made::offset(address);
        let (one, other) = (0x40_0500, 0x40_0600);
        assert_eq!(found(&program([one; 4])), Some(offset(one)));
        assert_eq!(found(&program([one, one, one, other])), Some(offset(one)));
        assert_eq!(found(&program([one, one, other, other])), None);
        assert_eq!(found(&program([one, one, 1 << 40, 1 << 40])), None);
    }

    #[test]
    fn what_arm64_loads_and_calls_is_read() {
        for (address, text, target) in [
            (0x40_1000, 0x48_0123, 0x41_0000),
            (0x48_0000, 0x40_0fff, 0x40_0004),
        ] {
            let bytes = arm64(address, text, target);
            let bytes = &bytes;
            let code = Code { address, bytes };
            assert_eq!(code.loads_arm64(0), Some((text, 8)));
            assert_eq!(
                (code.calls_arm64(8), code.calls_arm64(12)),
                (None, Some(target))
            );
        }
    }
}
