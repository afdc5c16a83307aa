//! How long a backend keeps idle connections, by its own command line. What a file, its code or its
//! environment sets is not known, and then nothing is claimed for certain.

use std::time::Duration;

use crate::{event::fact::Owner, process::foreign};

const ARGUMENTS: u64 = 16 << 10;

/// A backend's own keep-alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) time: Duration,
    /// The option that sets it.
    pub(super) option: &'static str,
    /// It is on the command line; else it is the program's default.
    pub(super) is_set: bool,
}

/// A server: the name of its program, the option, the default in seconds that counts without it.
const SERVERS: [(&str, &[&str], Option<u64>); 3] = [
    ("uvicorn", &["--timeout-keep-alive"], Some(5)),
    ("hypercorn", &["--keep-alive"], Some(5)),
    // Its file may set another, and its sync workers keep none.
    ("gunicorn", &["--keep-alive", "--keepalive"], None),
];

/// That of a process.
pub(super) fn kept(owner: &Owner) -> Option<Kept> {
    let arguments = foreign::proc_file(owner.pid, "cmdline", ARGUMENTS).ok()?;
    let arguments = String::from_utf8_lossy(&arguments).into_owned();
    let arguments: Vec<&str> = arguments.split('\0').collect();
    of_arguments(&arguments)
}

fn of_arguments(arguments: &[&str]) -> Option<Kept> {
    let name = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    // Itself, a script that an interpreter runs, or its module.
    let programs: Vec<String> = arguments.iter().take(4).map(|word| name(word)).collect();
    let is_run = |(program, ..): &&(&str, &[&str], Option<u64>)| {
        programs.iter().take(2).any(|one| one == program)
            || programs
                .windows(2)
                .any(|pair| pair[0] == "-m" && pair[1] == *program)
    };
    let (_, options, default) = SERVERS.iter().find(is_run)?;
    let set = arguments.iter().enumerate().find_map(|(at, word)| {
        options.iter().find_map(|option| {
            let value = match word.strip_prefix(option)? {
                "" => arguments.get(at + 1).copied()?,
                rest => rest.strip_prefix('=')?,
            };
            value.parse::<u64>().ok()
        })
    });
    let seconds = set.or(*default)?;
    Some(Kept {
        time: Duration::from_secs(seconds),
        option: options[0],
        is_set: set.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_s_command_line_says_how_long() {
        let read = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            of_arguments(&words).map(|kept| (kept.time.as_secs(), kept.is_set))
        };
        assert_eq!(
            read("/usr/bin/python3 /usr/bin/uvicorn app:app"),
            Some((5, false))
        );
        assert_eq!(
            read("python3 -m uvicorn a:b --timeout-keep-alive 75"),
            Some((75, true))
        );
        assert_eq!(
            read("/venv/bin/gunicorn --keep-alive=4 app"),
            Some((4, true))
        );
        assert_eq!(read("/usr/bin/python3 /venv/bin/gunicorn app"), None);
        assert_eq!(read("node server.js"), None);
        assert_eq!(read("vim a b uvicorn"), None);
    }
}
