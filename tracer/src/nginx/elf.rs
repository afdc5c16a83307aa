//! An ELF file that anyone may have written: only what is needed is read, piece by piece, and never mapped.
//!
//! All counts and lengths in it are claims. They are cut to the limits below, which real programs do not reach, so a file costs
//! at most 64 MiB of reading and a few hundred kilobytes of memory. What lies beyond a limit counts as absent. Only
//! 64-bit files of this host's byte order are read; others run no nginx that could be followed.

mod pieces;

pub(super) use pieces::{ReadAt, find};

use std::{collections::BTreeMap, io, ops::ControlFlow};

use pieces::Pieces;

/// Bytes that are read of a table of symbols; each takes 24.
const SYMBOLS: u64 = 16 << 20;
/// Bytes that are read of the names of a table of symbols.
const NAMES: u64 = 8 << 20;
/// Bytes that are read of the names of sections.
const SECTION_NAMES: usize = 64 << 10;
const SECTIONS: u64 = 1024;
const SEGMENTS: u64 = 128;
/// How often the beginning of a name is looked at in the names of a table; a build has some thousands of nginx's.
const OCCURRENCES: usize = 1 << 16;

const HEADER: usize = 64;
const SEGMENT: usize = 56;
const SECTION: usize = 64;
const SYMBOL: usize = 24;
/// `PT_LOAD`, `PF_X`
const LOAD: u32 = 1;
const EXECUTE: u32 = 1;
/// `SHT_SYMTAB`, `SHT_NOBITS`, `SHT_DYNSYM`
const SYMTAB: u32 = 2;
const NOBITS: u32 = 8;
const DYNSYM: u32 = 11;
/// `SHN_XINDEX`: see the first section.
const EXTENDED: u16 = 0xffff;

/// See [the module](self).
pub(super) struct Elf<'a> {
    file: Pieces<'a>,
    segments: Vec<Segment>,
    sections: Vec<Section>,
}

/// A part of the file that is mapped (`PT_LOAD`).
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) address: u64,
    pub(super) is_code: bool,
}

/// A part of the file, with its name as far as it is short.
struct Section {
    name: [u8; 8],
    kind: u32,
    offset: u64,
    size: u64,
    link: usize,
}

/// Where a function or object lies in the file's own address space, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Symbol {
    pub(super) address: u64,
    pub(super) size: u64,
}

impl<'a> Elf<'a> {
    /// The file's tables; `None` if it is no ELF file that this host would run.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn parse(read: ReadAt<'a>) -> io::Result<Option<Self>> {
        let mut elf = Self {
            file: Pieces::new(read),
            segments: Vec::new(),
            sections: Vec::new(),
        };
        let header = elf.file.bytes(0, HEADER)?;
        let byte_order = if cfg!(target_endian = "big") { 2 } else { 1 };
        if header.len() < HEADER || !header.starts_with(&[0x7f, b'E', b'L', b'F', 2, byte_order]) {
            return Ok(None);
        }
        let count = u64::from(short(&header, 56));
        if usize::from(short(&header, 54)) == SEGMENT {
            let length = SEGMENT * count.min(SEGMENTS) as usize;
            let table = elf.file.bytes(long(&header, 32), length)?;
            let segments = table
                .chunks_exact(SEGMENT)
                .filter(|head| word(head, 0) == LOAD);
            elf.segments = segments
                .map(|head| Segment {
                    offset: long(head, 8),
                    length: long(head, 32),
                    address: long(head, 16),
                    is_code: word(head, 4) & EXECUTE != 0,
                })
                .collect();
        }
        if usize::from(short(&header, 58)) == SECTION {
            elf.sections = elf.sections(&header)?;
        }
        Ok(Some(elf))
    }

    fn sections(&self, header: &[u8]) -> io::Result<Vec<Section>> {
        let at = long(header, 40);
        let first = self.file.bytes(at, SECTION)?;
        if at == 0 || first.len() < SECTION {
            return Ok(Vec::new());
        }
        let count = match short(header, 60) {
            0 => long(&first, 32),
            count => count.into(),
        };
        let names = match short(header, 62) {
            EXTENDED => word(&first, 40),
            index => index.into(),
        };
        let table = self
            .file
            .bytes(at, SECTION * count.min(SECTIONS) as usize)?;
        let heads = || table.chunks_exact(SECTION);
        let names = match heads().nth(names as usize) {
            Some(head) => {
                let size = usize::try_from(long(head, 32)).unwrap_or(usize::MAX);
                self.file.bytes(long(head, 24), size.min(SECTION_NAMES))?
            }
            None => Vec::new(),
        };
        let name = |at: u32| {
            let mut name = [0; 8];
            let bytes = names.get(at as usize..).unwrap_or_default();
            let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
            // A longer one is none that is looked for.
            if bytes.len() <= name.len() {
                name[..bytes.len()].copy_from_slice(bytes);
            }
            name
        };
        Ok(heads()
            .map(|head| Section {
                name: name(word(head, 0)),
                kind: word(head, 4),
                offset: long(head, 24),
                size: long(head, 32),
                link: word(head, 40) as usize,
            })
            .collect())
    }

    /// What is mapped.
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Where code at an address lies in the file.
    pub(super) fn code_offset(&self, address: u64) -> Option<u64> {
        let code = self.segments.iter().filter(|segment| segment.is_code);
        code.filter_map(|segment| {
            let inside = address.checked_sub(segment.address)?;
            (inside < segment.length).then(|| segment.offset.checked_add(inside))?
        })
        .next()
    }

    /// The code at an address, at most `length` bytes.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn code(&self, address: u64, length: usize) -> io::Result<Vec<u8>> {
        match self.code_offset(address) {
            Some(offset) => self.file.bytes(offset, length),
            None => Ok(Vec::new()),
        }
    }

    /// Has `look` see the section of that name, as [`Pieces::each`] does.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn section(
        &self,
        name: &str,
        overlap: usize,
        look: impl FnMut(u64, &[u8], bool) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let mut wanted = [0; 8];
        wanted[..name.len()].copy_from_slice(name.as_bytes());
        let section = self.sections.iter().find(|section| section.name == wanted);
        match section.filter(|section| section.kind != NOBITS) {
            Some(section) => self.file.each(section.offset, section.size, overlap, look),
            None => Ok(()),
        }
    }

    /// The functions and objects of these names that the file defines: what it exports comes before what it only lists.
    /// All names begin with `prefix`.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn symbols<'n>(
        &self,
        prefix: &str,
        names: &[&'n str],
    ) -> io::Result<BTreeMap<&'n str, Symbol>> {
        let mut found = BTreeMap::new();
        for kind in [DYNSYM, SYMTAB] {
            let table = self.sections.iter().find(|section| section.kind == kind);
            if let Some(table) = table
                && let Some(texts) = self.sections.get(table.link)
                && !names.iter().all(|name| found.contains_key(name))
            {
                let places = self.places(texts, prefix, names)?;
                self.look_up(table, &places, &mut found)?;
            }
        }
        Ok(found)
    }

    /// Where these names are among the names of symbols.
    fn places<'n>(
        &self,
        texts: &Section,
        prefix: &str,
        names: &[&'n str],
    ) -> io::Result<BTreeMap<u32, &'n str>> {
        let mut places = BTreeMap::new();
        // With the zero at its end.
        let longest = names.iter().map(|name| name.len() + 1).max().unwrap_or(0);
        let size = texts.size.min(NAMES);
        let mut looked = 0;
        self.file
            .each(texts.offset, size, longest, |begin, bytes, _| {
                let mut from = 0;
                while let Some(at) = find(&bytes[from..], prefix.as_bytes()) {
                    from += at;
                    looked += 1;
                    let rest = &bytes[from..];
                    let is_here = |name: &&&str| {
                        rest.starts_with(name.as_bytes()) && rest.get(name.len()) == Some(&0)
                    };
                    if let Some(name) = names.iter().find(is_here)
                        && let Ok(place) = u32::try_from(begin + from as u64)
                    {
                        places.insert(place, *name);
                    }
                    from += prefix.len();
                }
                match looked {
                    0..OCCURRENCES => ControlFlow::Continue(()),
                    _ => ControlFlow::Break(()),
                }
            })?;
        Ok(places)
    }

    /// Enters the symbols with names at these places that are not found yet.
    fn look_up<'n>(
        &self,
        table: &Section,
        places: &BTreeMap<u32, &'n str>,
        found: &mut BTreeMap<&'n str, Symbol>,
    ) -> io::Result<()> {
        let (Some((&first, _)), Some((&last, _))) =
            (places.first_key_value(), places.last_key_value())
        else {
            return Ok(());
        };
        let size = table.size.min(SYMBOLS);
        self.file.each(table.offset, size, 0, |_, bytes, _| {
            for symbol in bytes.chunks_exact(SYMBOL) {
                let at = word(symbol, 0);
                if (first..=last).contains(&at)
                    && is_definition(symbol)
                    && let Some(name) = places.get(&at)
                {
                    found.entry(name).or_insert(Symbol {
                        address: long(symbol, 8),
                        size: long(symbol, 16),
                    });
                }
            }
            ControlFlow::Continue(())
        })
    }
}

/// Is a symbol a function or object of the file's own? Type and section tell.
fn is_definition(symbol: &[u8]) -> bool {
    // STT_NOTYPE (of some length), STT_OBJECT, STT_FUNC; SHN_UNDEF
    let is_kind = match symbol[4] & 0xf {
        0 => long(symbol, 16) != 0,
        kind => kind <= 2,
    };
    is_kind && short(symbol, 6) != 0
}

// The members of a table's entry, which is whole.

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(member(bytes, at))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(member(bytes, at))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(member(bytes, at))
}

fn member<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut member = [0; N];
    member.copy_from_slice(&bytes[at..at + N]);
    member
}

#[cfg(test)]
pub(super) mod tests;
