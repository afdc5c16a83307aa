//! nginx's configuration, as its files say it: read as nginx reads them (src/core/ngx_conf_file.c),
//! in order, with what they include. Of values only words are known: no variable is evaluated.

use std::{
    ffi::{CString, OsStr},
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    event::fact::{BlockServer, BlockView, ConfigLine, ReturnsView},
    process::{
        self,
        foreign::{Kind, Root},
    },
};

/// Files and bytes that are read; more is doubt.
const FILES: usize = 4096;
const BYTES: u64 = 16 << 20;
/// Files that include each other.
const DEPTH: usize = 64;
/// Words of a directive: a `server_name` may have thousands.
const WORDS: usize = 1 << 16;
/// `PATH_MAX`
const PATH: usize = 4096;
/// Thousands of files may be included.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// A process's start is known in ticks of 10 ms, a file's change in the kernel's own.
pub(super) const TICKS: Duration = Duration::from_millis(20);
/// Directives and servers that an answer names, and bytes of each.
const LINES: usize = 8;
const SERVERS: usize = 64;
const TEXT: usize = 256;

/// A directive, or the end of a block (without words).
pub(super) struct Line<'a> {
    pub(super) words: &'a [&'a [u8]],
    /// `;`, `{` or `}`; 0 at the end of the file.
    pub(super) end: u8,
    pub(super) file: &'a Path,
    /// From 1.
    pub(super) number: u32,
}

impl Line<'_> {
    pub(super) fn shown(&self) -> ConfigLine {
        let words: Vec<_> = self.words.iter().map(|word| lossy(word)).collect();
        let mut text = words.join(" ");
        text.truncate(text.floor_char_boundary(TEXT));
        ConfigLine {
            file: self.file.to_string_lossy().into_owned(),
            line: self.number,
            text,
            location: None,
        }
    }
}

fn lossy(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(TEXT)]).into_owned()
}

/// `None` from it ends the reading.
type Look<'a> = &'a mut dyn FnMut(&Line<'_>) -> Option<()>;

/// Reads configuration files in a process's root, with the rights of its user. For use within
/// [`process::bounded`] alone.
pub(super) struct Reader {
    root: Root,
    /// What includes are relative to.
    base: PathBuf,
    /// Files that changed within this time are doubt.
    age: Option<Duration>,
    /// Bytes that may still be read.
    left: u64,
    opened: usize,
}

impl Reader {
    /// Of this configuration file, an absolute path.
    pub(super) fn new(root: Root, conf: &Path, age: Option<Duration>) -> Option<Self> {
        conf.is_absolute().then_some(())?;
        Some(Self {
            root,
            base: conf.parent()?.to_path_buf(),
            age,
            left: BYTES,
            opened: 0,
        })
    }

    /// Has `look` see each directive, in order; `None` once it gives that, or where something
    /// cannot be read.
    pub(super) fn read(&mut self, file: &Path, look: Look<'_>) -> Option<()> {
        self.file(file, 0, look)
    }

    fn file(&mut self, path: &Path, depth: usize, look: Look<'_>) -> Option<()> {
        let mut text = Vec::new();
        let file = self.open(path)?;
        file.take(self.left + 1).read_to_end(&mut text).ok()?;
        self.left = self.left.checked_sub(text.len() as u64)?;
        self.take(&text, path, depth, look)
    }

    /// The same of a text, which is that of `file`.
    pub(super) fn take(
        &mut self,
        text: &[u8],
        file: &Path,
        depth: usize,
        look: Look<'_>,
    ) -> Option<()> {
        (depth < DEPTH).then_some(())?;
        directives(text, |words, end, number| {
            look(&Line {
                words,
                end,
                file,
                number,
            })?;
            if words.first() == Some(&&b"include"[..]) {
                let pattern = self.base.join(OsStr::from_bytes(words.get(1)?));
                for path in self.include(&pattern)? {
                    self.file(&path, depth + 1, look)?;
                }
            }
            Some(())
        })
    }

    /// The files that a pattern stands for, as glob(3) has it.
    fn include(&mut self, pattern: &Path) -> Option<Vec<PathBuf>> {
        (pattern.as_os_str().len() < PATH).then_some(())?;
        let mut found = vec![PathBuf::from("/")];
        for component in pattern.components() {
            let Component::Normal(name) = component else {
                if component == Component::ParentDir {
                    found.iter_mut().for_each(|path| path.push(".."));
                }
                continue;
            };
            if !name.as_bytes().iter().any(|byte| b"*?[\\".contains(byte)) {
                found.iter_mut().for_each(|path| path.push(name));
                continue;
            }
            let mut inside = Vec::new();
            for folder in found {
                inside.extend(self.matching(&folder, name)?);
                (inside.len() <= FILES).then_some(())?;
            }
            found = inside;
        }
        found.sort();
        (found.len() <= FILES).then_some(found)
    }

    fn matching(&mut self, folder: &Path, pattern: &OsStr) -> Option<Vec<PathBuf>> {
        let pattern = CString::new(pattern.as_bytes()).ok()?;
        // A folder that is not there has nothing that matches.
        let Ok((metadata, names)) = self.root.names(folder, FILES) else {
            return Some(Vec::new());
        };
        self.is_old(&metadata)?;
        // There may be more.
        (names.len() < FILES).then_some(())?;
        let mut found = Vec::new();
        for name in names {
            let text = CString::new(name.as_bytes()).ok()?;
            // SAFETY: both end with NUL.
            if unsafe { libc::fnmatch(pattern.as_ptr(), text.as_ptr(), libc::FNM_PERIOD) } == 0 {
                found.push(folder.join(name));
            }
        }
        Some(found)
    }

    /// Opens what is as old as it should be.
    fn open(&mut self, path: &Path) -> Option<File> {
        self.opened += 1;
        let file = self.root.open(path, Kind::File).ok()?;
        self.is_old(&file.metadata().ok()?)?;
        (self.opened <= FILES).then_some(file)
    }

    /// It did not change since.
    fn is_old(&self, metadata: &Metadata) -> Option<()> {
        let Some(least) = self.age else {
            return Some(());
        };
        let changed = Duration::new(
            metadata.ctime().try_into().ok()?,
            metadata.ctime_nsec().try_into().ok()?,
        );
        let age = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH + changed)
            .ok()?;
        (age + TICKS >= least).then_some(())
    }
}

/// Which directives have nginx answer with this status by itself.
///
/// # Errors
/// The files cannot be read, or not in time.
pub(crate) fn returns(pid: u32, conf: &Path, status: u16) -> io::Result<ReturnsView> {
    let wanted = status.to_string();
    let mut blocks: Vec<Option<String>> = Vec::new();
    ask(pid, conf, move |view: &mut ReturnsView, line| {
        let Some((&name, words)) = line.words.split_first() else {
            blocks.pop();
            return;
        };
        if line.end == b'{' {
            let words: Vec<String> = words.iter().map(|word| lossy(word)).collect();
            blocks.push((name == b"location").then(|| words.join(" ")));
        }
        view.scripted |= is_script(name);
        let is_last = || {
            words
                .last()
                .is_some_and(|word| word[..] == *wanted.as_bytes())
        };
        let names_it = match name {
            b"return" => words.first().is_some_and(|word| *word == wanted.as_bytes()),
            b"limit_req_status" | b"limit_conn_status" => is_last(),
            b"try_files" => words
                .last()
                .and_then(|word| word.strip_prefix(b"="))
                .is_some_and(|code| code == wanted.as_bytes()),
            _ => false,
        };
        if names_it && view.lines.len() < LINES {
            view.lines.push(ConfigLine {
                location: blocks.iter().rev().flatten().next().cloned(),
                ..line.shown()
            });
        }
    })
}

/// May it answer with any status?
fn is_script(name: &[u8]) -> bool {
    name.windows(7).any(|part| part == b"_by_lua") || name.starts_with(b"js_") || name == b"perl"
}

/// The servers of the upstream block of that name.
///
/// # Errors
/// As [`returns`].
pub(crate) fn block(pid: u32, conf: &Path, name: &str) -> io::Result<BlockView> {
    let wanted = name.to_owned();
    let mut depth = 0_u32;
    let mut inside = None;
    ask(pid, conf, move |view: &mut BlockView, line| {
        match (line.end, line.words) {
            (b'{', [b"upstream", block]) if *block == wanted.as_bytes() && view.at.is_none() => {
                view.at = Some(line.shown());
                inside = Some(depth);
            }
            (b';', [b"server", address, parameters @ ..])
                if inside.is_some() && view.servers.len() < SERVERS =>
            {
                view.servers.push(BlockServer {
                    address: lossy(address),
                    parameters: parameters.iter().map(|word| lossy(word)).collect(),
                });
            }
            (b';', [b"zone", ..]) if inside.is_some() => view.zone = true,
            _ => {}
        }
        match line.end {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                inside = inside.filter(|&outside| outside < depth);
            }
            _ => {}
        }
    })
}

/// Has `look` see the whole configuration.
pub(super) fn ask<T: Default + Send + 'static>(
    pid: u32,
    conf: &Path,
    mut look: impl FnMut(&mut T, &Line<'_>) + Send + 'static,
) -> io::Result<T> {
    let status = process::status(pid).map_err(io::Error::other)?;
    let conf = conf.to_owned();
    process::bounded_by(PATIENCE, pid, move || {
        let root = Root::of(pid, &status)?;
        let unreadable = || io::Error::other(format!("{} cannot be read", conf.display()));
        let mut reader = Reader::new(root, &conf, None).ok_or_else(unreadable)?;
        let mut view = T::default();
        let read = reader.read(&conf, &mut |line| {
            look(&mut view, line);
            Some(())
        });
        read.map(|()| view).ok_or_else(unreadable)
    })
}

/// Has `look` see each directive's words, without their quotes, the byte that ends it and its line;
/// what is in a block follows it, and the block's end has no words. `None` once `look` gives it, or
/// a directive has too many.
fn directives<'a>(
    text: &'a [u8],
    mut look: impl FnMut(&[&'a [u8]], u8, u32) -> Option<()>,
) -> Option<()> {
    let mut words: Vec<&[u8]> = Vec::new();
    let (mut at, mut number, mut counted) = (0, 1, 0);
    let mut begins = 1;
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        if words.is_empty() {
            number += text[counted..at]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count() as u32;
            (begins, counted) = (number, at);
        }
        match byte {
            b'#' => at += length(rest, |byte| byte == b'\n'),
            b';' | b'{' | b'}' => {
                if !words.is_empty() {
                    look(&words, byte, begins)?;
                    words.clear();
                }
                if byte == b'}' {
                    look(&[], byte, begins)?;
                }
                at += 1;
            }
            quote @ (b'"' | b'\'') => {
                let word = &rest[1..];
                let length = length(word, |byte| byte == quote);
                words.push(&word[..length]);
                at += length + 2;
            }
            byte if byte.is_ascii_whitespace() => at += 1,
            _ => {
                let length = length(rest, |byte| {
                    byte.is_ascii_whitespace() || b";{".contains(&byte)
                });
                words.push(&rest[..length.max(1)]);
                at += length.max(1);
            }
        }
        (words.len() <= WORDS).then_some(())?;
    }
    if words.is_empty() {
        return Some(());
    }
    look(&words, 0, begins)
}

/// For the fuzz targets: reads a configuration file, whatever it is.
pub fn read_configuration(text: &[u8]) {
    let _ = directives(text, |words, end, _| {
        let length: usize = words.iter().map(|word| word.len()).sum();
        assert!(
            length <= text.len() && (!words.is_empty() || end == b'}'),
            "more than there was"
        );
        Some(())
    });
}

/// How much comes before the byte that ends it; a backslash takes the next byte its meaning, `${`
/// is a variable's.
fn length(text: &[u8], is_end: impl Fn(u8) -> bool) -> usize {
    let mut before = 0;
    for (at, &byte) in text.iter().enumerate() {
        let is_plain = before == b'\\' || (before == b'$' && byte == b'{');
        if !is_plain && is_end(byte) {
            return at;
        }
        before = if before == b'\\' { 0 } else { byte };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use std::{fs, process};

    use super::*;

    #[test]
    fn a_directive_of_too_many_words_is_doubt() {
        let count = |text: &str| {
            let mut count = 0;
            let read = directives(text.as_bytes(), |words, _, _| {
                count += words.len();
                Some(())
            });
            read.map(|()| count)
        };
        assert_eq!(count(&"a;".repeat(2 * WORDS)), Some(2 * WORDS));
        assert_eq!(count(&"a ".repeat(WORDS)), Some(WORDS));
        assert_eq!(count(&"a ".repeat(WORDS + 1)), None);
    }

    #[test]
    fn a_pattern_of_too_many_files_is_doubt() {
        let folder = std::env::temp_dir().join(format!("tracer-many-{}", process::id()));
        let folder_of = |name: usize| folder.join(name.to_string());
        for name in 0..FILES - 1 {
            fs::create_dir_all(folder_of(name)).unwrap();
        }
        let found = |pattern: &str| {
            let pid = process::id();
            let mut reader = Reader {
                root: Root::of(pid, &crate::process::status(pid).unwrap()).unwrap(),
                base: folder.clone(),
                age: Some(Duration::ZERO),
                left: BYTES,
                opened: 0,
            };
            reader
                .include(&folder.join(pattern))
                .map(|found| found.len())
        };
        assert_eq!(found("*/x"), Some(FILES - 1));
        assert_eq!(found("*/../[12]*"), None, "each part is many");
        assert_eq!(found(&"../".repeat(PATH)), None, "no path is as long");
        fs::create_dir_all(folder_of(FILES)).unwrap();
        assert_eq!(found("*/x"), None, "there may be more");
        fs::remove_dir_all(&folder).unwrap();
    }

    /// A folder with these files, the first the configuration.
    fn with<T>(files: &[(&str, &str)], work: impl FnOnce(u32, &Path) -> T) -> T {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tracer-config-{}-{count}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
        let answer = work(process::id(), &folder.join(files[0].0));
        fs::remove_dir_all(&folder).unwrap();
        answer
    }

    #[test]
    fn a_status_is_found_with_its_file_and_line() {
        let conf = "# return 502;\nhttp {\n  server {\n    location / { return 502 \"a; b\"; }\n    include x.conf;\n    \
                    limit_req_status\n      502;\n    error_page 502 /x; return 503; } }\n";
        let files = [("nginx.conf", conf), ("x.conf", "\ntry_files $uri =502;")];
        let view = with(&files, |pid, conf| returns(pid, conf, 502)).unwrap();
        let lines = view.lines.iter();
        let lines: Vec<_> = lines
            .map(|one| {
                let file = one.file.rsplit('/').next().unwrap();
                (file, one.line, one.text.as_str(), one.location.as_deref())
            })
            .collect();
        assert_eq!(
            lines,
            [
                ("nginx.conf", 4, "return 502 a; b", Some("/")),
                ("x.conf", 2, "try_files $uri =502", None),
                ("nginx.conf", 6, "limit_req_status 502", None),
            ]
        );
        assert!(!view.scripted);
        let lua = with(
            &[("c", "access_by_lua_block { ngx.exit(502) }")],
            |pid, conf| returns(pid, conf, 502),
        );
        assert!(lua.unwrap().scripted);
        assert!(
            with(&[("c", "include none;")], |pid, conf| returns(
                pid, conf, 502
            ))
            .is_err()
        );
    }

    #[test]
    fn a_block_has_its_own_servers_alone() {
        let conf = "http { upstream live { server 127.0.0.1:1; }\n upstream dead { zone d 64k; server 127.0.0.1:2 down;\n \
                    include more; } server { listen 80; } upstream other { server 10.0.0.1:3; } }";
        let more = "server unix:/run/a.sock max_fails=1 fail_timeout=5s;";
        let files = [("nginx.conf", conf), ("more", more)];
        let view = with(&files, |pid, conf| block(pid, conf, "dead")).unwrap();
        let servers: Vec<_> = view
            .servers
            .iter()
            .map(|one| (one.address.as_str(), one.parameters.join(" ")))
            .collect();
        assert_eq!(
            servers,
            [
                ("127.0.0.1:2", "down".to_owned()),
                ("unix:/run/a.sock", "max_fails=1 fail_timeout=5s".to_owned()),
            ]
        );
        assert_eq!((view.zone, view.at.unwrap().line), (true, 2));
        let none = with(&files, |pid, conf| block(pid, conf, "none")).unwrap();
        assert_eq!(none, BlockView::default());
    }
}
