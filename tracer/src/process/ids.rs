//! Users and groups as a process's user namespace numbers them (`/proc/PID/uid_map`,
//! user_namespaces(7)).

use std::io;

use super::read_start;

/// At most 340 ranges, of three numbers of ten digits.
const LIMIT: u64 = 16 * 1024;

/// The two maps of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ids {
    users: Map,
    groups: Map,
}

/// Ranges: first number inside, first on the host, how many.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Map(Vec<(u32, u32, u32)>);

impl Ids {
    /// Those of a process's user namespace; `None` where that numbers as the host does.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) fn of(pid: u32) -> io::Result<Option<Self>> {
        let ids = Self {
            users: Map::parse(&read_start(format!("/proc/{pid}/uid_map"), LIMIT)?),
            groups: Map::parse(&read_start(format!("/proc/{pid}/gid_map"), LIMIT)?),
        };
        let is_host = |map: &Map| map.0 == [(0, 0, u32::MAX)];
        Ok(Some(ids).filter(|ids| !is_host(&ids.users) || !is_host(&ids.groups)))
    }

    /// A user's number inside, by the host's; `None`: it is not mapped there.
    #[must_use]
    pub(crate) fn user(&self, host: u32) -> Option<u32> {
        self.users.inside(host)
    }

    /// The same for a group.
    #[must_use]
    pub(crate) fn group(&self, host: u32) -> Option<u32> {
        self.groups.inside(host)
    }
}

#[cfg(test)]
impl Ids {
    /// User and group 0 are these of the host, and so on.
    pub(crate) fn shifted(user: u32, group: u32, count: u32) -> Self {
        Self {
            users: Map(vec![(0, user, count)]),
            groups: Map(vec![(0, group, count)]),
        }
    }
}

impl Map {
    fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let ranges = text.lines().filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            Some((
                numbers.next()?.ok()?,
                numbers.next()?.ok()?,
                numbers.next()?.ok()?,
            ))
        });
        Self(ranges.collect())
    }

    fn inside(&self, host: u32) -> Option<u32> {
        self.0.iter().find_map(|&(inside, outside, count)| {
            let nth = host.checked_sub(outside).filter(|nth| *nth < count)?;
            inside.checked_add(nth)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rootless_container_s_numbers_are_found_by_the_host_s() {
        let map =
            Map::parse(b"         0       1000          1\n         1     100000      65536\n");
        let found = [1000, 100_000, 100_032, 165_535, 165_536, 0, 33].map(|host| map.inside(host));
        let expected = [Some(0), Some(1), Some(33), Some(65_536), None, None, None];
        assert_eq!(found, expected);
        assert_eq!(Map::parse(b"not a map\n1 2\n").inside(1), None);
        assert_eq!(
            Map::parse(b"4294967295 0 5\n").inside(1),
            None,
            "no number is that large"
        );
    }

    #[test]
    fn a_process_of_the_host_s_namespace_needs_no_map() {
        assert_eq!(Ids::of(1).unwrap(), None);
        assert!(Ids::of(u32::MAX).is_err());
    }
}
