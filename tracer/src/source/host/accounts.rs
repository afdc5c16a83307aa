//! Names of users and groups, from the worker's own `/etc/passwd` and `/etc/group`.
//!
//! Read as files and not through the C library: a name service may ask the network, which is what is in trouble.

use std::path::Path;

use crate::process::read_start;

const LIMIT: u64 = 1 << 20;

/// The accounts of one root directory.
#[derive(Debug)]
pub(super) struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Those below `root`; a file that is absent names nobody.
    pub(super) fn of(root: &Path) -> Self {
        let read = |name: &str| {
            // Were it a link, it would lead out of the worker's root.
            let path = root.join("etc").join(name);
            let plain = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
            let bytes = if plain {
                read_start(path, LIMIT).ok()
            } else {
                None
            };
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        };
        Self {
            passwd: read("passwd"),
            group: read("group"),
        }
    }

    pub(super) fn user(&self, uid: u32) -> Option<String> {
        name(&self.passwd, uid)
    }

    pub(super) fn group(&self, gid: u32) -> Option<String> {
        name(&self.group, gid)
    }
}

/// `NAME:x:NUMBER:…`, in both files.
fn name(text: &str, number: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n# a comment\nwww-data:x:33:33::/var/www:\n";
        assert_eq!(name(passwd, 33).as_deref(), Some("www-data"));
        assert_eq!(name(passwd, 34), None);
        let accounts = Accounts::of(Path::new("/proc/self/root"));
        assert_eq!(accounts.group(0).as_deref(), Some("root"));
        assert_eq!(Accounts::of(Path::new("/no/such/root")).user(0), None);
    }
}
