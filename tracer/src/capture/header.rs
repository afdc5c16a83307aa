//! What a capture begins with: who recorded what, where and when.
//!
//! Magic, major and minor version, length, JSON, CRC-32 of all of it. A reader takes every minor
//! version of its major one; members that it does not know are passed over, those it misses have a
//! default.

use std::{
    fmt,
    io::{self, Read, Write},
    marker::PhantomData,
};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use thiserror::Error;

use crate::event::Clock;

/// The first bytes of a capture. The first is no text, the last two show a file that was mangled as
/// text.
pub(super) const MAGIC: [u8; 8] = *b"\x93TRACE\r\n";
/// Readers of another major version can not read it.
pub(crate) const MAJOR: u16 = 1;
/// Additions that readers may pass over.
pub(crate) const MINOR: u16 = 0;
const FIXED: usize = 16;
const LENGTH_LIMIT: usize = 1 << 20;

/// A list of the header, which is kept and shown as long as the run is read, is no longer than one
/// that a host fills.
const FEW: usize = 1024;

/// Reads a list as far as it is kept.
fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(list: D) -> Result<Vec<T>, D::Error> {
    struct Few<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut each: A) -> Result<Vec<T>, A::Error> {
            let mut first = Vec::new();
            while first.len() < FEW
                && let Some(one) = each.next_element()?
            {
                first.push(one);
            }
            while each.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first)
        }
    }

    list.deserialize_seq(Few(PhantomData))
}

/// The header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Names the run of `tracer record`: all its files share it.
    pub run: String,
    /// Which file of the run, from 0 on.
    #[serde(default)]
    pub part: u64,
    /// Both clocks at one moment, nanoseconds: every time in the file is one since boot.
    pub clock: Clock,
    /// Seconds east of UTC of the host's own zone then.
    #[serde(default)]
    pub utc_offset: i32,
    /// The host's name.
    #[serde(default)]
    pub host: String,
    /// `/proc/sys/kernel/random/boot_id`.
    #[serde(default)]
    pub boot_id: String,
    /// The kernel.
    #[serde(default)]
    pub kernel: Kernel,
    /// Every nginx that ran when recording began.
    #[serde(default, deserialize_with = "few")]
    pub nginx: Vec<Nginx>,
    /// The hooks.
    #[serde(default)]
    pub hooks: HooksAtStart,
    /// The version of tracer that wrote it.
    #[serde(default)]
    pub tracer: String,
    /// Its command line.
    #[serde(default, deserialize_with = "few")]
    pub command: Vec<String>,
    /// Client addresses and request lines were replaced.
    #[serde(default)]
    pub anonymized: bool,
}

/// A kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kernel {
    /// `uname -r`.
    #[serde(default)]
    pub release: String,
    /// `uname -m`.
    #[serde(default)]
    pub machine: String,
    /// Its BTF: the file's size and CRC-32, as `SIZE-CRC` in hexadecimal.
    #[serde(default)]
    pub btf: String,
}

/// One nginx.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Nginx {
    /// Its master's pid on the host.
    #[serde(default)]
    pub master: u32,
    /// `nginx/1.22.1`, where the binary contains it.
    #[serde(default)]
    pub version: Option<String>,
    /// The binary's path as the process sees it.
    #[serde(default)]
    pub binary: String,
    /// How many workers it had.
    #[serde(default)]
    pub workers: usize,
    /// How its functions and members were found, and what is lost without the others: a line each.
    #[serde(default, deserialize_with = "few")]
    pub found: Vec<String>,
}

/// How the hooks came out when recording began. Later changes are events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HooksAtStart {
    /// Names of those that were attached.
    #[serde(default, deserialize_with = "few")]
    pub standing: Vec<String>,
    /// Names of those that did not.
    #[serde(default, deserialize_with = "few")]
    pub absent: Vec<String>,
}

/// Why a file can not be read at all. The words go after the file's name.
#[derive(Debug, Error)]
pub enum HeaderError {
    /// No byte.
    #[error("is empty: nothing was recorded")]
    Empty,
    /// Something else.
    #[error("is not a capture of `tracer record`")]
    NotACapture,
    /// Written by another version.
    #[error(
        "is a capture of format {0}, and this tracer reads format {MAJOR}: use the tracer that recorded it, or a later one"
    )]
    Version(u16),
    /// The header's checksum is wrong.
    #[error("is a capture with a damaged header: without it nothing in it can be told")]
    Damaged,
    /// The header is not all there.
    #[error("is a capture that ends within its header: nothing was recorded")]
    Short,
    /// Reading failed.
    #[error("can not be read")]
    Io(#[from] io::Error),
}

impl Header {
    /// Writes it; gives the bytes it took.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, out: &mut impl Write) -> io::Result<u64> {
        let json = serde_json::to_vec(self)?;
        let mut bytes = Vec::with_capacity(json.len() + FIXED + 4);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&MAJOR.to_le_bytes());
        bytes.extend_from_slice(&MINOR.to_le_bytes());
        let length = u32::try_from(json.len()).map_err(io::Error::other)?;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&json);
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        out.write_all(&bytes)?;
        Ok(bytes.len() as u64)
    }

    /// Reads it; gives also the bytes it took.
    ///
    /// # Errors
    /// See `HeaderError`.
    pub fn read(input: &mut impl Read) -> Result<(Self, u64), HeaderError> {
        let mut bytes = Vec::with_capacity(4096);
        let mut up_to = |bytes: &mut Vec<u8>, length: usize| -> io::Result<bool> {
            let missing = (length - bytes.len()) as u64;
            input.take(missing).read_to_end(bytes)?;
            Ok(bytes.len() == length)
        };
        let whole = up_to(&mut bytes, FIXED)?;
        if bytes.is_empty() {
            return Err(HeaderError::Empty);
        }
        if !bytes.starts_with(&MAGIC[..bytes.len().min(MAGIC.len())]) {
            return Err(HeaderError::NotACapture);
        }
        if !whole {
            return Err(HeaderError::Short);
        }
        let major = u16::from_le_bytes([bytes[8], bytes[9]]);
        if major != MAJOR {
            return Err(HeaderError::Version(major));
        }
        let length = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
        if length > LENGTH_LIMIT {
            return Err(HeaderError::Damaged);
        }
        if !up_to(&mut bytes, FIXED + length + 4)? {
            return Err(HeaderError::Short);
        }
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(HeaderError::Short)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return Err(HeaderError::Damaged);
        }
        let header = serde_json::from_slice(&body[FIXED..]).map_err(|_| HeaderError::Damaged)?;
        Ok((header, bytes.len() as u64))
    }
}
