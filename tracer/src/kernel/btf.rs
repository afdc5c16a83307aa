//! A reader of the kernel's BTF: structure members, enumerators, function parameters; nothing else.
//!
//! Source: Documentation/bpf/btf.rst. Any damage is an error, never a panic.

use std::{collections::HashMap, path::Path};

use thiserror::Error;

/// Why the BTF could not be read.
#[derive(Debug, Error)]
pub(crate) enum BtfError {
    /// The file is not there or not readable.
    #[error("reading {path}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no BTF, or cut.
    #[error("malformed BTF at byte {0}")]
    Malformed(usize),
}

const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;
const TYPEDEF: u32 = 8;
const PTR: u32 = 2;
/// Qualifiers and typedefs to look through: typedef, volatile, const, restrict, type tag.
const TRANSPARENT: [u32; 5] = [TYPEDEF, 9, 10, 11, 18];

/// The parsed type section.
#[derive(Debug)]
pub(crate) struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Byte position of each type, from id 1 on.
    types: Vec<usize>,
    /// Structures by name: the first definition.
    structs: HashMap<String, u32>,
    enums: HashMap<String, u32>,
    typedefs: HashMap<String, u32>,
}

impl Btf {
    /// Reads the file, usually `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// The file is unreadable, or no BTF.
    pub(crate) fn read(path: &Path) -> Result<Self, BtfError> {
        let bytes = std::fs::read(path).map_err(|source| BtfError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::parse(bytes)
    }

    /// Parses a BTF blob.
    ///
    /// # Errors
    /// It is no BTF, or cut.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let header = |at| word(&bytes, at);
        if bytes.get(..2) != Some(&[0x9f, 0xeb]) {
            return Err(BtfError::Malformed(0));
        }
        let start = header(4)? as usize;
        let mut at = start + header(8)? as usize;
        let end = at + header(12)? as usize;
        let strings = start + header(16)? as usize;
        let mut btf = Self {
            bytes,
            strings,
            types: Vec::new(),
            structs: HashMap::new(),
            enums: HashMap::new(),
            typedefs: HashMap::new(),
        };
        while at < end {
            btf.types.push(at);
            let id = u32::try_from(btf.types.len()).map_err(|_| BtfError::Malformed(at))?;
            let (kind, count) = btf.kind(at)?;
            let table = match kind {
                STRUCT => Some(&mut btf.structs),
                ENUM | ENUM64 => Some(&mut btf.enums),
                TYPEDEF => Some(&mut btf.typedefs),
                _ => None,
            };
            if let Some(table) = table {
                let name = string(&btf.bytes, btf.strings, word(&btf.bytes, at)?)?;
                if !name.is_empty() {
                    table.entry(name.to_owned()).or_insert(id);
                }
            }
            at += 12
                + match kind {
                    INT | VAR | DECL_TAG => 4,
                    ARRAY => 12,
                    STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
                    ENUM | FUNC_PROTO => 8 * count,
                    _ => 0,
                };
        }
        Ok(btf)
    }

    /// Byte offset of a member, `a.b` for one inside a named member; anonymous members are looked
    /// through.
    #[must_use]
    pub(crate) fn member(&self, structure: &str, path: &str) -> Option<u32> {
        let mut id = *self.structs.get(structure)?;
        let mut bits = 0;
        for name in path.split('.') {
            let (offset, kind) = self.find(id, name, 0)?;
            bits += offset;
            id = self.resolve(kind)?;
        }
        Some(bits / 8)
    }

    /// The enumerators of an enumeration: value and name.
    #[must_use]
    pub(crate) fn enumerators(&self, enumeration: &str) -> Vec<(u32, String)> {
        let Some(&id) = self.enums.get(enumeration) else {
            return Vec::new();
        };
        let Some((at, (kind, count))) = self
            .position(id)
            .and_then(|at| Some((at, self.kind(at).ok()?)))
        else {
            return Vec::new();
        };
        let width = if kind == ENUM { 8 } else { 12 };
        (0..count)
            .filter_map(|index| {
                let at = at + 12 + index * width;
                let name = string(&self.bytes, self.strings, word(&self.bytes, at).ok()?).ok()?;
                Some((word(&self.bytes, at + 4).ok()?, name.to_owned()))
            })
            .collect()
    }

    /// How many arguments a tracepoint hands to its programs, `None` if this kernel has no such
    /// tracepoint.
    #[must_use]
    pub(crate) fn tracepoint_arguments(&self, name: &str) -> Option<usize> {
        let id = *self.typedefs.get(&format!("btf_trace_{name}"))?;
        let pointer = self.resolve(id)?;
        let at = self.position(pointer)?;
        let (PTR, _) = self.kind(at).ok()? else {
            return None;
        };
        let at = self.position(word(&self.bytes, at + 8).ok()?)?;
        let (FUNC_PROTO, count) = self.kind(at).ok()? else {
            return None;
        };
        // The first parameter is the tracepoint's private data, which programs do not see.
        count.checked_sub(1)
    }

    /// How many parameters a function of the kernel has, `None` if there is no such function (any
    /// more: it may be inlined everywhere).
    #[must_use]
    pub(crate) fn function_parameters(&self, name: &str) -> Option<usize> {
        let at = self.named(name, &[FUNC])?;
        let prototype = self.position(word(&self.bytes, at + 8).ok()?)?;
        let (FUNC_PROTO, count) = self.kind(prototype).ok()? else {
            return None;
        };
        Some(count)
    }

    /// Bytes of a structure or union.
    #[must_use]
    pub(crate) fn size(&self, name: &str) -> Option<u32> {
        let at = self.named(name, &[STRUCT, UNION])?;
        word(&self.bytes, at + 8).ok()
    }

    /// Where the first type of that name and of one of these kinds is.
    fn named(&self, name: &str, kinds: &[u32]) -> Option<usize> {
        let is_name = |offset: u32| {
            let tail = self.bytes.get(self.strings + offset as usize..);
            tail.and_then(|tail| tail.strip_prefix(name.as_bytes()))
                .is_some_and(|rest| rest.first() == Some(&0))
        };
        self.types.iter().copied().find(|&at| {
            self.kind(at).is_ok_and(|(kind, _)| kinds.contains(&kind))
                && word(&self.bytes, at).is_ok_and(is_name)
        })
    }

    fn find(&self, id: u32, name: &str, depth: u32) -> Option<(u32, u32)> {
        let at = self.position(id)?;
        let (kind, count) = self.kind(at).ok()?;
        if (kind != STRUCT && kind != UNION) || depth > 8 {
            return None;
        }
        let bitfields = word(&self.bytes, at + 4).ok()? >> 31 == 1;
        for index in 0..count {
            let at = at + 12 + index * 12;
            let member = string(&self.bytes, self.strings, word(&self.bytes, at).ok()?).ok()?;
            let kind = word(&self.bytes, at + 4).ok()?;
            let mut offset = word(&self.bytes, at + 8).ok()?;
            if bitfields {
                offset &= 0x00ff_ffff;
            }
            if member == name {
                return Some((offset, kind));
            }
            if member.is_empty()
                && let Some((inner, kind)) = self.find(self.resolve(kind)?, name, depth + 1)
            {
                return Some((offset + inner, kind));
            }
        }
        None
    }

    /// Looks through typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        for _ in 0..16 {
            let at = self.position(id)?;
            if !TRANSPARENT.contains(&self.kind(at).ok()?.0) {
                return Some(id);
            }
            id = word(&self.bytes, at + 8).ok()?;
        }
        None
    }

    fn position(&self, id: u32) -> Option<usize> {
        self.types.get((id as usize).checked_sub(1)?).copied()
    }

    fn kind(&self, at: usize) -> Result<(u32, usize), BtfError> {
        let info = word(&self.bytes, at + 4)?;
        Ok(((info >> 24) & 0x1f, (info & 0xffff) as usize))
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    bytes
        .get(at..at + 4)
        .and_then(|slice| slice.try_into().ok())
        .map(u32::from_ne_bytes)
        .ok_or(BtfError::Malformed(at))
}

fn string(bytes: &[u8], strings: usize, offset: u32) -> Result<&str, BtfError> {
    let at = strings + offset as usize;
    let tail = bytes.get(at..).ok_or(BtfError::Malformed(at))?;
    let len = tail
        .iter()
        .position(|&byte| byte == 0)
        .ok_or(BtfError::Malformed(at))?;
    std::str::from_utf8(&tail[..len]).map_err(|_| BtfError::Malformed(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running_kernel() -> Btf {
        Btf::read(Path::new("/sys/kernel/btf/vmlinux")).expect("a kernel with BTF")
    }

    #[test]
    fn members_nested_and_anonymous_are_found() {
        let btf = running_kernel();
        assert_eq!(btf.member("sock_common", "skc_daddr"), Some(0));
        assert!(
            btf.member("net", "ns.inum")
                .is_some_and(|offset| offset > 0)
        );
        assert_eq!(btf.member("sock", "no_such_member"), None);
        assert_eq!(btf.member("no_such_structure", "member"), None);
    }

    #[test]
    fn tracepoints_tell_their_arguments() {
        let btf = running_kernel();
        assert_eq!(btf.tracepoint_arguments("inet_sock_set_state"), Some(3));
        assert_eq!(btf.tracepoint_arguments("no_such_tracepoint"), None);
    }

    #[test]
    fn functions_tell_their_parameters() {
        let btf = running_kernel();
        assert_eq!(btf.function_parameters("security_socket_connect"), Some(3));
        assert_eq!(btf.function_parameters("no_such_function"), None);
        assert!(btf.size("pt_regs").is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn a_cut_blob_is_an_error() {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with BTF");
        for len in [0, 1, 3, 23, 24, 100, 4096] {
            assert!(Btf::parse(bytes[..len].to_vec()).is_err(), "{len} bytes");
        }
    }
}
