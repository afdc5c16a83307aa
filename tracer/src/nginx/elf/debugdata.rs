//! `.gnu_debugdata`: the table of symbols of a stripped program, as an ELF file compressed by `xz`.
//!
//! Of the format (<https://tukaani.org/xz/xz-file-format.txt>) only what `xz` writes by itself is
//! read: the first block, of LZMA2 alone. What is made of it, and with it the dictionary, is
//! bounded, whatever the file claims.

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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A section of these chunks.
    fn section(flags: u8, header: &[u8], chunks: &[u8]) -> Vec<u8> {
        let mut section = MAGIC.to_vec();
        section.resize(STREAM_HEADER, 0);
        let mut block = vec![3, flags];
        block.extend(header);
        block.resize(16, 0);
        section.extend(block);
        section.extend(chunks);
        section.push(0);
        section
    }

    /// A section that holds these bytes as they are.
    pub(in super::super) fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut chunks = Vec::new();
        for (at, bytes) in bytes.chunks(1 << 16).enumerate() {
            chunks.push(if at == 0 { 1 } else { 2 });
            chunks.extend((bytes.len() as u16).wrapping_sub(1).to_be_bytes());
            chunks.extend(bytes);
        }
        section(0, &[0x21, 1, 22], &chunks)
    }

    /// 64 KiB of zeros, as `xz` packs them.
    const ZEROS: [u8; 83] = [
        0xe0, 0xff, 0xff, 0x00, 0x4c, 0x5d, 0x00, 0x00, 0x6f, 0xfd, 0xff, 0xff, 0xa3, 0xb7, 0xff,
        0x47, 0x3e, 0x48, 0x15, 0x72, 0x39, 0x61, 0x51, 0xb8, 0x92, 0x28, 0xe6, 0xa3, 0x86, 0x07,
        0xf9, 0xee, 0xe4, 0x1e, 0x82, 0xd3, 0x2f, 0xc5, 0x3a, 0x3c, 0x01, 0x4b, 0xb1, 0x7e, 0xc9,
        0x8a, 0x8a, 0x4d, 0x2f, 0xa3, 0x0d, 0xd9, 0x7f, 0xa6, 0xe3, 0x8c, 0x23, 0x11, 0x53, 0xe0,
        0x59, 0x18, 0xc5, 0x75, 0x8a, 0xe2, 0x77, 0xf8, 0xb6, 0x94, 0x7f, 0x0c, 0x6a, 0xc0, 0xde,
        0x74, 0x49, 0x64, 0x5c, 0x9e, 0x3a, 0xd1, 0x00,
    ];

    #[test]
    fn what_is_packed_comes_out() {
        assert_eq!(unpack(&pack(b"abc")), b"abc");
        let many = b"0123456789".repeat(10_000);
        assert_eq!(unpack(&pack(&many)), many);
        for (flags, header) in [
            (HAS_PACKED_SIZE, &[0x85, 0x02, 0x21, 1, 22][..]),
            (HAS_SIZE | HAS_PACKED_SIZE, &[5, 0x85, 0x02, 0x21, 1, 22]),
        ] {
            assert_eq!(unpack(&section(flags, header, &ZEROS)), [0; 1 << 16]);
        }
    }

    #[test]
    fn no_more_comes_out_than_the_limit() {
        // Whatever dictionary it claims to need.
        let bomb = section(0, &[0x21, 1, 40], &ZEROS.repeat(1000));
        assert!(bomb.len() as u64 <= PACKED);
        assert_eq!(unpack(&bomb).len(), UNPACKED as usize);
    }

    #[test]
    fn anything_else_gives_nothing() {
        let sound = pack(b"abc");
        // Magic, length of the header, flags, filter, its length, and the chunk's kind.
        for at in [0, 12, 13, 14, 15, 28] {
            let mut other = sound.clone();
            other[at] ^= 0x16;
            assert_eq!(unpack(&other), b"", "{at}");
        }
        for length in 0..sound.len() {
            assert_eq!(unpack(&sound[..length]), b"", "{length}");
        }
    }
}
