//! Numbers and times, as nginx writes them (src/core/ngx_parse.c).

use std::time::Duration;

/// A number.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// `1m30s`, `500ms`, `60`: seconds where no unit is written.
pub(crate) fn milliseconds(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    (!rest.is_empty()).then_some(())?;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[..letters] {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            _ => return None,
        };
        rest = rest[letters..].trim_start();
        total = total.checked_add(Duration::from_millis(count.checked_mul(unit)?))?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_or_are_seconds() {
        let read = |text| milliseconds(text).map(|time| time.as_millis());
        assert_eq!(read("60"), Some(60_000));
        assert_eq!(read("1m30s"), Some(90_000));
        assert_eq!(read("1h 30m"), Some(5_400_000));
        assert_eq!(read("250ms"), Some(250));
        for none in ["", "s", "1x", "$t", "99999999999999999999"] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
