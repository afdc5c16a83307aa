//! Integers in a page: LEB128 varints, one after the other, each relative to something the decoder
//! knows already.
//!
//! Reading past the end gives `None`, never a panic: the page is damaged then.

/// Appends a varint.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a varint; bits beyond 64 are dropped.
#[inline]
pub(super) fn take(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    *at += 1;
    if first < 0x80 {
        return Some(u64::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    let mut shift = 7;
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if shift < 64 {
            value |= u64::from(byte & 0x7f) << shift;
        }
        if byte < 0x80 {
            return Some(value);
        }
        shift += 7;
    }
}

/// Takes a length-prefixed piece.
pub(super) fn take_piece<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let length = usize::try_from(take(bytes, at)?).ok()?;
    let end = at.checked_add(length)?;
    let piece = bytes.get(*at..end)?;
    *at = end;
    Some(piece)
}

/// A difference as a small number, whichever its sign: 0, −1, 1, −2, … become 0, 1, 2, 3, ….
#[inline]
pub(super) fn difference(value: u64, base: u64) -> u64 {
    let signed = value.wrapping_sub(base) as i64;
    ((signed << 1) ^ (signed >> 63)) as u64
}

/// The inverse of [`difference`].
#[inline]
pub(super) fn apply(base: u64, cell: u64) -> u64 {
    let signed = (cell >> 1) as i64 ^ -((cell & 1) as i64);
    base.wrapping_add(signed as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_varint_comes_back(value: u64) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let mut at = 0;
            prop_assert_eq!(take(&bytes, &mut at), Some(value));
            prop_assert_eq!(at, bytes.len());
            bytes.pop();
            prop_assert_eq!(take(&bytes, &mut 0), None);
        }

        #[test]
        fn a_difference_comes_back(value: u64, base: u64) {
            prop_assert_eq!(apply(base, difference(value, base)), value);
        }
    }
}
