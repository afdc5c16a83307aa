//! Captures made by hand (docs/capture-format.md): sound by their checksums, and otherwise as no
//! tracer would write them.

use std::path::Path;
use std::{fs, io};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// A capture being made.
#[derive(Debug)]
pub struct Crafted {
    bytes: Vec<u8>,
    sequence: u64,
}

/// Wall clock at boot time 0, in nanoseconds.
pub const WALL: u64 = 1_790_000_000_000_000_000;

/// A varint.
pub fn number(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A difference, zigzag.
pub fn difference(value: i64) -> Vec<u8> {
    number(((value << 1) ^ (value >> 63)) as u64)
}

/// Bytes after their length.
pub fn piece(bytes: &[u8]) -> Vec<u8> {
    [number(bytes.len() as u64), bytes.to_vec()].concat()
}

/// A section of a page.
pub fn section(kind: u64, bytes: &[u8]) -> Vec<u8> {
    [number(kind), piece(bytes)].concat()
}

/// Connections by columns: number and cells.
pub fn connections(count: u64, texts: &[&str], columns: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut out = [number(count), number(texts.len() as u64)].concat();
    for text in texts {
        out.extend(piece(text.as_bytes()));
    }
    for (column, cells) in columns {
        out.extend(section(*column, cells));
    }
    section(2, &out)
}

impl Crafted {
    /// Begins one whose header has these members besides, or instead of, its own.
    pub fn new(members: &Value) -> Result<Self> {
        let mut header = json!({
            "run": "r1", "part": 0, "clock": {"boot": 0, "wall": WALL}, "host": "web1",
        });
        let own = header.as_object_mut().context("an object")?;
        own.extend(members.as_object().context("an object")?.clone());
        Ok(Self::begun(&serde_json::to_vec(&header)?))
    }

    /// Begins one with these members, as they are, besides.
    pub fn with_header(members: &str) -> Self {
        let own = format!(r#"{{"run":"r1","clock":{{"boot":0,"wall":{WALL}}},"#);
        Self::begun(
            [own.as_bytes(), members.as_bytes(), b"}"]
                .concat()
                .as_slice(),
        )
    }

    fn begun(json: &[u8]) -> Self {
        let mut bytes = b"\x93TRACE\r\n\x01\0\0\0".to_vec();
        bytes.extend((json.len() as u32).to_le_bytes());
        bytes.extend(json);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        Self { bytes, sequence: 0 }
    }

    /// A frame: its kind, how many events it claims, its payload.
    pub fn frame(&mut self, kind: u8, events: u64, payload: &[u8]) -> Result<()> {
        let stored = zstd::bulk::compress(payload, 3)?;
        self.stored(kind, events, &stored, payload.len() as u32);
        Ok(())
    }

    /// A frame that claims its payload to be so long.
    pub fn stored(&mut self, kind: u8, events: u64, stored: &[u8], claimed: u32) {
        let mut head = b"\xf1TRF\x34\0".to_vec();
        head.extend([kind, 1]);
        head.extend((stored.len() as u32).to_le_bytes());
        head.extend(claimed.to_le_bytes());
        head.extend((events as u32).to_le_bytes());
        head.extend(self.sequence.to_le_bytes());
        head.extend([0; 16]);
        head.extend(crc32fast::hash(stored).to_le_bytes());
        head.extend(crc32fast::hash(&head).to_le_bytes());
        self.bytes.extend(head);
        self.bytes.extend(stored);
        self.sequence += events;
    }

    /// Rows in their order, kind and JSON, in frames of some thousand.
    pub fn rows(&mut self, rows: impl IntoIterator<Item = (u64, String)>) -> Result<()> {
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let (mut order, mut count, mut bytes) = (Vec::new(), 0, 0);
            let mut sections: Vec<(u64, Vec<u8>)> = Vec::new();
            while count < 4000
                && bytes < 4 << 20
                && let Some((kind, row)) = rows.next()
            {
                let row = piece(row.as_bytes());
                bytes += row.len();
                match sections.iter_mut().find(|(known, _)| *known == kind) {
                    Some((_, bytes)) => bytes.extend(row),
                    None => sections.push((kind, row)),
                }
                order.extend([number(kind), number(1)].concat());
                count += 1;
            }
            let mut page = section(0, &order);
            for (kind, bytes) in sections {
                page.extend(section(kind, &bytes));
            }
            self.frame(1, count, &page)?;
        }
        Ok(())
    }

    /// A frame of one kind's events, which its section has.
    pub fn page(&mut self, kind: u64, events: u64, sections: &[u8]) -> Result<()> {
        let order = section(0, &[number(kind), number(events)].concat());
        self.frame(1, events, &[&order, sections].concat())
    }

    /// Whatever bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Ends it; gives its size.
    pub fn write(mut self, path: &Path) -> Result<usize> {
        self.frame(3, 0, br#"{"ended":10,"index":[]}"#)?;
        let written: io::Result<()> = fs::write(path, &self.bytes);
        written.with_context(|| format!("writing {}", path.display()))?;
        Ok(self.bytes.len())
    }
}
