//! A frame: a self-contained piece of the file, with its own length and checksums.
//!
//! All integers little-endian:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 4 | marker `F1 'T' 'R' 'F'` |
//! | 4 | 2 | length of this head, 52; a later minor version may add members before its checksum |
//! | 6 | 1 | kind: 1 events, 2 state, 3 end |
//! | 7 | 1 | how the payload is stored: 0 as it is, 1 zstd |
//! | 8 | 4 | bytes stored |
//! | 12 | 4 | bytes of the payload |
//! | 16 | 4 | events in it |
//! | 20 | 8 | number of its first event, counted over the whole run |
//! | 28 | 8 | earliest time in it, nanoseconds since boot |
//! | 36 | 8 | latest time in it |
//! | 44 | 4 | CRC-32 of the stored bytes |
//! | 48 | 4 | CRC-32 of the head before this |

use bytes::{Buf, BufMut};

use crate::event::Time;

/// What a frame begins with.
pub(super) const MARKER: [u8; 4] = [0xf1, b'T', b'R', b'F'];
/// Bytes of a head.
pub(super) const HEAD: usize = 52;
/// A payload is no larger; what claims to be is damaged.
pub(super) const PAYLOAD_LIMIT: usize = 16 << 20;
/// Heads of later versions are no longer than this.
pub(super) const HEAD_LIMIT: usize = 4096;
const AS_IS: u8 = 0;
const ZSTD: u8 = 1;
/// zstd's level: 3 is its default, and as dense as 9 within a tenth here.
const LEVEL: i32 = 3;

/// Events of the stream, in order.
pub(super) const EVENTS: u8 = 1;
/// What held when the events after it began: workers, hooks, losses so far. For who reads from here
/// on.
pub(super) const STANDING: u8 = 2;
/// How the file ended, and its index.
pub(super) const END: u8 = 3;

/// What a frame says about its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: u8,
    pub(super) events: u32,
    /// The number of its first event within the run.
    pub(super) sequence: u64,
    pub(super) from: Time,
    pub(super) to: Time,
    stored_as: u8,
    pub(super) stored: u32,
    payload: u32,
    checksum: u32,
    /// Bytes of the head itself.
    pub(super) length: usize,
}

/// The whole frame as bytes.
pub(super) fn frame(
    kind: u8,
    events: u32,
    sequence: u64,
    (from, to): (Time, Time),
    payload: &[u8],
) -> std::io::Result<Vec<u8>> {
    let packed = zstd::bulk::compress(payload, LEVEL)?;
    let (stored_as, stored) = if packed.len() < payload.len() {
        (ZSTD, packed.as_slice())
    } else {
        (AS_IS, payload)
    };
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(std::io::Error::other);
    let mut out = Vec::with_capacity(HEAD + stored.len());
    out.put_slice(&MARKER);
    out.put_u16_le(HEAD as u16);
    out.put_u8(kind);
    out.put_u8(stored_as);
    out.put_u32_le(length(stored)?);
    out.put_u32_le(length(payload)?);
    out.put_u32_le(events);
    out.put_u64_le(sequence);
    out.put_u64_le(from.0);
    out.put_u64_le(to.0);
    out.put_u32_le(crc32fast::hash(stored));
    out.put_u32_le(crc32fast::hash(&out));
    out.put_slice(stored);
    Ok(out)
}

/// What `bytes` begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A whole and sound head.
    Head(Head),
    /// The bytes end before the head does.
    Short,
    /// No head, or a damaged one.
    Nothing,
}

/// Looks for a head at the beginning of `bytes`.
pub(super) fn head(bytes: &[u8]) -> Found {
    if bytes.len() < HEAD {
        return if bytes.starts_with(&MARKER[..bytes.len().min(4)]) {
            Found::Short
        } else {
            Found::Nothing
        };
    }
    let mut buf = &bytes[4..];
    let length = usize::from(buf.get_u16_le());
    if !bytes.starts_with(&MARKER) || !(HEAD..=HEAD_LIMIT).contains(&length) {
        return Found::Nothing;
    }
    let Some((body, checksum)) = bytes
        .get(..length)
        .and_then(|head| head.split_last_chunk::<4>())
    else {
        return Found::Short;
    };
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Found::Nothing;
    }
    let (kind, stored_as) = (buf.get_u8(), buf.get_u8());
    let (stored, payload, events) = (buf.get_u32_le(), buf.get_u32_le(), buf.get_u32_le());
    let sequence = buf.get_u64_le();
    let (from, to) = (Time(buf.get_u64_le()), Time(buf.get_u64_le()));
    let checksum = buf.get_u32_le();
    if payload as usize > PAYLOAD_LIMIT || stored as usize > PAYLOAD_LIMIT {
        return Found::Nothing;
    }
    Found::Head(Head {
        kind,
        events,
        sequence,
        from,
        to,
        stored_as,
        stored,
        payload,
        checksum,
        length,
    })
}

/// The payload of what was stored after `head`, into `out`. `false`: it is damaged.
pub(super) fn payload(head: &Head, stored: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    if crc32fast::hash(stored) != head.checksum {
        return false;
    }
    match head.stored_as {
        AS_IS => out.extend_from_slice(stored),
        ZSTD => {
            // Not filled with zeros first: a small frame may claim much.
            out.reserve(head.payload as usize);
            let unpacked = zstd::bulk::Decompressor::new()
                .and_then(|mut zstd| zstd.decompress_to_buffer(stored, out));
            if !unpacked.is_ok_and(|length| length == head.payload as usize) {
                return false;
            }
        }
        _ => return false,
    }
    true
}
