//! Does nginx's log tell of each upstream that failed at once, and does the kernel tell of each connection's end? Where
//! the configuration says so, no hook needs to stand where nginx closes connections.
//!
//! The files are read as nginx reads them (src/core/ngx_conf_file.c), of which only words matter here. In doubt the
//! answer is no: a file that cannot be read or changed since nginx read it, Lua, too much to read.

use std::{
    ffi::{CString, OsStr},
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::process::{
    self,
    foreign::{Kind, Root},
};

/// Files and bytes that are read; more is doubt.
const FILES: usize = 4096;
const BYTES: u64 = 16 << 20;
/// Words of a directive: a `server_name` may have thousands.
const WORDS: usize = 1 << 16;
/// `PATH_MAX`
const PATH: usize = 4096;
/// Thousands of files may be included.
const PATIENCE: Duration = Duration::from_secs(2);
/// A process's start is known in ticks of 10 ms, a file's change in the kernel's own.
const TICKS: Duration = Duration::from_millis(20);
/// Levels of `error_log` that let no errors through.
const QUIET: [&[u8]; 3] = [b"crit", b"alert", b"emerg"];
/// Where a unix socket is no upstream.
const NOT_UPSTREAM: [&[u8]; 6] = [
    b"access_log",
    b"allow",
    b"deny",
    b"error_log",
    b"listen",
    b"set_real_ip_from",
];

/// What nginx was started with, and how long ago it read it.
pub(super) struct Started {
    /// Whose root the files are in.
    pub(super) pid: u32,
    /// The configuration file.
    pub(super) conf: PathBuf,
    /// The directives of `-g`.
    pub(super) directives: Vec<u8>,
    /// Files that changed within this time are not what it read.
    pub(super) age: Duration,
}

/// See [the module](self).
#[must_use]
pub(super) fn is_outspoken(started: Started) -> bool {
    let pid = started.pid;
    let Ok(status) = process::status(pid) else {
        return false;
    };
    let answer = process::bounded_by(PATIENCE, pid, move || {
        let root = Root::of(pid, &status)?;
        read(&started, root).ok_or_else(|| io::ErrorKind::InvalidData.into())
    });
    answer.is_ok()
}

/// `None` where the answer is no.
fn read(started: &Started, root: Root) -> Option<()> {
    let mut reader = Reader {
        root,
        base: started.conf.parent()?.to_path_buf(),
        age: started.age,
        left: BYTES,
        opened: 0,
        files: vec![started.conf.clone()],
    };
    started.conf.is_absolute().then_some(())?;
    reader.take(&started.directives)?;
    while let Some(path) = reader.files.pop() {
        let mut text = Vec::new();
        let file = reader.open(&path)?;
        file.take(reader.left + 1).read_to_end(&mut text).ok()?;
        reader.left = reader.left.checked_sub(text.len() as u64)?;
        reader.take(&text)?;
    }
    Some(())
}

struct Reader {
    root: Root,
    /// What includes are relative to.
    base: PathBuf,
    age: Duration,
    /// Bytes that may still be read.
    left: u64,
    opened: usize,
    /// Files to read.
    files: Vec<PathBuf>,
}

impl Reader {
    fn take(&mut self, text: &[u8]) -> Option<()> {
        directives(text, |directive| {
            let (&name, words) = directive.split_first()?;
            if name == b"include" {
                let pattern = self.base.join(OsStr::from_bytes(words.first()?));
                self.include(&pattern)?;
            }
            let is_quiet =
                name == b"error_log" && words.iter().skip(1).any(|word| QUIET.contains(word));
            // Lua connects by itself, and its blocks have a syntax of their own.
            let is_lua = contains(name, b"_by_lua");
            let is_unix = !NOT_UPSTREAM.contains(&name)
                && directive.iter().any(|word| contains(word, b"unix:"));
            (!is_quiet && !is_lua && !is_unix).then_some(())
        })
    }

    /// The files that a pattern stands for, as glob(3) has it.
    fn include(&mut self, pattern: &Path) -> Option<()> {
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
        self.files.extend(found);
        (self.files.len() <= FILES).then_some(())
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
        let changed = Duration::new(
            metadata.ctime().try_into().ok()?,
            metadata.ctime_nsec().try_into().ok()?,
        );
        let age = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH + changed)
            .ok()?;
        (age + TICKS >= self.age).then_some(())
    }
}

fn contains(word: &[u8], part: &[u8]) -> bool {
    word.windows(part.len()).any(|window| window == part)
}

/// Has `look` see each directive's words, without their quotes; what is in a block follows it. `None` once `look` gives it,
/// or a directive has too many.
fn directives<'a>(text: &'a [u8], mut look: impl FnMut(&[&'a [u8]]) -> Option<()>) -> Option<()> {
    let mut words: Vec<&[u8]> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        match byte {
            b'#' => at += length(rest, |byte| byte == b'\n'),
            b';' | b'{' | b'}' => {
                if !words.is_empty() {
                    look(&words)?;
                }
                words.clear();
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
    look(&words)
}

/// For the fuzz targets: reads a configuration file, whatever it is.
#[doc(hidden)]
pub fn read_configuration(text: &[u8]) {
    let _ = directives(text, |words| {
        let length: usize = words.iter().map(|word| word.len()).sum();
        assert!(
            length <= text.len() && !words.is_empty(),
            "more than there was"
        );
        Some(())
    });
}

/// How much comes before the byte that ends it; a backslash takes the next byte its meaning, `${` is a variable's.
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
    use std::{fs, os::unix::fs::symlink, process};

    use super::*;

    /// Whether nginx, started so long ago with these files (names and texts), the first its configuration, is outspoken.
    fn told(age: Duration, directives: &str, files: &[(&str, &str)]) -> bool {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tracer-conf-{}-{count}", process::id()));
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => symlink(target, path).unwrap(),
                None => fs::write(path, text.replace("FOLDER", folder.to_str().unwrap())).unwrap(),
            }
        }
        let answer = is_outspoken(Started {
            pid: process::id(),
            conf: folder.join(files[0].0),
            directives: directives.as_bytes().to_vec(),
            age,
        });
        fs::remove_dir_all(&folder).unwrap();
        answer
    }

    fn says(text: &str) -> bool {
        told(Duration::ZERO, "", &[("nginx.conf", text)])
    }

    const PLAIN: &str = "
        user www-data; # error_log /dev/null crit;
        error_log /var/log/nginx/error.log;
        http {
            log_format main '$remote_addr; \"$request\" {';
            server { listen unix:/run/front.sock; listen 80;
                access_log syslog:server=unix:/dev/log;
                location ~ ^/a\\;b { error_log stderr info; set $a \"${b}x\"; proxy_pass http://127.0.0.1:9; }
            }
        }";

    #[test]
    fn a_configuration_whose_logs_let_errors_through_is() {
        assert!(says(PLAIN));
        assert!(says(""));
    }

    #[test]
    fn one_with_a_quiet_log_a_unix_upstream_or_lua_is_not() {
        for other in [
            "location / { error_log /dev/null crit; }",
            "error_log \"/a b\" 'emerg';",
            "error_log syslog:server=[::1] alert",
            "upstream u { server unix:/run/app.sock; }",
            "location / { proxy_pass http://unix:/run/app.sock:/; }",
            "map $host $u { default unix:/a; }",
            "content_by_lua_block { -- don't\n }",
            "balancer_by_lua_file a.lua;",
            "include;",
        ] {
            assert!(!says(&format!("{PLAIN}\n{other}")), "{other}");
            assert!(!says(&format!("{other}\n{PLAIN}")), "{other}");
        }
        assert!(!told(
            Duration::ZERO,
            "daemon off; error_log stderr crit;",
            &[("nginx.conf", PLAIN)]
        ));
    }

    #[test]
    fn what_is_included_counts_and_what_a_pattern_does_not_match_does_not() {
        let quiet = "error_log /dev/null emerg;";
        let with = |main: &str, name: &str, text: &str| {
            told(
                Duration::ZERO,
                "",
                &[("nginx.conf", main), (name, text), ("real", quiet)],
            )
        };
        for main in [
            "include conf.d/*.conf;",
            "include FOLDER/conf.d/a.conf;",
            "include c*/?.conf;",
            "include conf.d/../conf.d/[ab].conf;",
        ] {
            assert!(!with(main, "conf.d/a.conf", quiet), "{main}");
            assert!(with(main, "conf.d/a.conf", "gzip on;"), "{main}");
        }
        assert!(with("include conf.d/*.conf;", "conf.d/.a.conf", quiet));
        assert!(with("include conf.d/*.conf;", "conf.d/a.disabled", quiet));
        assert!(
            with("include sites/*;", "conf.d/a.conf", quiet),
            "a folder that is not there"
        );
        assert!(!with("include sites/*;", "sites/a", "-> ../real"));
        assert!(
            !with("include sites/*;", "sites/a", "-> ../nothing"),
            "what can not be read"
        );
        assert!(!with("include a.conf;", "b.conf", ""), "what is not there");
        assert!(!with("include conf.d;", "conf.d/a", ""), "no file");
        assert!(!with("include nginx.conf;", "b.conf", ""), "a circle");
    }

    #[test]
    fn a_directive_of_too_many_words_is_doubt() {
        let count = |text: &str| {
            let mut count = 0;
            let read = directives(text.as_bytes(), |words| {
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
        // As `is_outspoken`, but for as long as it takes.
        let found = |pattern: &str| {
            let pid = process::id();
            let mut reader = Reader {
                root: Root::of(pid, &crate::process::status(pid).unwrap()).unwrap(),
                base: folder.clone(),
                age: Duration::ZERO,
                left: BYTES,
                opened: 0,
                files: Vec::new(),
            };
            let found = reader.include(&folder.join(pattern));
            found.map(|()| reader.files.len())
        };
        assert_eq!(found("*/x"), Some(FILES - 1));
        assert_eq!(found("*/../[12]*"), None, "each part is many");
        assert_eq!(found(&"../".repeat(PATH)), None, "no path is as long");
        fs::create_dir_all(folder_of(FILES)).unwrap();
        assert_eq!(found("*/x"), None, "there may be more");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_changed_since_is_not_what_nginx_read() {
        let files = [("nginx.conf", PLAIN)];
        assert!(told(TICKS, "", &files));
        assert!(!told(Duration::from_secs(60), "", &files));
    }
}
