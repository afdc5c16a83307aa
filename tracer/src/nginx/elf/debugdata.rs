//! `.gnu_debugdata`: the table of symbols of a stripped program, as an ELF file compressed by `xz`.
//!
//! Of the format (<https://tukaani.org/xz/xz-file-format.txt>) only what `xz` writes by itself is read: the first block, of
//! LZMA2 alone. What is made of it, and with it the dictionary, is bounded, whatever the file claims.

use std::io::Read as _;

use lzma_rust2::Lzma2Reader;

/// Bytes of a section that are read; distributions' nginx have some ten thousand.
pub(super) const PACKED: u64 = 2 << 20;
/// Bytes that are made of it.
const UNPACKED: u32 = 8 << 20;

const MAGIC: &[u8] = b"\xfd7zXZ\0";
const STREAM_HEADER: usize = 12;
/// In a block's flags: its sizes are given.
const HAS_PACKED_SIZE: u8 = 0x40;
const HAS_SIZE: u8 = 0x80;
/// The only filter, and the length of its properties.
const LZMA2: [u8; 2] = [0x21, 1];

/// The file within; as much of it as is sound.
pub(super) fn unpack(section: &[u8]) -> Vec<u8> {
    let Some(packed) = block(section) else {
        return Vec::new();
    };
    let mut bytes = Vec::new();
    // No more can be referred to than was made: a larger dictionary is of no use.
    let reader = Lzma2Reader::new(packed, UNPACKED, None);
    match reader.take(UNPACKED.into()).read_to_end(&mut bytes) {
        Ok(_) => bytes,
        Err(_) => Vec::new(),
    }
}

/// The compressed data of the first block.
fn block(section: &[u8]) -> Option<&[u8]> {
    let rest = section.get(STREAM_HEADER..)?;
    if !section.starts_with(MAGIC) {
        return None;
    }
    let length = (usize::from(*rest.first()?) + 1) * 4;
    let (mut header, packed) = rest.split_at_checked(length)?;
    let flags = *header.get(1)?;
    header = header.get(2..)?;
    if flags & !(HAS_PACKED_SIZE | HAS_SIZE) != 0 {
        return None;
    }
    for size in [HAS_PACKED_SIZE, HAS_SIZE] {
        if flags & size != 0 {
            let last = header.iter().position(|byte| byte & 0x80 == 0)?;
            header = header.get(last + 1..)?;
        }
    }
    header.starts_with(&LZMA2).then_some(packed)
}
