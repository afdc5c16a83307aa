//! All directives of a configuration, with their blocks. Bounded: what has more directives, or
//! deeper blocks, than any real one is an error.

use std::{
    cell::Cell,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    lexer::{directives, unescaped},
    reader::{PATIENCE, Reader, Seen, Unread},
};
use crate::process::{self, foreign::Root};

/// Directives of a configuration.
const MOST: usize = 1 << 18;
/// Their words.
const WORDS: usize = 1 << 20;
/// Blocks in each other.
const DEPTH: usize = 64;
/// Bytes of a word.
const WORD: usize = 4096;
/// Directives that are looked at for values of variables, all passes together: a second of work.
const LOOKS: usize = 1 << 27;

/// Where a directive begins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct At {
    /// In the process's root.
    pub(crate) file: Arc<str>,
    /// From 1; 0: the file as a whole.
    pub(crate) line: u32,
}

/// A directive.
#[derive(Debug)]
pub(crate) struct Directive {
    /// Its name first; without quotes and escapes.
    pub(crate) words: Vec<String>,
    pub(crate) at: At,
    /// What is between its braces.
    pub(crate) block: Option<Vec<Directive>>,
}

impl Directive {
    pub(crate) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The words after its name.
    pub(crate) fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// The first of these; empty if there is none.
    pub(crate) fn value(&self) -> &str {
        self.words.get(1).map_or("", String::as_str)
    }

    /// The directives in its block.
    pub(crate) fn inside(&self) -> &[Directive] {
        self.block.as_deref().unwrap_or_default()
    }
}

/// A configuration.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) directives: Vec<Directive>,
    /// The files that it is in.
    pub(crate) files: Vec<Seen>,
    /// Files that nginx would not find.
    pub(crate) unread: Vec<Unread>,
    looks: Cell<usize>,
}

impl Tree {
    /// May so many more directives be looked at?
    pub(super) fn affords(&self, looks: usize) -> bool {
        self.looks.set(self.looks.get().saturating_add(looks));
        self.looks.get() <= LOOKS
    }

    /// Reads the configuration of a process in its root, with the rights of its user. `given`: the
    /// directives of its command line.
    ///
    /// # Errors
    /// It cannot be read, not in time, or is larger than any real one.
    pub(crate) fn read(pid: u32, conf: &Path, given: Vec<u8>) -> io::Result<Self> {
        let status = process::status(pid)?;
        let conf = conf.to_owned();
        process::bounded_by(PATIENCE, pid, move || {
            let root = Root::of(pid, &status)?;
            let absolute = || io::Error::other("not an absolute path");
            let mut reader = Reader::new(root, &conf, None)
                .ok_or_else(absolute)?
                .tolerant();
            let mut growing = Growing::default();
            let command_line = PathBuf::from("-g");
            let mut read = reader.take(&given, &command_line, 0, &mut |line| {
                growing.take(line.words, line.end, line.file, line.number)
            });
            if read.is_some() {
                read = reader.read(&conf, &mut |line| {
                    growing.take(line.words, line.end, line.file, line.number)
                });
            }
            let large = || io::Error::other("larger than any configuration");
            read.ok_or_else(large)?;
            let (files, unread) = reader.files();
            // Without its first file there is none.
            if let Some(missing) = unread.iter().find(|one| one.from.1 == 0) {
                let why = format!("{}: {}", missing.path.display(), missing.why);
                return Err(io::Error::other(why));
            }
            Ok(Self {
                directives: growing.whole(),
                files,
                unread,
                looks: Cell::default(),
            })
        })
    }

    /// Reads one text, without what it includes.
    pub(crate) fn of_text(text: &str) -> Self {
        let mut growing = Growing::default();
        let file = Path::new("nginx.conf");
        let _ = directives(text.as_bytes(), |words, end, line| {
            growing.take(words, end, file, line)
        });
        Self {
            directives: growing.whole(),
            ..Self::default()
        }
    }
}

/// A tree that is being read.
#[derive(Default)]
struct Growing {
    /// Blocks that are open, the outermost first, each with the directive that it is of.
    open: Vec<(Directive, Vec<Directive>)>,
    done: Vec<Directive>,
    count: usize,
    words: usize,
    file: Option<Arc<str>>,
}

impl Growing {
    fn take(&mut self, words: &[&[u8]], end: u8, file: &Path, line: u32) -> Option<()> {
        if words.is_empty() {
            self.close();
            return Some(());
        }
        self.count += 1;
        self.words += words.len();
        (self.count <= MOST && self.words <= WORDS).then_some(())?;
        let cut = |word: &&[u8]| {
            let word = unescaped(&word[..word.len().min(WORD)]);
            String::from_utf8_lossy(&word).into_owned()
        };
        let directive = Directive {
            words: words.iter().map(cut).collect(),
            at: At {
                file: self.name(file),
                line,
            },
            block: None,
        };
        if end == b'{' {
            (self.open.len() < DEPTH).then_some(())?;
            self.open.push((directive, Vec::new()));
        } else {
            self.innermost().push(directive);
        }
        Some(())
    }

    fn innermost(&mut self) -> &mut Vec<Directive> {
        match self.open.last_mut() {
            Some((_, block)) => block,
            None => &mut self.done,
        }
    }

    fn close(&mut self) {
        if let Some((mut directive, block)) = self.open.pop() {
            directive.block = Some(block);
            self.innermost().push(directive);
        }
    }

    /// The same text for the same file.
    fn name(&mut self, file: &Path) -> Arc<str> {
        let shown = file.to_string_lossy();
        match &self.file {
            Some(last) if **last == *shown => Arc::clone(last),
            _ => {
                let name: Arc<str> = shown.into();
                self.file = Some(Arc::clone(&name));
                name
            }
        }
    }

    /// What was read; a block that does not end has what is there.
    fn whole(mut self) -> Vec<Directive> {
        while !self.open.is_empty() {
            self.close();
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_what_is_in_them_with_their_lines() {
        let tree = Tree::of_text("user a;\nhttp {\n  server { listen 80; }\n  b; }\n}\nc");
        let names: Vec<_> = tree.directives.iter().map(Directive::name).collect();
        assert_eq!(names, ["user", "http", "c"]);
        let http = &tree.directives[1];
        assert_eq!((http.at.line, http.inside().len()), (2, 2));
        assert_eq!(http.inside()[0].inside()[0].words, ["listen", "80"]);
    }

    #[test]
    fn what_is_too_deep_or_too_much_ends_the_reading() {
        let deep = Tree::of_text(&"a {".repeat(10_000));
        let mut depth = 0;
        let mut at = &deep.directives;
        while let Some(first) = at.first() {
            depth += 1;
            at = first.block.as_ref().unwrap();
        }
        assert_eq!(depth, DEPTH);
        assert_eq!(Tree::of_text(&"a;".repeat(2 * MOST)).directives.len(), MOST);
    }

    #[test]
    fn what_is_included_is_in_its_place_and_what_is_missing_is_named() {
        let folder = std::env::temp_dir().join(format!("tracer-tree-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("conf.d")).unwrap();
        let conf = folder.join("nginx.conf");
        let text = "http {\n include conf.d/*.conf;\n include missing;\n last; }";
        std::fs::write(&conf, text).unwrap();
        std::fs::write(folder.join("conf.d/b.conf"), "\nsecond;").unwrap();
        std::fs::write(folder.join("conf.d/a.conf"), "first;").unwrap();
        let given = b"daemon off;".to_vec();
        let tree = Tree::read(std::process::id(), &conf, given).unwrap();
        let none = Tree::read(std::process::id(), &folder.join("no.conf"), Vec::new());
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(tree.directives[0].words, ["daemon", "off"]);
        let inside = tree.directives[1].inside().iter();
        let inside: Vec<_> = inside.map(|one| (one.name(), one.at.line)).collect();
        let expected = [
            ("include", 2),
            ("first", 1),
            ("second", 2),
            ("include", 3),
            ("last", 4),
        ];
        assert_eq!(inside, expected);
        assert_eq!((tree.files.len(), tree.unread.len()), (3, 1));
        assert_eq!(tree.unread[0].from, (conf, 3));
        assert!(none.is_err());
    }
}
