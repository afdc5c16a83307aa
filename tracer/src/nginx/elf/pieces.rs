//! Reading a file piece by piece, within a budget.

use std::{cell::Cell, io, ops::ControlFlow};

/// Bytes that are read of one file, all in all.
const BUDGET: u64 = 64 << 20;
/// Bytes that are held at a time.
const PIECE: usize = 96 << 10;

/// Reads into a buffer from an offset, as `pread` does.
pub(in crate::nginx) type ReadAt<'a> = &'a dyn Fn(&mut [u8], u64) -> io::Result<usize>;

/// A file. Once the budget is spent, reads return nothing.
pub(super) struct Pieces<'a> {
    read: ReadAt<'a>,
    /// Bytes that may still be read.
    left: Cell<u64>,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(read: ReadAt<'a>) -> Self {
        Self {
            read,
            left: Cell::new(BUDGET),
        }
    }

    /// Has `look` see a part of the file: where in the part a piece begins, its bytes, whether it
    /// is the last one. Each begins with the `overlap` bytes that the one before ended with.
    pub(super) fn each(
        &self,
        offset: u64,
        size: u64,
        overlap: usize,
        mut look: impl FnMut(u64, &[u8], bool) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let mut bytes = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE)) + overlap];
        // Bytes kept of the piece before, and read so far.
        let (mut kept, mut done) = (0, 0);
        loop {
            let room = bytes.len() - kept;
            let wanted = usize::try_from(size - done)
                .unwrap_or(room)
                .min(room.min(PIECE));
            let Some(at) = offset.checked_add(done) else {
                return Ok(());
            };
            let read = self.fill(&mut bytes[kept..kept + wanted], at)?;
            let begin = done - kept as u64;
            done += read as u64;
            let (length, is_last) = (kept + read, read < wanted || done == size);
            if look(begin, &bytes[..length], is_last).is_break() || is_last {
                return Ok(());
            }
            kept = overlap.min(length);
            bytes.copy_within(length - kept..length, 0);
        }
    }

    /// At most `length` bytes from an offset of the file on.
    ///
    /// # Errors
    /// Those of reading it.
    pub(super) fn bytes(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let read = self.fill(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Fills as much of `into` as there is, and may be read.
    fn fill(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let allowed = usize::try_from(self.left.get()).unwrap_or(usize::MAX);
        let length = into.len().min(allowed);
        let mut done = 0;
        while done < length {
            let Some(at) = offset.checked_add(done as u64) else {
                break;
            };
            match (self.read)(&mut into[done..length], at) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // No file has bytes at offsets that do not fit into a signed number.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
                Err(error) => return Err(error),
            }
        }
        self.left.set(self.left.get() - done as u64);
        Ok(done)
    }
}

/// Reads from bytes as [`ReadAt`] does from a file.
pub(in crate::nginx) fn read_bytes(bytes: &[u8], into: &mut [u8], at: u64) -> usize {
    let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
    let rest = rest.unwrap_or_default();
    let length = rest.len().min(into.len());
    into[..length].copy_from_slice(&rest[..length]);
    length
}

/// Where `needle` begins first, in time linear in `bytes`.
pub(in crate::nginx) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    // SAFETY: both pointers are readable for the lengths given.
    let found = unsafe {
        libc::memmem(
            bytes.as_ptr().cast(),
            bytes.len(),
            needle.as_ptr().cast(),
            needle.len(),
        )
    };
    (!found.is_null()).then(|| found as usize - bytes.as_ptr() as usize)
}
