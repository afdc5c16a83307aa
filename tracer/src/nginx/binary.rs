//! What an nginx binary shows: its version and how it was configured, where its functions are, what
//! lies where in a process.
//!
//! Read once a file, bounded (`nginx::elf`): anyone may give a process nginx's title. A file that
//! shows nothing (a wrapper, no section table, no ELF file at all) gives an empty [`Binary`].

use std::{
    collections::{BTreeMap, HashMap},
    fs::{File, Metadata},
    io,
    ops::ControlFlow,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::PathBuf,
    sync::Arc,
};

use tracer_ebpf::abi::{CODES, Code, Members};

use super::{
    elf::{Compiled, Elf, ReadAt, find, read_bytes},
    layout, status, votes,
};
use crate::process::{Mapping, foreign};

/// Longer than any version, shorter than any confusion.
const VERSION_LIMIT: usize = 64;
/// Longer than any build's.
const ARGUMENTS_LIMIT: usize = 64 << 10;
const ARGUMENTS: &[u8] = b"configure arguments:";
/// Directives of folders for temporary files, and the options that set their defaults.
const TEMPORARY: [(&str, &[u8]); 5] = [
    ("client_body_temp_path", b" --http-client-body-temp-path="),
    ("proxy_temp_path", b" --http-proxy-temp-path="),
    ("fastcgi_temp_path", b" --http-fastcgi-temp-path="),
    ("uwsgi_temp_path", b" --http-uwsgi-temp-path="),
    ("scgi_temp_path", b" --http-scgi-temp-path="),
];
/// nginx and its forks, as their binaries name themselves.
const MAKES: [&[u8]; 5] = [b"nginx", b"angie", b"freenginx", b"tengine", b"openresty"];
/// The longest of these.
const NAME_LIMIT: usize = 9;
/// Functions whose copies have the same parameters. A copy made for callers that all pass the same
/// value may lack that parameter; not so of a function with a variable number of them, or with a
/// single one.
const KEEP_PARAMETERS: [&str; 3] = [
    "ngx_log_error_core",
    "ngx_close_connection",
    "ngx_event_connect_peer",
];
/// Where indirect calls may lead to, in builds with `-fcf-protection`.
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
/// `PATH_MAX`
const PATH_LIMIT: usize = 4096;
const REMEMBERED: usize = 1024;
/// Mappings are listed by address; those of the program come first.
const MAPS_LIMIT: u64 = 1 << 20;

/// A binary's device and inode number: it stays the same under all of its paths.
pub(crate) type ExeId = (u64, u64);

/// All that is ever asked of a binary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Binary {
    /// Device and inode number, as the process's mounts show them.
    pub id: ExeId,
    /// Bytes of the file.
    pub size: u64,
    /// When it was written last (seconds and nanoseconds): copies of one file of a lower layer have
    /// it in common.
    pub mtime: (i64, i64),
    /// `nginx/1.22.1`, `openresty/1.25.3.1`, `Angie/1.5.1`, ….
    pub version: Option<String>,
    /// `--prefix` it was configured with.
    pub prefix: Option<PathBuf>,
    /// `--conf-path` it was configured with.
    pub conf: Option<PathBuf>,
    /// Folders for temporary files that it was configured with, by the directive that sets each.
    pub temporary: BTreeMap<&'static str, PathBuf>,
    /// Where those of [`HOOKED`] begin that it has.
    pub functions: BTreeMap<String, Entries>,
    /// See [`tracer_ebpf::abi::Layout::requests`]; 0 not known.
    pub requests: u64,
    /// See [`tracer_ebpf::abi::Layout::status`]; 0 not known.
    pub status: u64,
    /// Where its version and how it was configured lead to expect the members that move.
    pub members: Members,
    /// The function that makes every attempt to reach an upstream: its address in the file's own
    /// address space, and the pieces of its code. Only where requests of upstream connections are
    /// counted.
    pub connect: Option<(u64, [Code; CODES])>,
    /// The address of the pointer `ngx_cycle`, in the file's own address space.
    pub cycle: Option<u64>,
    /// The address of the file's first byte, in its own address space.
    pub first: u64,
    /// The lowest address of code (`p_vaddr` of the executable `PT_LOAD`), in the file's own
    /// address space.
    pub code: u64,
}

/// nginx's functions that hooks are attached to.
pub(crate) const HOOKED: [&str; 5] = [
    "ngx_close_connection",
    "ngx_event_connect_peer",
    "ngx_http_script_return_code",
    "ngx_http_special_response_handler",
    "ngx_log_error_core",
];

/// Where a function begins: offsets in the file, as a uprobe takes them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entries {
    /// The function itself; `None` where only copies of it are left.
    pub own: Option<u64>,
    /// Copies of it that some of its callers call.
    pub clones: Vec<u64>,
    /// It was found by what calls it, not by its name.
    pub is_guess: bool,
    /// Those are the instructions behind `endbr64`.
    pub is_marked: bool,
}

impl Entries {
    /// All of them, that of the function itself first.
    pub fn all(&self) -> impl Iterator<Item = u64> {
        self.own.iter().chain(&self.clones).copied()
    }
}

impl Binary {
    /// Whether it is nginx or a fork: it has their version string, or functions of theirs.
    #[must_use]
    pub fn is_nginx(&self) -> bool {
        self.version.is_some() || self.functions.len() >= 2
    }

    /// Does it show where it answers with an error, so that failed requests are seen there?
    #[must_use]
    pub fn shows_answers(&self) -> bool {
        self.functions
            .contains_key("ngx_http_special_response_handler")
    }

    /// Where an address of the file's own address space is in a process that runs it.
    pub(super) fn in_process(&self, pid: u32, address: u64) -> Option<u64> {
        let start = first_mapping(pid)?;
        Some(start.wrapping_sub(self.first).wrapping_add(address))
    }
}

/// A file is the same while these are.
type Identity = (ExeId, u64, (i64, i64));

/// Binaries already read.
#[derive(Debug, Default)]
pub(crate) struct Binaries {
    known: HashMap<Identity, Arc<Binary>>,
}

impl Binaries {
    /// The binary that a process runs.
    ///
    /// # Errors
    /// It cannot be looked at: the process is gone, or the file stalls.
    pub(crate) fn of(&mut self, pid: u32) -> io::Result<Arc<Binary>> {
        if let Some(known) = self.known.get(&identity(&foreign::exe_metadata(pid)?)) {
            return Ok(Arc::clone(known));
        }
        let binary = Arc::new(foreign::with_exe(pid, |file| read(&file))?);
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let identity = (binary.id, binary.size, binary.mtime);
        self.known.insert(identity, Arc::clone(&binary));
        Ok(binary)
    }
}

fn identity(metadata: &Metadata) -> Identity {
    (
        (metadata.dev(), metadata.ino()),
        metadata.len(),
        (metadata.mtime(), metadata.mtime_nsec()),
    )
}

fn read(file: &File) -> io::Result<Binary> {
    let (id, size, mtime) = identity(&file.metadata()?);
    let shown = shown(&|into, at| file.read_at(into, at))?;
    Ok(Binary {
        id,
        size,
        mtime,
        ..shown
    })
}

/// What a file of these bytes shows.
#[must_use]
pub fn parse(file: &[u8]) -> Binary {
    shown(&|into, at| Ok(read_bytes(file, into, at))).unwrap_or_default()
}

pub(super) fn shown(read: ReadAt<'_>) -> io::Result<Binary> {
    const CYCLE: &str = "ngx_cycle";
    let Some(elf) = Elf::parse(read)? else {
        return Ok(Binary::default());
    };
    let mut names = HOOKED.to_vec();
    names.extend([layout::COUNTS.0, layout::CONNECTS, status::SENDS.0, CYCLE]);
    let symbols = elf.symbols("ngx_", &names)?;
    let segments = elf.segments();
    let codes = segments.iter().filter(|segment| segment.is_code);
    let first = segments.iter().find(|segment| segment.offset == 0);
    let cycle = symbols.get(CYCLE).and_then(|cycle| cycle.own);
    let mut binary = Binary {
        functions: functions(&elf, &HOOKED, &symbols)?,
        requests: decoded(&elf, &symbols, layout::COUNTS, layout::counted)?.unwrap_or(0),
        status: decoded(&elf, &symbols, status::SENDS, status::decode)?
            .unwrap_or(0)
            .into(),
        // Without the first byte's address, no other is known in a process.
        cycle: first.and_then(|_| Some(cycle?.address)),
        first: first.map_or(0, |segment| segment.address),
        code: codes.map(|segment| segment.address).min().unwrap_or(0),
        ..constants(&elf)?
    };
    if let Some(version) = &binary.version {
        let counts =
            binary.requests != 0 && first.is_some() && layout::counts_upstream_requests(version);
        let connect = symbols.get(layout::CONNECTS).filter(|_| counts);
        binary.connect = connect.and_then(connecting);
        if !binary.functions.contains_key(votes::NAME)
            && let Some(address) = votes::log_error(&elf)?
        {
            let mut entries = Entries {
                is_guess: true,
                ..Entries::default()
            };
            entries.own = entry(&elf, address, &mut entries.is_marked)?;
            binary.functions.insert(votes::NAME.to_owned(), entries);
        }
    }
    Ok(binary)
}

/// Returns where the hooked functions begin.
fn functions(
    elf: &Elf<'_>,
    names: &[&str],
    symbols: &BTreeMap<&str, Compiled>,
) -> io::Result<BTreeMap<String, Entries>> {
    let mut functions = BTreeMap::new();
    for name in names {
        let Some(compiled) = symbols.get(name) else {
            continue;
        };
        let mut entries = Entries::default();
        if let Some(own) = compiled.own {
            entries.own = entry(elf, own.address, &mut entries.is_marked)?;
        }
        let takes_all = KEEP_PARAMETERS.contains(name);
        for clone in compiled.clones.iter().filter(|_| takes_all) {
            let clone = entry(elf, clone.address, &mut entries.is_marked)?;
            entries.clones.extend(clone);
        }
        if entries.all().next().is_some() {
            functions.insert((*name).to_owned(), entries);
        }
    }
    Ok(functions)
}

/// Returns where to attach at a function's entry. The kernel steps through `endbr64` at each hit,
/// and imitates what mostly follows: behind it, arguments and return address are still where they
/// were.
fn entry(elf: &Elf<'_>, address: u64, is_marked: &mut bool) -> io::Result<Option<u64>> {
    let Some(offset) = elf.code_offset(address) else {
        return Ok(None);
    };
    if cfg!(target_arch = "x86_64") && elf.code(address, 4)? == ENDBR64 {
        *is_marked = true;
        return Ok(offset.checked_add(4));
    }
    Ok(Some(offset))
}

/// Returns what `decode` finds in a function, from the first piece of its code that shows it; it
/// reads a bounded part of each.
fn decoded<T>(
    elf: &Elf<'_>,
    symbols: &BTreeMap<&str, Compiled>,
    (name, length): (&str, usize),
    decode: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    for code in symbols.get(name).into_iter().flat_map(Compiled::all) {
        let length = usize::try_from(code.size).unwrap_or(length).min(length);
        if let Some(decoded) = decode(&elf.code(code.address, length)?) {
            return Ok(Some(decoded));
        }
    }
    Ok(None)
}

/// A function's address, and its pieces of code; what it has more of is as if it were not.
fn connecting(compiled: &Compiled) -> Option<(u64, [Code; CODES])> {
    let address = compiled.all().next()?.address;
    let mut codes = [Code::NONE; CODES];
    let pieces = compiled.all().filter_map(|piece| {
        Some(Code {
            from: i32::try_from(piece.address.wrapping_sub(address).cast_signed()).ok()?,
            length: u32::try_from(piece.size).ok()?,
        })
    });
    for (into, code) in codes.iter_mut().zip(pieces) {
        *into = code;
    }
    Some((address, codes))
}

/// Version and configured paths: what the constants say.
fn constants(elf: &Elf<'_>) -> io::Result<Binary> {
    let mut binary = Binary::default();
    let mut has_arguments = false;
    let mut configured = Vec::new();
    let overlap = NAME_LIMIT + ARGUMENTS_LIMIT;
    elf.constants(overlap, |_, bytes, is_last| {
        // What begins later is whole in the piece that follows.
        let begins = match is_last {
            true => bytes.len(),
            false => bytes.len().saturating_sub(ARGUMENTS_LIMIT),
        };
        if binary.version.is_none() {
            binary.version = version(bytes, begins);
        }
        if !has_arguments
            && let Some(at) = find(bytes, ARGUMENTS)
            && at < begins
        {
            let arguments = &bytes[at + ARGUMENTS.len()..];
            let arguments = until(arguments, b"\0\n", ARGUMENTS_LIMIT);
            has_arguments = true;
            binary.prefix = argument(arguments, b" --prefix=");
            binary.conf = argument(arguments, b" --conf-path=");
            let folders = TEMPORARY.into_iter();
            binary.temporary = folders
                .filter_map(|(name, option)| Some((name, argument(arguments, option)?)))
                .collect();
            configured = arguments.to_vec();
        }
        match has_arguments && binary.version.is_some() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    if let (Some(version), true) = (&binary.version, has_arguments) {
        binary.members = layout::expected(version, &configured);
    }
    Ok(binary)
}

fn argument(arguments: &[u8], name: &[u8]) -> Option<PathBuf> {
    let at = find(arguments, name)?;
    let value = until(&arguments[at + name.len()..], b" '\"\0", PATH_LIMIT);
    Some(PathBuf::from(String::from_utf8_lossy(value).into_owned()))
}

/// From `nginx version: nginx/1.22.1` (`src/core/nginx.c`), as each fork words it: `NAME version:
/// NAME/NUMBER`. It begins before `begins`.
fn version(bytes: &[u8], begins: usize) -> Option<String> {
    const SAYS: &[u8] = b" version: ";
    let mut from = 0;
    while let Some(at) = find(&bytes[from..], SAYS) {
        let at = from + at;
        from = at + SAYS.len();
        if at >= begins {
            return None;
        }
        let token = until(&bytes[from..], b" \r\n\0\"", VERSION_LIMIT);
        let slash = token.iter().position(|&byte| byte == b'/').unwrap_or(0);
        let (name, number) = token.split_at(slash);
        let is_name = |&byte: &u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if slash > 0
            && name.iter().all(is_name)
            && number.get(1).is_some_and(u8::is_ascii_digit)
            && number.iter().all(u8::is_ascii_graphic)
            && is_make(&bytes[..at])
        {
            return Some(String::from_utf8_lossy(token).into_owned());
        }
    }
    None
}

/// Does it end with the name of nginx or of a fork?
fn is_make(bytes: &[u8]) -> bool {
    MAKES.iter().any(|name| {
        let begin = bytes.len().checked_sub(name.len());
        begin.is_some_and(|begin| bytes[begin..].eq_ignore_ascii_case(name))
    })
}

/// Where a process maps the first byte of the file that it runs.
fn first_mapping(pid: u32) -> Option<u64> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let maps = foreign::proc_file(pid, "maps", MAPS_LIMIT).ok()?;
    let own = String::from_utf8_lossy(&maps);
    own.lines().find_map(|line| {
        let mapping = Mapping::parse(line)?;
        (mapping.offset == 0 && path.to_str() == Some(mapping.path)).then_some(mapping.start)
    })
}

fn until<'a>(bytes: &'a [u8], ends: &[u8], limit: usize) -> &'a [u8] {
    let bytes = &bytes[..bytes.len().min(limit)];
    let end = bytes.iter().position(|byte| ends.contains(byte));
    &bytes[..end.unwrap_or(bytes.len())]
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::{
        super::elf::{Symbol, tests::Made},
        *,
    };

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
            ("nginx version: nginx/1.22.1\x1b[31m\0", None),
            ("nginx version: nginx/1.22.1\u{e9}\0", None),
            ("", None),
        ] {
            let found = super::version(constants.as_bytes(), constants.len());
            assert_eq!(found.as_deref(), version, "{constants}");
        }
    }

    /// What a file with these constants shows.
    fn of_constants(constants: &[u8]) -> Binary {
        let made = Made::of_constants(constants);
        shown(&|into, at| made.read(into, at)).unwrap()
    }

    #[test]
    fn what_it_was_configured_with_is_read_wherever_it_is() {
        let arguments = b"configure arguments: --with-cc-opt='-g --prefix-map=x' --prefix=/usr/share/nginx --conf-path=/etc/n.conf --http-proxy-temp-path=/var/p\0";
        for before in (0..400 << 10).step_by(1021) {
            let version = b"nginx version: nginx/1.22.1\n\0";
            let binary = of_constants(&[&vec![b'x'; before], &version[..], arguments].concat());
            assert_eq!(binary.version.as_deref(), Some("nginx/1.22.1"), "{before}");
            assert_eq!(binary.prefix, Some("/usr/share/nginx".into()));
            assert_eq!(binary.temporary["proxy_temp_path"], PathBuf::from("/var/p"));
            assert_eq!(binary.conf, Some("/etc/n.conf".into()));
            assert!(binary.is_nginx());
        }
        assert!(!of_constants(b"curl version: curl/8.0\0").is_nginx());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_hook_stands_behind_endbr64() {
        const PUSH: [u8; 4] = [0x41, 0x57, 0x49, 0x89];
        for (code, inside, is_marked) in [(ENDBR64, 4, true), (PUSH, 0, false)] {
            let made = Made::of_code(&[code, PUSH].concat());
            let read = |into: &mut [u8], at| made.read(into, at);
            let elf = Elf::parse(&read).unwrap().unwrap();
            let mut found = false;
            let offset = entry(&elf, 0x40_0000, &mut found).unwrap();
            assert_eq!(offset, Some(Made::offset(0x40_0000) + inside));
            assert_eq!(found, is_marked);
        }
    }

    /// As in 1.22.1 by gcc 12 with `-flto -O2`.
    #[test]
    fn a_caller_in_a_split_off_part_is_within_the_function() {
        let piece = |address, size| Symbol { address, size };
        let compiled = Compiled {
            own: Some(piece(0x3_fd70, 0x24)),
            clones: Vec::new(),
            parts: vec![piece(0x3_f630, 0x732), piece(0x1_0000, 9)],
        };
        let (connect, connecting) = connecting(&compiled).unwrap();
        let layout = tracer_ebpf::abi::Layout {
            connect: connect + 0x5555_0000_0000,
            connecting,
            ..Default::default()
        };
        for (address, is_within) in [
            (0x3_fd70, true),
            (0x3_fd93, true),
            (0x3_fd94, false),
            (0x3_f630, true),
            (0x3_fd61, true),
            (0x3_fd62, false),
            (0x3_f62f, false),
            (0x1_0008, true),
            (0x1_0009, false),
        ] {
            let found = layout.is_connecting(address + 0x5555_0000_0000);
            assert_eq!(found, is_within, "{address:x}");
        }
        assert!(!tracer_ebpf::abi::Layout::default().is_connecting(0));
    }

    #[test]
    fn a_program_that_is_no_nginx_shows_nothing() {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let mut binaries = Binaries::default();
        // Until it has executed, it is this program.
        let own = foreign::exe_metadata(std::process::id()).unwrap();
        let binary = loop {
            let binary = binaries.of(cat.id()).unwrap();
            if binary.id != identity(&own).0 {
                break binary;
            }
        };
        drop(cat.stdin.take());
        cat.wait().unwrap();
        assert!(!binary.is_nginx());
        assert_eq!((&binary.version, binary.functions.len()), (&None, 0));
        assert_ne!(binary.code, 0);
    }
}
