//! What an nginx binary says of itself in its constants: its version and how it was configured.
//!
//! Read once an inode; a binary that says nothing (a wrapper, no section table) gives an empty [`Binary`].

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use object::{Object as _, ObjectSection as _};

use super::symbols;

/// More constants than any build has.
const CONSTANTS_LIMIT: u64 = 64 << 20;
/// Longer than any version, shorter than any confusion.
const VERSION_LIMIT: usize = 64;
const REMEMBERED: usize = 256;

/// A binary's device and inode number: it stays the same under all of its paths.
pub type ExeId = (u64, u64);

/// What a binary says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Binary {
    /// `nginx/1.22.1`, `openresty/1.25.3.1`, `Angie/1.5.1`, ….
    pub version: Option<String>,
    /// `--prefix` it was configured with.
    pub prefix: Option<PathBuf>,
    /// `--conf-path` it was configured with.
    pub conf: Option<PathBuf>,
}

/// Binaries already read.
#[derive(Debug, Default)]
pub struct Binaries {
    known: HashMap<ExeId, Binary>,
}

impl Binaries {
    /// The binary at a path that opens it (`/proc/PID/exe`), with its identity.
    ///
    /// # Errors
    /// It cannot be looked at: the process is gone.
    pub fn at(&mut self, path: &Path) -> io::Result<(ExeId, Binary)> {
        let metadata = fs::metadata(path)?;
        let id = (metadata.dev(), metadata.ino());
        if self.known.len() >= REMEMBERED && !self.known.contains_key(&id) {
            self.known.clear();
        }
        let binary = self.known.entry(id).or_insert_with(|| read(path));
        Ok((id, binary.clone()))
    }
}

fn read(path: &Path) -> Binary {
    constants(path).map_or_else(Binary::default, |bytes| parse(&bytes))
}

fn constants(path: &Path) -> Option<Vec<u8>> {
    let cache = symbols::open(path).ok()?;
    let elf = symbols::parse(&cache, path).ok()?;
    let section = elf.section_by_name(".rodata")?;
    (section.size() <= CONSTANTS_LIMIT).then(|| section.data().ok().map(<[u8]>::to_vec))?
}

fn parse(bytes: &[u8]) -> Binary {
    let arguments =
        after(bytes, b"configure arguments:").map(|rest| until(rest, b"\0\n", 64 << 10));
    let argument = |name: &str| {
        let value = after(arguments?, name.as_bytes())?;
        let value = until(value, b" '\"\0", 4096);
        Some(PathBuf::from(String::from_utf8_lossy(value).into_owned()))
    };
    Binary {
        version: version(bytes),
        prefix: argument(" --prefix="),
        conf: argument(" --conf-path="),
    }
}

/// From `nginx version: nginx/1.22.1` (`src/core/nginx.c`), as each fork words it: `NAME version: NAME/NUMBER`.
fn version(bytes: &[u8]) -> Option<String> {
    let mut rest = bytes;
    while let Some(next) = after(rest, b" version: ") {
        let token = until(next, b" \r\n\0\"", VERSION_LIMIT);
        let text = String::from_utf8_lossy(token);
        if let Some((name, number)) = text.split_once('/')
            && !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && number.starts_with(|first: char| first.is_ascii_digit())
        {
            return Some(text.into_owned());
        }
        rest = next;
    }
    None
}

fn after<'a>(bytes: &'a [u8], needle: &[u8]) -> Option<&'a [u8]> {
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle)?;
    bytes.get(at + needle.len()..)
}

fn until<'a>(bytes: &'a [u8], ends: &[u8], limit: usize) -> &'a [u8] {
    let bytes = &bytes[..bytes.len().min(limit)];
    let end = bytes.iter().position(|byte| ends.contains(byte));
    &bytes[..end.unwrap_or(bytes.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fork_s_constants_tell_its_version() {
        for (constants, version) in [
            ("\0nginx version: nginx/1.22.1\n\0", Some("nginx/1.22.1")),
            (
                "unknown PROXY protocol version: %ui\0nginx version: openresty/1.25.3.1 (x)\0",
                Some("openresty/1.25.3.1"),
            ),
            ("Angie version: Angie/1.5.1\0", Some("Angie/1.5.1")),
            (
                "freenginx version: freenginx/1.27.0\0",
                Some("freenginx/1.27.0"),
            ),
            ("nginx version: nginx/\0 version: %ui\0", None),
            ("", None),
        ] {
            assert_eq!(parse(constants.as_bytes()).version.as_deref(), version);
        }
    }

    #[test]
    fn configured_paths_are_read_from_the_arguments() {
        let binary = parse(
            b"configure arguments: --with-cc-opt='-g --prefix-map=x' --prefix=/usr/share/nginx --conf-path=/etc/n.conf\0",
        );
        assert_eq!(binary.prefix, Some("/usr/share/nginx".into()));
        assert_eq!(binary.conf, Some("/etc/n.conf".into()));
    }

    #[test]
    fn a_program_that_is_no_nginx_says_nothing() {
        let mut binaries = Binaries::default();
        let (_, binary) = binaries.at(Path::new("/proc/1/exe")).unwrap_or_default();
        assert_eq!(binary.version, None);
    }
}
