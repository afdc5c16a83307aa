//! Where a process keeps `errno`: the distance from its thread pointer, the same in all its
//! threads.
//!
//! It is the libc's constant, but no symbol names it: it is read off the few instructions of
//! `__errno_location()`, which glibc computes from a GOT entry and musl from an immediate. An
//! unknown encoding gives `None`, never a guess. Only x86-64 is decoded.

/// The offset of `errno` from the thread pointer (x86-64: the fs base) of a process; `None` where
/// it is not known.
#[must_use]
pub(crate) fn errno_offset(pid: u32) -> Option<i64> {
    #[cfg(target_arch = "x86_64")]
    return x86_64::errno_offset(pid);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = pid;
        None
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::{fs::File, io, os::unix::fs::FileExt as _};

    use crate::{
        nginx::elf::{Elf, Segment},
        process::{Mapping, foreign},
    };

    const PAGE: u64 = 4096;
    const FUNCTION: &str = "__errno_location";
    /// Its first bytes that are read.
    const CODE: usize = 48;

    pub(super) fn errno_offset(pid: u32) -> Option<i64> {
        let maps = foreign::proc_file(pid, "maps", 1 << 20).ok()?;
        let maps = String::from_utf8_lossy(&maps);
        let code = || {
            maps.lines()
                .filter_map(Mapping::parse)
                .filter(|mapping| mapping.is_code && mapping.path.starts_with('/'))
        };
        // A static program has its libc within: the first mapping is its own.
        let mapping = code()
            .find(|mapping| is_libc(mapping.path))
            .or(code().next())?;
        let (start, end, offset) = (mapping.start, mapping.end, mapping.offset);
        // The very file that is mapped: anything may have its name by now.
        let function = foreign::with_mapped(pid, (start, end), move |file| {
            function(&file, (start, end), offset)
        });
        let function = function.ok()??;
        decode(&function.code, function.address, |address| {
            let bytes = foreign::memory(pid, function.bias.wrapping_add(address), 8).ok()?;
            Some(i64::from_le_bytes(bytes.try_into().ok()?))
        })
    }

    fn is_libc(path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        ["libc.so", "libc-2.", "libc.musl-", "ld-musl-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    }

    /// `__errno_location()`
    struct Function {
        code: Vec<u8>,
        /// In the file's own address space.
        address: u64,
        /// What this lies below the process's.
        bias: u64,
    }

    /// The function in a file that is mapped from `offset` on.
    fn function(file: &File, range: (u64, u64), offset: u64) -> io::Result<Option<Function>> {
        let read = |into: &mut [u8], at| file.read_at(into, at);
        let Some(elf) = Elf::parse(&read)? else {
            return Ok(None);
        };
        let Some(function) = elf.symbol(FUNCTION)? else {
            return Ok(None);
        };
        let address = function.address;
        let mut segments = elf.segments().iter();
        let bias = segments.find_map(|segment| bias(segment, range, offset, address));
        let code = elf.code(address, CODE)?;
        Ok(bias.map(|bias| Function {
            code,
            address,
            bias,
        }))
    }

    /// How far above the file's addresses a segment is mapped, if that mapping holds the function.
    fn bias(segment: &Segment, range: (u64, u64), offset: u64, function: u64) -> Option<u64> {
        let first_page = segment.offset / PAGE * PAGE;
        let inside = offset.checked_sub(first_page)?;
        (offset < segment.offset.checked_add(segment.length)?).then_some(())?;
        let address = (segment.address / PAGE * PAGE).checked_add(inside)?;
        // An address range that holds the function, or it is another mapping of the file.
        let end = address.checked_add(range.1 - range.0)?;
        (address..end)
            .contains(&function)
            .then(|| range.0.wrapping_sub(address))
    }

    /// Follows `rax` through straight code up to `ret`, as a sum of one thread pointer and
    /// constants. `load` reads eight bytes at an address of the file's.
    fn decode(code: &[u8], address: u64, load: impl Fn(u64) -> Option<i64>) -> Option<i64> {
        let mut sum: i64 = 0;
        let mut pointers = 0;
        let mut at = 0;
        loop {
            let rest = code.get(at..)?;
            let number =
                |from: usize| Some(i32::from_le_bytes(*rest.get(from..)?.first_chunk()?).into());
            let byte = |from: usize| Some(i64::from(*rest.get(from)? as i8));
            let relative = |length: usize| {
                let next = address.wrapping_add((at + length) as u64);
                load(next.wrapping_add_signed(number(length - 4)?))
            };
            at += match rest {
                // endbr64; push rbp; mov rbp, rsp; pop rbp: of no effect on rax.
                [0xf3, 0x0f, 0x1e, 0xfa, ..] => 4,
                [0x55 | 0x5d, ..] => 1,
                [0x48, 0x89, 0xe5, ..] => 3,
                // mov rax, fs:0
                [0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, ..] => {
                    (sum, pointers) = (0, 1);
                    9
                }
                // add rax, fs:0
                [0x64, 0x48, 0x03, 0x04, 0x25, 0, 0, 0, 0, ..] => {
                    pointers += 1;
                    9
                }
                // mov rax, [rip + n]
                [0x48, 0x8b, 0x05, ..] => {
                    (sum, pointers) = (relative(7)?, 0);
                    7
                }
                // add rax, [rip + n]
                [0x48, 0x03, 0x05, ..] => {
                    sum = sum.checked_add(relative(7)?)?;
                    7
                }
                // mov rax, n
                [0x48, 0xc7, 0xc0, ..] => {
                    (sum, pointers) = (number(3)?, 0);
                    7
                }
                // add rax, n; sub rax, n; lea rax, [rax + n]: long and short
                [0x48, 0x05, ..] => {
                    sum = sum.checked_add(number(2)?)?;
                    6
                }
                [0x48, 0x2d, ..] => {
                    sum = sum.checked_sub(number(2)?)?;
                    6
                }
                [0x48, 0x8d, 0x80, ..] => {
                    sum = sum.checked_add(number(3)?)?;
                    7
                }
                [0x48, 0x83, 0xc0, ..] | [0x48, 0x8d, 0x40, ..] => {
                    sum = sum.checked_add(byte(3)?)?;
                    4
                }
                [0x48, 0x83, 0xe8, ..] => {
                    sum = sum.checked_sub(byte(3)?)?;
                    4
                }
                [0xc3, ..] => return (pointers == 1).then_some(sum),
                _ => return None,
            };
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn sum(code: &[u8]) -> Option<i64> {
            decode(code, 0x27660, |address| {
                (address == 0x1d_2de0).then_some(-128)
            })
        }

        #[test]
        fn glibc_and_musl_and_static_encodings_are_followed() {
            let pointer = [0x64, 0x48, 0x03, 0x04, 0x25, 0, 0, 0, 0];
            let glibc = [
                &[0x48, 0x8b, 0x05, 0x79, 0xb7, 0x1a, 0][..],
                &pointer,
                &[0xc3],
            ]
            .concat();
            assert_eq!(sum(&glibc), Some(-128));
            let musl = [
                0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, 0x48, 0x83, 0xc0, 0x34, 0xc3,
            ];
            assert_eq!(sum(&musl), Some(0x34));
            let fixed = [
                &[0x48, 0xc7, 0xc0, 0xc0, 0xff, 0xff, 0xff][..],
                &pointer,
                &[0xc3],
            ]
            .concat();
            assert_eq!(sum(&fixed), Some(-64));
        }

        #[test]
        fn anything_else_is_no_guess() {
            assert_eq!(sum(&[0xe8, 0, 0, 0, 0, 0xc3]), None);
            assert_eq!(sum(&[0x48, 0xc7, 0xc0, 1, 0, 0, 0, 0xc3]), None);
            assert_eq!(sum(&[0x48, 0x8b]), None);
            assert_eq!(sum(&[]), None);
        }

        #[test]
        fn this_process_s_errno_is_where_libc_says() {
            let mut pointer: u64;
            // SAFETY: fs:0 holds the thread pointer itself on x86-64 Linux.
            unsafe { std::arch::asm!("mov {}, fs:0", out(reg) pointer) };
            // SAFETY: no preconditions.
            let errno = unsafe { libc::__errno_location() } as u64;
            let offset = errno_offset(std::process::id()).unwrap();
            assert_eq!(pointer.wrapping_add_signed(offset), errno);
        }
    }
}
