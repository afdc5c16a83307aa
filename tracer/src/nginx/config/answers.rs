//! Answers to the observer's questions about the configuration, read line by line.

use std::{io, path::Path};

use super::reader::{ask, lossy};
use crate::event::fact::{BlockServer, BlockView, ConfigLine, ReturnsView};

/// Directives and servers that an answer names.
const LINES: usize = 8;
const SERVERS: usize = 64;

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

#[cfg(test)]
mod tests {
    use std::{fs, process};

    use super::*;

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
