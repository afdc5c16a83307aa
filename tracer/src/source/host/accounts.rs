//! Names of users and groups, from the worker's own `/etc/passwd` and `/etc/group`, by the numbers
//! that its user namespace gives them.
//!
//! Read as files and not through the C library: a name service may ask the network, which is what
//! is in trouble.

use std::path::Path;

use crate::{
    event::fact::Inside,
    process::{Ids, foreign},
};

const LIMIT: u64 = 1 << 20;

/// The accounts of a worker's root.
#[derive(Debug)]
pub(super) struct Accounts {
    passwd: String,
    group: String,
    /// Of a user namespace that is not the host's.
    ids: Option<Ids>,
}

impl Accounts {
    /// Those that a process has; a file that is absent, or does not answer, names nobody.
    pub(super) fn of(pid: u32) -> Self {
        let read = |path: &str| {
            let bytes = foreign::read_path(pid, Path::new(path), LIMIT).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Self {
            passwd: read("/etc/passwd"),
            group: read("/etc/group"),
            ids: Ids::of(pid).ok().flatten(),
        }
    }

    /// The name of a user of the host.
    pub(super) fn user(&self, uid: u32) -> Option<String> {
        let inside = self.ids.as_ref().map_or(Some(uid), |ids| ids.user(uid))?;
        name(&self.passwd, inside)
    }

    /// The name of a group of the host.
    pub(super) fn group(&self, gid: u32) -> Option<String> {
        let inside = self.ids.as_ref().map_or(Some(gid), |ids| ids.group(gid))?;
        name(&self.group, inside)
    }

    /// How the worker numbers them, where that is not as the host does.
    pub(super) fn inside(&self, uid: u32, gid: u32) -> Option<Inside> {
        self.ids.as_ref().map(|ids| Inside {
            uid: ids.user(uid),
            gid: ids.group(gid),
        })
    }

    /// Its user namespace, where that is not the host's.
    pub(super) fn ids(&self) -> Option<&Ids> {
        self.ids.as_ref()
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

/// See [`super::read_proc`].
pub(super) fn read(text: &str) {
    let _ = name(text, 33);
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::source::host::path_walk::{Contained, Directory};

    #[test]
    fn names_are_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n# a comment\nwww-data:x:33:33::/var/www:\n";
        assert_eq!(name(passwd, 33).as_deref(), Some("www-data"));
        assert_eq!(name(passwd, 34), None);
        let accounts = Accounts::of(std::process::id());
        assert_eq!(accounts.group(0).as_deref(), Some("root"));
        assert_eq!(Accounts::of(u32::MAX).user(0), None);
    }

    #[test]
    fn links_are_followed_within_the_worker_s_root() {
        let outside = Directory::new("accounts-outside");
        let inside = Directory::new("accounts-inside");
        fs::write(outside.file("passwd"), "outside:x:33:33::/:\n").unwrap();
        fs::write(outside.file("group"), "outside:x:33:\n").unwrap();
        // The folder is an absolute link, as the host's it would lead to the host's.
        symlink(&outside.0, inside.file("etc")).unwrap();
        let Some(worker) = Contained::within(&inside) else {
            println!("SKIPPED: links_are_followed_within_the_worker_s_root: needs root");
            return;
        };
        assert_eq!(Accounts::of(worker.0).user(33), None);
        let same = outside.0.strip_prefix("/").unwrap();
        fs::create_dir_all(inside.0.join(same)).unwrap();
        fs::write(
            inside.0.join(same).join("shadow-less"),
            "inside:x:33:33::/:\n",
        )
        .unwrap();
        symlink("shadow-less", inside.0.join(same).join("passwd")).unwrap();
        assert_eq!(Accounts::of(worker.0).user(33).as_deref(), Some("inside"));
    }
}
