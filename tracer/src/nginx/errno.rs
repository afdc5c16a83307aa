//! Where a process keeps `errno`: the distance from its thread pointer, the same in all its threads.
//!
//! It is the libc's constant, but no symbol names it: it is read off the few instructions of `__errno_location()`,
//! which glibc computes from a GOT entry and musl from an immediate. An unknown encoding gives `None`, never a guess.
//! Only x86-64 is decoded.

/// The offset of `errno` from the thread pointer (x86-64: the fs base) of a process; `None` where it cannot be told.
#[must_use]
pub fn errno_offset(pid: u32) -> Option<i64> {
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
    use std::{
        fs::File,
        os::unix::fs::FileExt as _,
        path::{Path, PathBuf},
    };

    use object::{Object as _, ObjectSegment as _};

    use crate::{nginx::symbols, process};

    const PAGE: u64 = 4096;

    pub(super) fn errno_offset(pid: u32) -> Option<i64> {
        let maps = process::read_start(format!("/proc/{pid}/maps"), 1 << 20).ok()?;
        let maps = String::from_utf8_lossy(&maps);
        let code: Vec<Mapping> = maps.lines().filter_map(executable).collect();
        let libc = code.iter().find(|mapping| is_libc(&mapping.path));
        // A static program has its libc within: the first mapping is its own.
        let mapping = libc.or(code.first())?;
        let (start, end) = (mapping.start, mapping.end);
        // The very file that is mapped, also if it was replaced; else by its name in the process's root.
        [
            PathBuf::from(format!("/proc/{pid}/map_files/{start:x}-{end:x}")),
            PathBuf::from(format!("/proc/{pid}/root{}", mapping.path)),
        ]
        .iter()
        .find_map(|path| offset_in(pid, mapping, path))
    }

    struct Mapping {
        start: u64,
        end: u64,
        offset: u64,
        path: String,
    }

    /// A line of `maps` that maps code from a file: `START-END r-xp OFFSET DEV INODE PATH`.
    fn executable(line: &str) -> Option<Mapping> {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?;
        let offset = fields.next()?;
        let path = fields.nth(2)?;
        (permissions.contains('x') && path.starts_with('/')).then_some(())?;
        Some(Mapping {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            offset: u64::from_str_radix(offset, 16).ok()?,
            path: path.to_owned(),
        })
    }

    fn is_libc(path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        ["libc.so", "libc-2.", "libc.musl-", "ld-musl-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    }

    fn offset_in(pid: u32, mapping: &Mapping, path: &Path) -> Option<i64> {
        let cache = symbols::open(path).ok()?;
        let elf = symbols::parse(&cache, path).ok()?;
        let function = symbols::address(&elf, "__errno_location")?;
        let code = elf
            .segments()
            .find_map(|segment| segment.data_range(function, 48).ok().flatten())?;
        let bias = elf.segments().find_map(|segment| {
            let (offset, length) = segment.file_range();
            let first_page = offset / PAGE * PAGE;
            let inside = mapping.offset.checked_sub(first_page)?;
            (mapping.offset < offset + length).then_some(())?;
            let address = segment.address() / PAGE * PAGE + inside;
            // An address range that holds the function, or it is another mapping of the file.
            let holds = (address..address + (mapping.end - mapping.start)).contains(&function);
            holds.then(|| mapping.start.wrapping_sub(address))
        })?;
        decode(code, function, |address| {
            let mut value = [0; 8];
            let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
            memory
                .read_exact_at(&mut value, bias.wrapping_add(address))
                .ok()?;
            Some(i64::from_le_bytes(value))
        })
    }

    /// Follows `rax` through straight code up to `ret`, as a sum of one thread pointer and constants. `load` reads
    /// eight bytes at an address of the file's.
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
