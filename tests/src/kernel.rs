//! What the running kernel shows, found out without tracer: what a test may ask of a verdict.

use std::path::Path;

const BTF: &str = "/sys/kernel/btf/vmlinux";
const BREAKPOINTS: &str = "/sys/bus/event_source/devices/kprobe";

/// Whether its functions can be watched (trampolines or breakpoints), not tracepoints alone.
#[must_use]
pub fn shows_functions() -> bool {
    Path::new(BREAKPOINTS).is_dir()
}

/// Whether its BTF has the name: of a type, a tracepoint's `btf_trace_NAME`, a function.
#[must_use]
pub fn has(name: &str) -> bool {
    let strings = std::fs::read(BTF).unwrap_or_default();
    let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
    // SAFETY: both are as long as we say. libc's own search: a debug build's takes seconds in an
    // emulated guest.
    let found = unsafe {
        libc::memmem(
            strings.as_ptr().cast(),
            strings.len(),
            wanted.as_ptr().cast(),
            wanted.len(),
        )
    };
    !found.is_null()
}

/// The BTF id of a function of the kernel's (Documentation/bpf/btf.rst).
#[must_use]
pub fn function(name: &str) -> Option<u32> {
    let found = types()?.into_iter().find(|one| one.is(FUNC, name))?;
    Some(found.id)
}

/// How many parameters a function of the kernel's has.
#[must_use]
pub fn parameters(function: &str) -> Option<usize> {
    let types = types()?;
    let found = types.iter().find(|one| one.is(FUNC, function))?;
    Some(types.get(found.of as usize - 1)?.count)
}

/// How many arguments a tracepoint of the kernel's has; its prototype's first parameter is the
/// program's own.
#[must_use]
pub fn arguments(tracepoint: &str) -> Option<usize> {
    let types = types()?;
    let name = format!("btf_trace_{tracepoint}");
    let found = types.iter().find(|one| one.is(TYPEDEF, &name))?;
    let pointer = types.get(found.of as usize - 1)?;
    types.get(pointer.of as usize - 1)?.count.checked_sub(1)
}

const TYPEDEF: u32 = 8;
const FUNC: u32 = 12;

/// One of the types that BTF lists; the first is 1.
struct Type {
    id: u32,
    kind: u32,
    name: Vec<u8>,
    /// Its parameters, of a prototype.
    count: usize,
    /// The type that it refers to.
    of: u32,
}

impl Type {
    fn is(&self, kind: u32, name: &str) -> bool {
        self.kind == kind && self.name == name.as_bytes()
    }
}

fn types() -> Option<Vec<Type>> {
    let btf = std::fs::read(BTF).ok()?;
    let word = |at: usize| Some(u32::from_ne_bytes(btf.get(at..at + 4)?.try_into().ok()?));
    let start = word(4)? as usize;
    let mut at = start + word(8)? as usize;
    let end = at + word(12)? as usize;
    let strings = start + word(16)? as usize;
    let mut types = Vec::new();
    while at < end {
        let (kind, count) = (word(at + 4)? >> 24 & 0x1f, word(at + 4)? as usize & 0xffff);
        let named = matches!(kind, TYPEDEF | FUNC);
        let text = btf.get(strings + word(at)? as usize..)?;
        let name = text.split(|byte| *byte == 0).next().filter(|_| named);
        types.push(Type {
            id: types.len() as u32 + 1,
            kind,
            name: name.unwrap_or_default().to_vec(),
            count,
            of: word(at + 8)?,
        });
        at += 12
            + match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => 12 * count,
                6 | 13 => 8 * count,
                _ => 0,
            };
    }
    Some(types)
}

/// Whether it says why it sends a RST, from 6.10 on.
#[must_use]
pub fn says_why_it_resets() -> bool {
    has("sk_rst_reason")
}

/// Whether a tracepoint's program may be preempted: 7.0 and later, which then skip its runs in
/// other tasks. Before, only an interrupt in its midst makes the kernel skip one. No type or
/// function in BTF distinguishes them.
#[must_use]
pub fn preempts_tracepoints() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let major = release
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    major.is_none_or(|major: u32| major >= 7)
}

/// Says that the test expects less here than elsewhere: `cargo xtask test` shows it by name.
pub fn lesser(test: &str, reason: &str) {
    println!("LESSER: {test}: {reason}");
}
