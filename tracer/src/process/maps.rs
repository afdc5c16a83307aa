//! A line of `/proc/PID/maps` (`fs/proc/task_mmu.c`).

/// A mapping of a process, as its line shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping<'a> {
    /// Its first address.
    pub start: u64,
    /// The address after its last, not below `start`.
    pub end: u64,
    /// May it be executed?
    pub is_code: bool,
    /// Where in the file it begins.
    pub offset: u64,
    /// The file's path, perhaps with ` (deleted)`, or a name in brackets; empty if anonymous.
    pub path: &'a str,
}

impl<'a> Mapping<'a> {
    /// Reads `START-END PERMISSIONS OFFSET DEVICE INODE PATH`; `None` if it is no such line.
    #[must_use]
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?;
        let number = |hexadecimal| u64::from_str_radix(hexadecimal, 16).ok();
        let mapping = Self {
            start: number(start)?,
            end: number(end)?,
            is_code: permissions.contains('x'),
            offset: number(fields.next()?)?,
            path: fields.nth(2).unwrap_or_default().trim_start(),
        };
        (mapping.start <= mapping.end).then_some(mapping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_s_mapping_is_read_whatever_its_name() {
        let line = "7f0a-7f0c r-xp 00001000 fd:01 123      /srv/a b (deleted)";
        let expected = Mapping {
            start: 0x7f0a,
            end: 0x7f0c,
            is_code: true,
            offset: 0x1000,
            path: "/srv/a b (deleted)",
        };
        assert_eq!(Mapping::parse(line), Some(expected));
        let anonymous = Mapping::parse("7f0a-7f0c rw-p 00000000 00:00 0 ").unwrap();
        assert_eq!((anonymous.path, anonymous.is_code), ("", false));
    }

    #[test]
    fn what_is_no_mapping_is_none() {
        for line in [
            "",
            "7f0a",
            "7f0c-7f0a r-xp 0 0:0 0 /x",
            "x-y r-xp 0 0:0 0 /x",
        ] {
            assert_eq!(Mapping::parse(line), None, "{line}");
        }
    }
}
