//! An ELF file that anyone may have written: only what is needed is read, piece by piece, and never
//! mapped.
//!
//! All counts and lengths in it are claims. They are cut to the limits below, which real programs
//! do not reach, so a file costs at most 64 MiB of reading and a few hundred kilobytes of memory;
//! 20 MiB for a moment if it has `.gnu_debugdata`. What lies beyond a limit counts as absent. Only
//! 64-bit files of this host's byte order are read; others run no nginx that could be followed.

mod compiled;
mod debugdata;
mod pieces;

pub(super) use compiled::{Compiled, Symbol};
pub(super) use pieces::{ReadAt, find, read_bytes};

use std::{collections::BTreeMap, io, ops::ControlFlow};

use compiled::{SUFFIX, Variant};
use pieces::Pieces;

/// Bytes that are read of a table of symbols; each takes 24.
const SYMBOLS: u64 = 16 << 20;
/// Bytes that are read of the names of a table of symbols.
const NAMES: u64 = 8 << 20;
/// Bytes that are read of constants, and of code, each time.
const CONSTANTS: u64 = 16 << 20;
const CODE: u64 = 16 << 20;
/// Bytes that are read of the names of sections.
const SECTION_NAMES: usize = 64 << 10;
const SECTIONS: u64 = 1024;
const SEGMENTS: u64 = 128;
/// How often the beginning of a name is looked at in the names of a table; a build has some
/// thousands of nginx's.
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
    name: [u8; 16],
    kind: u32,
    address: u64,
    offset: u64,
    size: u64,
    link: usize,
}

/// Where a name is among the names of symbols, whose it is, and what of that.
type Places<'n> = BTreeMap<u32, (&'n str, Variant)>;

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
                .as_chunks::<SEGMENT>()
                .0
                .iter()
                .filter(|head| word(&head[..], 0) == LOAD);
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
        let heads = || table.as_chunks::<SECTION>().0.iter();
        let names = match heads().nth(names as usize) {
            Some(head) => {
                let size = usize::try_from(long(head, 32)).unwrap_or(usize::MAX);
                self.file.bytes(long(head, 24), size.min(SECTION_NAMES))?
            }
            None => Vec::new(),
        };
        let name = |at: u32| {
            let mut name = [0; 16];
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
                address: long(head, 16),
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

    /// Has `look` see the constants, as [`Pieces::each`] does, but at which address the bytes
    /// begin: `.rodata`, or all that is mapped of a file without sections.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn constants(
        &self,
        overlap: usize,
        mut look: impl FnMut(u64, &[u8], bool) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let parts: Vec<(u64, u64, u64)> = match self.named(b".rodata") {
            Some(section) => vec![(section.address, section.offset, section.size)],
            None if self.sections.is_empty() => self.mapped().collect(),
            None => Vec::new(),
        };
        let mut is_over = false;
        for (address, offset, size) in parts {
            if is_over {
                break;
            }
            let size = size.min(CONSTANTS);
            self.file
                .each(offset, size, overlap, |begin, bytes, is_last| {
                    let flow = look(address.wrapping_add(begin), bytes, is_last);
                    is_over = flow.is_break();
                    flow
                })?;
        }
        Ok(())
    }

    fn mapped(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        let part = |segment: &Segment| (segment.address, segment.offset, segment.length);
        self.segments.iter().map(part)
    }

    /// Has `look` see all code, as [`Self::constants`] does.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn codes(
        &self,
        overlap: usize,
        mut look: impl FnMut(u64, &[u8], bool),
    ) -> io::Result<()> {
        for segment in self.segments.iter().filter(|segment| segment.is_code) {
            let size = segment.length.min(CODE);
            self.file
                .each(segment.offset, size, overlap, |begin, bytes, is_last| {
                    look(segment.address.wrapping_add(begin), bytes, is_last);
                    ControlFlow::Continue(())
                })?;
        }
        Ok(())
    }

    /// The section of that name, if the file has bytes of it.
    fn named(&self, name: &[u8]) -> Option<&Section> {
        let mut wanted = [0; 16];
        wanted[..name.len()].copy_from_slice(name);
        let section = self.sections.iter().find(|section| section.name == wanted);
        section.filter(|section| section.kind != NOBITS)
    }

    /// What the functions and objects of these names were compiled to: what the file exports comes
    /// before what it only lists, be it in `.gnu_debugdata`. All names begin with `prefix`.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn symbols<'n>(
        &self,
        prefix: &str,
        names: &[&'n str],
    ) -> io::Result<BTreeMap<&'n str, Compiled>> {
        let mut found = BTreeMap::new();
        self.read_table(DYNSYM, prefix, names, &mut found)?;
        if self.table(SYMTAB).is_some() {
            self.read_table(SYMTAB, prefix, names, &mut found)?;
        } else if let Some(section) = self.named(b".gnu_debugdata") {
            let size = section.size.min(debugdata::PACKED) as usize;
            let inner = debugdata::unpack(&self.file.bytes(section.offset, size)?);
            let read = |into: &mut [u8], at: u64| Ok(read_bytes(&inner, into, at));
            if let Some(inner) = Elf::parse(&read)? {
                inner.read_table(SYMTAB, prefix, names, &mut found)?;
            }
        }
        Ok(found)
    }

    /// The function or object of this name: exported, or else listed.
    ///
    /// # Errors
    /// Those of reading the file.
    pub(super) fn symbol(&self, name: &str) -> io::Result<Option<Symbol>> {
        let mut found = BTreeMap::new();
        for kind in [DYNSYM, SYMTAB] {
            self.read_table(kind, name, &[name], &mut found)?;
            if let Some(symbol) = found.get(name).and_then(|compiled| compiled.own) {
                return Ok(Some(symbol));
            }
        }
        Ok(None)
    }

    fn table(&self, kind: u32) -> Option<&Section> {
        self.sections.iter().find(|section| section.kind == kind)
    }

    /// Enters what a table of symbols has of these names.
    fn read_table<'n>(
        &self,
        kind: u32,
        prefix: &str,
        names: &[&'n str],
        found: &mut BTreeMap<&'n str, Compiled>,
    ) -> io::Result<()> {
        if let Some(table) = self.table(kind)
            && let Some(texts) = self.sections.get(table.link)
        {
            let places = self.places(texts, prefix, names)?;
            self.look_up(table, &places, found)?;
        }
        Ok(())
    }

    /// Where these names are among the names of symbols.
    fn places<'n>(
        &self,
        texts: &Section,
        prefix: &str,
        names: &[&'n str],
    ) -> io::Result<Places<'n>> {
        let mut places = BTreeMap::new();
        // With suffix, and the zero at the end.
        let longest = names.iter().map(|name| name.len()).max().unwrap_or(0) + SUFFIX + 1;
        let size = texts.size.min(NAMES);
        let mut looked = 0;
        self.file
            .each(texts.offset, size, longest, |begin, bytes, _| {
                let mut from = 0;
                while let Some(at) = find(&bytes[from..], prefix.as_bytes()) {
                    from += at;
                    looked += 1;
                    let rest = &bytes[from..];
                    let here = names.iter().find_map(|name| {
                        let suffix = rest.strip_prefix(name.as_bytes())?;
                        let end = suffix.iter().take(SUFFIX + 1).position(|&byte| byte == 0)?;
                        Some((*name, Variant::of(&suffix[..end])?))
                    });
                    if let Some(here) = here
                        && let Ok(place) = u32::try_from(begin + from as u64)
                    {
                        places.insert(place, here);
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

    /// Enters the symbols with names at these places.
    fn look_up<'n>(
        &self,
        table: &Section,
        places: &Places<'n>,
        found: &mut BTreeMap<&'n str, Compiled>,
    ) -> io::Result<()> {
        let (Some((&first, _)), Some((&last, _))) =
            (places.first_key_value(), places.last_key_value())
        else {
            return Ok(());
        };
        let size = table.size.min(SYMBOLS);
        self.file.each(table.offset, size, 0, |_, bytes, _| {
            for symbol in bytes.as_chunks::<SYMBOL>().0 {
                let at = word(symbol, 0);
                if (first..=last).contains(&at)
                    && is_definition(symbol)
                    && let Some((name, variant)) = places.get(&at)
                {
                    let symbol = Symbol {
                        address: long(symbol, 8),
                        size: long(symbol, 16),
                    };
                    found.entry(name).or_default().add(*variant, symbol);
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
