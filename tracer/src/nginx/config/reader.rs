//! The files of a configuration, in the order in which nginx reads them, with what they include.

use std::{
    ffi::{CString, OsStr},
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::lexer::directives;
use crate::{
    event::fact::ConfigLine,
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
/// `PATH_MAX`
const PATH: usize = 4096;
/// Thousands of files may be included.
pub(in crate::nginx) const PATIENCE: Duration = Duration::from_secs(2);
/// A process's start is known in ticks of 10 ms, a file's change in the kernel's own.
pub(in crate::nginx) const TICKS: Duration = Duration::from_millis(20);
/// Bytes of a directive that is shown.
const TEXT: usize = 256;

/// A directive, or the end of a block (without words).
pub(in crate::nginx) struct Line<'a> {
    pub(in crate::nginx) words: &'a [&'a [u8]],
    /// `;`, `{` or `}`; 0 at the end of the file.
    pub(in crate::nginx) end: u8,
    pub(in crate::nginx) file: &'a Path,
    /// From 1.
    pub(in crate::nginx) number: u32,
}

impl Line<'_> {
    pub(in crate::nginx) fn shown(&self) -> ConfigLine {
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

pub(super) fn lossy(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(TEXT)]).into_owned()
}

/// `None` from it ends the reading.
type Look<'a> = &'a mut dyn FnMut(&Line<'_>) -> Option<()>;

/// Reads configuration files in a process's root, with the rights of its user. For use within
/// [`process::bounded`] alone.
pub(in crate::nginx) struct Reader {
    root: Root,
    /// What includes are relative to.
    base: PathBuf,
    /// Files that changed within this time are doubt.
    age: Option<Duration>,
    /// Bytes that may still be read.
    left: u64,
    opened: usize,
    /// What was read.
    seen: Vec<Seen>,
    /// Files that cannot be read, where those are no doubt.
    unread: Option<Vec<Unread>>,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// In the process's root.
    pub(crate) path: PathBuf,
    /// When it was written last.
    pub(crate) written: SystemTime,
}

/// A file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unread {
    /// In the process's root.
    pub(crate) path: PathBuf,
    /// The file and line that include it; itself and 0 where none does.
    pub(crate) from: (PathBuf, u32),
    pub(crate) why: String,
    /// It is not there: nginx would not start. What else tracer cannot read nginx may, as a device
    /// or with other rights.
    pub(crate) is_missing: bool,
}

impl Reader {
    /// Of this configuration file, an absolute path.
    pub(in crate::nginx) fn new(root: Root, conf: &Path, age: Option<Duration>) -> Option<Self> {
        conf.is_absolute().then_some(())?;
        Some(Self {
            root,
            base: conf.parent()?.to_path_buf(),
            age,
            left: BYTES,
            opened: 0,
            seen: Vec::new(),
            unread: None,
        })
    }

    /// Goes on where a file cannot be read; those are kept.
    pub(super) fn tolerant(mut self) -> Self {
        self.unread = Some(Vec::new());
        self
    }

    /// What was read, and what could not be.
    pub(super) fn files(self) -> (Vec<Seen>, Vec<Unread>) {
        (self.seen, self.unread.unwrap_or_default())
    }

    /// Has `look` see each directive, in order; `None` once it gives that, or where something
    /// cannot be read.
    pub(in crate::nginx) fn read(&mut self, file: &Path, look: Look<'_>) -> Option<()> {
        self.file(file, (file, 0), 0, look)
    }

    fn file(
        &mut self,
        path: &Path,
        from: (&Path, u32),
        depth: usize,
        look: Look<'_>,
    ) -> Option<()> {
        self.opened += 1;
        (self.opened <= FILES).then_some(())?;
        let mut text = Vec::new();
        let read = self.open(path).and_then(|file| {
            let written = file.metadata()?.modified()?;
            file.take(self.left + 1).read_to_end(&mut text)?;
            Ok(written)
        });
        match (read, &mut self.unread) {
            (Ok(written), _) => self.seen.push(Seen {
                path: path.to_owned(),
                written,
            }),
            (Err(error), Some(unread)) => {
                unread.push(Unread {
                    path: path.to_owned(),
                    from: (from.0.to_owned(), from.1),
                    why: error.to_string(),
                    is_missing: matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ),
                });
                return Some(());
            }
            (Err(_), None) => return None,
        }
        self.left = self.left.checked_sub(text.len() as u64)?;
        self.take(&text, path, depth, look)
    }

    /// The same of a text, which is that of `file`.
    pub(in crate::nginx) fn take(
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
                    self.file(&path, (file, number), depth + 1, look)?;
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
    fn open(&self, path: &Path) -> io::Result<File> {
        let file = self.root.open(path, Kind::File)?;
        let is_old = self.is_old(&file.metadata()?);
        is_old.ok_or_else(|| io::Error::other("it changed since"))?;
        Ok(file)
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

/// Has `look` see the whole configuration.
pub(in crate::nginx) fn ask<T: Default + Send + 'static>(
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

#[cfg(test)]
mod tests {
    use std::{fs, process};

    use super::*;

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
                seen: Vec::new(),
                unread: None,
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
}
