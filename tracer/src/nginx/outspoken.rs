//! Whether nginx's log reports each upstream that failed at once, and the kernel each connection's
//! end. Where the configuration says so, no hook is needed where nginx closes connections.
//!
//! In doubt the answer is no: a file that cannot be read or changed since nginx read it, Lua, too
//! much to read.

use std::{io, path::PathBuf, time::Duration};

use super::config::{PATIENCE, Reader};
use crate::process::{self, foreign::Root};

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
    let mut reader = Reader::new(root, &started.conf, Some(started.age))?;
    reader.take(&started.directives, &started.conf, 0, &mut |line| {
        tells(line.words)
    })?;
    reader.read(&started.conf, &mut |line| tells(line.words))
}

fn tells(directive: &[&[u8]]) -> Option<()> {
    let Some((&name, words)) = directive.split_first() else {
        return Some(());
    };
    let is_quiet = name == b"error_log" && words.iter().skip(1).any(|word| QUIET.contains(word));
    // Lua connects by itself, and its blocks have a syntax of their own.
    let is_lua = contains(name, b"_by_lua");
    let is_unix =
        !NOT_UPSTREAM.contains(&name) && directive.iter().any(|word| contains(word, b"unix:"));
    (!is_quiet && !is_lua && !is_unix).then_some(())
}

fn contains(word: &[u8], part: &[u8]) -> bool {
    word.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, process};

    use super::{super::config::TICKS, *};

    /// Whether nginx, started so long ago with these files (names and texts), the first its
    /// configuration, is outspoken.
    fn answer_of(age: Duration, directives: &str, files: &[(&str, &str)]) -> bool {
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
        answer_of(Duration::ZERO, "", &[("nginx.conf", text)])
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
        assert!(!answer_of(
            Duration::ZERO,
            "daemon off; error_log stderr crit;",
            &[("nginx.conf", PLAIN)]
        ));
    }

    #[test]
    fn what_is_included_counts_and_what_a_pattern_does_not_match_does_not() {
        let quiet = "error_log /dev/null emerg;";
        let with = |main: &str, name: &str, text: &str| {
            answer_of(
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
    fn what_changed_since_is_not_what_nginx_read() {
        let files = [("nginx.conf", PLAIN)];
        assert!(answer_of(TICKS, "", &files));
        assert!(!answer_of(Duration::from_secs(60), "", &files));
    }
}
