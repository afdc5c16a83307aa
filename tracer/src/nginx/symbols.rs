//! Functions of an ELF file by name: where a uprobe goes.
//!
//! nginx is linked with `-Wl,-E`, so its non-static functions stay in `.dynsym` of a stripped build; `.symtab` is for
//! static builds. A file from a container is not trusted: it is read piece by piece, bounded, and never mapped.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _, ReadCache, ReadRef};

use crate::process;

/// No program of ours is larger; a sparse file may be.
const FILE_LIMIT: u64 = 1 << 30;

/// The file offsets of these functions, as a uprobe takes them; an absent function is absent from the map.
///
/// # Errors
/// The file cannot be opened (a process that vanished), or is no ELF file.
pub fn offsets(path: &Path, names: &[&str]) -> Result<BTreeMap<String, u64>> {
    let cache = open(path)?;
    let elf = parse(&cache, path)?;
    let mut offsets = BTreeMap::new();
    for name in names {
        if let Some(address) = address(&elf, name)
            && let Some(offset) = file_offset(&elf, address)
        {
            offsets.insert((*name).to_owned(), offset);
        }
    }
    Ok(offsets)
}

pub(super) fn open(path: &Path) -> Result<ReadCache<Pieces>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    ensure!(
        length <= FILE_LIMIT,
        "{} is too large for a program",
        path.display()
    );
    Ok(ReadCache::new(Pieces {
        file,
        length,
        at: 0,
        pieces: Default::default(),
    }))
}

/// A file, read a piece at a time: an ELF file's reader asks for each name by itself, thousands of them.
pub(super) struct Pieces {
    file: File,
    length: u64,
    at: u64,
    /// The last two, of late first: a symbol and its name lie apart.
    pieces: [Piece; 2],
}

#[derive(Default)]
struct Piece {
    begin: u64,
    bytes: Vec<u8>,
}

impl Piece {
    fn holds(&self, at: u64) -> bool {
        (self.begin..self.begin + self.bytes.len() as u64).contains(&at)
    }

    fn read(&mut self, file: &File, at: u64) -> io::Result<()> {
        self.begin = at - at % PIECE;
        self.bytes.resize(PIECE as usize, 0);
        let length = file.read_at(&mut self.bytes, self.begin);
        self.bytes.truncate(*length.as_ref().unwrap_or(&0));
        length.map(drop)
    }
}

/// Bytes; the names of nginx's functions are fewer.
const PIECE: u64 = 128 << 10;

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.pieces[0].holds(self.at) {
            self.pieces.swap(0, 1);
            if !self.pieces[0].holds(self.at) {
                self.pieces[0].read(&self.file, self.at)?;
            }
        }
        let piece = &self.pieces[0];
        let inside = usize::try_from(self.at - piece.begin).unwrap_or(usize::MAX);
        let rest = piece.bytes.get(inside..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Pieces {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

pub(super) fn parse<'a, R: Read + Seek>(
    cache: &'a ReadCache<R>,
    path: &Path,
) -> Result<object::File<'a, &'a ReadCache<R>>> {
    object::File::parse(cache).with_context(|| format!("read {} as ELF", path.display()))
}

/// The address that the file gives a defined function or object.
pub(super) fn address<'a, R: ReadRef<'a>>(elf: &object::File<'a, R>, name: &str) -> Option<u64> {
    elf.dynamic_symbols()
        .chain(elf.symbols())
        .find(|symbol| symbol.is_definition() && symbol.name_bytes() == Ok(name.as_bytes()))
        .map(|symbol| symbol.address())
}

/// Where a function or object begins in the memory of a process that runs the file, and its length.
pub(super) fn in_process(pid: u32, path: &Path, name: &str) -> Option<(u64, u64)> {
    let cache = open(path).ok()?;
    let elf = parse(&cache, path).ok()?;
    let symbol = elf
        .dynamic_symbols()
        .chain(elf.symbols())
        .find(|symbol| symbol.is_definition() && symbol.name_bytes() == Ok(name.as_bytes()))?;
    let first = elf
        .segments()
        .find_map(|segment| (segment.file_range().0 == 0).then(|| segment.address()))?;
    let start = first_mapping(pid, path)?;
    Some((
        start.wrapping_sub(first).wrapping_add(symbol.address()),
        symbol.size(),
    ))
}

/// Where a process maps the first byte of the file that it runs.
fn first_mapping(pid: u32, exe: &Path) -> Option<u64> {
    let path = std::fs::read_link(exe).ok()?;
    let maps = process::read_start(format!("/proc/{pid}/maps"), 1 << 20).ok()?;
    let maps = String::from_utf8_lossy(&maps);
    maps.lines().find_map(|line| {
        let mut fields = line.splitn(6, ' ');
        let start = fields.next()?.split('-').next()?;
        let is_first = u64::from_str_radix(fields.nth(1)?, 16).ok()? == 0;
        let name = fields.nth(2)?.trim_start();
        (is_first && path.to_str() == Some(name))
            .then(|| u64::from_str_radix(start, 16).ok())
            .flatten()
    })
}

fn file_offset<'a, R: ReadRef<'a>>(elf: &object::File<'a, R>, address: u64) -> Option<u64> {
    elf.segments().find_map(|segment| {
        let (start, length) = segment.file_range();
        let inside = address.checked_sub(segment.address())?;
        (inside < length).then(|| start.checked_add(inside))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_this_program_lies_where_its_bytes_are() {
        let own = std::env::current_exe().unwrap();
        let found = offsets(&own, &["main", "no_such_function"]).unwrap();
        assert_eq!(found.len(), 1);
        let file = std::fs::read(&own).unwrap();
        let cache = open(&own).unwrap();
        let elf = parse(&cache, &own).unwrap();
        let address = address(&elf, "main").unwrap();
        let code = elf
            .segments()
            .find_map(|segment| segment.data_range(address, 16).ok().flatten())
            .unwrap();
        let at = usize::try_from(found["main"]).unwrap();
        assert_eq!(&file[at..at + 16], code);
    }

    #[test]
    fn a_file_that_is_no_program_is_an_error() {
        assert!(offsets(Path::new("/proc/self/status"), &["main"]).is_err());
        assert!(offsets(Path::new("/no/such/file"), &["main"]).is_err());
    }
}
