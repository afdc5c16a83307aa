use std::cell::Cell;

use super::*;

/// A file of any length: what is made up, then bytes that repeat for ever.
pub(in crate::nginx) struct Made {
    head: Vec<u8>,
    rest: Vec<u8>,
    read: Cell<u64>,
    calls: Cell<usize>,
    largest: Cell<usize>,
}

const EVER: u64 = 1 << 60;
/// Where the bytes begin that repeat; a multiple of the patterns' lengths.
const REST: u64 = 24 * 10 * 15 * 16;

/// Name, kind, offset, size, link.
type Head<'a> = (&'a str, u32, u64, u64, u32);

impl Made {
    /// A file of constants alone.
    pub(in crate::nginx) fn of_constants(constants: &[u8]) -> Self {
        let size = constants.len() as u64;
        Self::new(&[(".rodata", 1, REST, size, 0)], None, constants)
    }

    /// A file without sections, of which these bytes are mapped at 4 MiB as code.
    pub(in crate::nginx) fn of_code(code: &[u8]) -> Self {
        let mut made = Self::new(&[], None, code);
        made.head[40..48].fill(0);
        made.head[72..80].copy_from_slice(&REST.to_ne_bytes());
        made.head[96..104].copy_from_slice(&(code.len() as u64).to_ne_bytes());
        made
    }

    /// Where such a file has an address.
    pub(in crate::nginx) fn offset(address: u64) -> u64 {
        address - 0x40_0000 + REST
    }

    /// A file of these sections; the last one is that of their names.
    fn new(sections: &[Head<'_>], count: Option<u64>, rest: &[u8]) -> Self {
        let mut names = vec![0];
        let mut table = vec![0; SECTION];
        for (name, kind, offset, size, link) in sections {
            table.extend((names.len() as u32).to_ne_bytes());
            table.extend(kind.to_ne_bytes());
            table.extend([0; 16]);
            table.extend(offset.to_ne_bytes());
            table.extend(size.to_ne_bytes());
            table.extend(link.to_ne_bytes());
            table.extend([0; 20]);
            names.extend(name.bytes());
            names.push(0);
        }
        let mut head = vec![0; HEADER + SEGMENT];
        head[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        head[32..40].copy_from_slice(&(HEADER as u64).to_ne_bytes());
        head[54..58].copy_from_slice(&[SEGMENT as u8, 0, 1, 0]);
        // Names, then the table.
        let at = head.len() as u64;
        let entry = table.len();
        table.extend([0; SECTION]);
        table[entry + 24..entry + 32].copy_from_slice(&at.to_ne_bytes());
        table[entry + 32..entry + 40].copy_from_slice(&(names.len() as u64).to_ne_bytes());
        head[40..48].copy_from_slice(&(at + names.len() as u64).to_ne_bytes());
        let index = sections.len() as u32 + 1;
        match count {
            Some(count) => {
                table[32..40].copy_from_slice(&count.to_ne_bytes());
                table[40..44].copy_from_slice(&index.to_ne_bytes());
                head[62..64].fill(0xff);
            }
            None => {
                head[60..62].copy_from_slice(&(index as u16 + 1).to_ne_bytes());
                head[62..64].copy_from_slice(&(index as u16).to_ne_bytes());
            }
        }
        head[58] = SECTION as u8;
        // All of the file is code that begins at 4 MiB.
        head[64..72].copy_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
        head[80..88].copy_from_slice(&0x40_0000_u64.to_ne_bytes());
        head[96..104].copy_from_slice(&EVER.to_ne_bytes());
        head.extend(names);
        head.extend(table);
        Self {
            head,
            rest: rest.to_vec(),
            read: Cell::new(0),
            calls: Cell::new(0),
            largest: Cell::new(0),
        }
    }

    pub(in crate::nginx) fn read(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.read.set(self.read.get() + into.len() as u64);
        self.calls.set(self.calls.get() + 1);
        self.largest.set(self.largest.get().max(into.len()));
        if at > i64::MAX as u64 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut done = 0;
        while done < into.len() {
            let at = at + done as u64;
            let from = match at.checked_sub(REST) {
                Some(inside) => &self.rest[(inside % self.rest.len() as u64) as usize..],
                None => match self.head.get(at as usize..).unwrap_or_default() {
                    [] => &[0; 1],
                    head => head,
                },
            };
            let length = from.len().min(into.len() - done);
            into[done..done + length].copy_from_slice(&from[..length]);
            done += length;
        }
        Ok(into.len())
    }

    /// Asks for all that is ever asked.
    fn look(&self) -> BTreeMap<&'static str, Compiled> {
        let read = |into: &mut [u8], at| self.read(into, at);
        let elf = Elf::parse(&read).unwrap().unwrap();
        let symbols = elf.symbols("ngx_", &["ngx_cycle", "ngx_b"]).unwrap();
        let mut seen = 0;
        elf.constants(100, |_, bytes, _| {
            seen += bytes.len();
            ControlFlow::Continue(())
        })
        .unwrap();
        symbols
    }

    fn is_cheap(&self) {
        assert!(self.read.get() <= 64 << 20, "{} bytes", self.read.get());
        assert!(self.calls.get() < 1024, "{} reads", self.calls.get());
        assert!(self.largest.get() <= 256 << 10, "{}", self.largest.get());
    }
}

fn symbol(name: u32, kind: u8, section: u16, address: u64) -> Vec<u8> {
    let mut bytes = name.to_ne_bytes().to_vec();
    bytes.extend([kind, 0]);
    bytes.extend(section.to_ne_bytes());
    bytes.extend(address.to_ne_bytes());
    bytes.extend(7_u64.to_ne_bytes());
    bytes
}

/// Where the file has the function or object of that name itself.
fn address(made: &Made, name: &str) -> Option<u64> {
    Some(made.look().get(name)?.own?.address)
}

#[test]
fn a_defined_symbol_is_found_by_its_whole_name() {
    let mut rest = [
        symbol(1, 2, 0, 1),
        symbol(1, 3, 1, 2),
        symbol(12, 2, 1, 3),
        symbol(1, 1, 1, 4),
        symbol(1, 2, 1, 5),
    ]
    .concat();
    let names = rest.len() as u64;
    // The first one's end is a name of its own; the others only begin with one, or end with one.
    rest.extend(b"\0ngx_cycle\0\0ngx_bc\0ngx_cycle_depth\0ngx_b\0");
    let length = rest.len() as u64 - names;
    let sections = |kind| {
        [
            (".sym", kind, REST, names, 2),
            (".str", 3, REST + names, length, 0),
        ]
    };
    for (kind, count) in [(DYNSYM, None), (SYMTAB, None), (DYNSYM, Some(4))] {
        let made = Made::new(&sections(kind), count, &rest);
        let found = made.look();
        let (address, size) = (4, 7);
        assert_eq!(found["ngx_cycle"].own, Some(Symbol { address, size }));
        assert_eq!(found.get("ngx_b"), None);
        made.is_cheap();
    }
}

/// A table of symbols: `ngx_b`, its parts, its copy, and what is none of these.
fn table_of_variants() -> (Made, Compiled) {
    let symbols = [
        symbol(0, 2, 1, 1),
        symbol(6, 2, 1, 2),
        symbol(19, 2, 1, 3),
        symbol(37, 2, 1, 4),
        symbol(48, 2, 1, 5),
    ]
    .concat();
    let names = b"ngx_b\0ngx_b.part.0\0ngx_b.constprop.0\0ngx_b.cold\0ngx_b.other\0";
    let rest = [&symbols[..], names].concat();
    let sections = [
        (".symtab", SYMTAB, REST, 120, 2),
        (".strtab", 3, REST + 120, names.len() as u64, 0),
    ];
    let at = |address| Symbol { address, size: 7 };
    let compiled = Compiled {
        own: Some(at(1)),
        clones: vec![at(3)],
        parts: vec![at(2), at(4)],
    };
    (Made::new(&sections, None, &rest), compiled)
}

#[test]
fn all_that_a_function_was_compiled_to_is_found() {
    let (made, compiled) = table_of_variants();
    assert_eq!(made.look()["ngx_b"], compiled);
    made.is_cheap();
}

#[test]
fn a_stripped_program_s_debugdata_is_read() {
    let (inner, mut compiled) = table_of_variants();
    let mut bytes = vec![0; REST as usize + inner.rest.len()];
    inner.read(&mut bytes, 0).unwrap();
    let packed = debugdata::tests::pack(&bytes);
    // What is exported comes first.
    let rest = [&symbol(0, 2, 1, 9)[..], b"ngx_b\0", &packed].concat();
    let size = packed.len() as u64;
    let sections = [
        (".dynsym", DYNSYM, REST, 24, 2),
        (".dynstr", 3, REST + 24, 6, 0),
        (".gnu_debugdata", 1, REST + 30, size, 0),
    ];
    compiled.own = Some(Symbol {
        address: 9,
        size: 7,
    });
    let made = Made::new(&sections, None, &rest);
    assert_eq!(made.look()["ngx_b"], compiled);
}

#[test]
fn an_exported_symbol_is_taken_before_a_listed_one() {
    let tables = [symbol(0, 2, 1, 1), symbol(0, 2, 1, 2)].concat();
    let rest = [&tables[..], b"ngx_b\0"].concat();
    let sections = [
        (".symtab", SYMTAB, REST, 24, 3),
        (".dynsym", DYNSYM, REST + 24, 24, 3),
        (".strtab", 3, REST + 48, 6, 0),
    ];
    assert_eq!(
        address(&Made::new(&sections, None, &rest), "ngx_b"),
        Some(2)
    );
}

#[test]
fn names_across_pieces_are_found() {
    for before in (90 << 10..100 << 10).step_by(7) {
        let mut rest = symbol(before, 2, 1, 9);
        rest.resize(24 + before as usize, b'x');
        rest.extend(b"ngx_cycle\0");
        let sections = [
            (".dynsym", DYNSYM, REST, 24, 2),
            (".dynstr", 3, REST + 24, rest.len() as u64 - 24, 0),
        ];
        let made = Made::new(&sections, None, &rest);
        assert_eq!(address(&made, "ngx_cycle"), Some(9));
    }
}

#[test]
fn tables_and_constants_without_end_cost_what_the_limits_allow() {
    let all = [
        (".dynsym", DYNSYM, REST, EVER, 2),
        (".dynstr", 3, REST, EVER, 0),
        (".symtab", SYMTAB, REST, EVER, 4),
        (".strtab", 3, REST, EVER, 0),
        (".rodata", 1, REST, EVER, 0),
        (".gnu_debugdata", 1, REST, EVER, 0),
    ];
    let patterns: [&[u8]; 5] = [
        b"\0",
        b"n",
        b"ngx_",
        b"ngx_cycle\0",
        b"configure arguments:\0 version: nginx/",
    ];
    for pattern in patterns {
        let pattern = pattern.repeat((60 << 10) / pattern.len());
        for count in [None, Some(u64::MAX)] {
            let made = Made::new(&all, count, &pattern);
            made.look();
            made.is_cheap();
            let read = |into: &mut [u8], at| made.read(into, at);
            made.read.set(0);
            made.calls.set(0);
            crate::nginx::binary::shown(&read).unwrap();
            made.is_cheap();
        }
    }
}

#[test]
fn what_lies_beyond_all_files_is_absent() {
    for at in [1 << 63, u64::MAX - 8, u64::MAX] {
        let sections = [
            (".dynsym", DYNSYM, at, u64::MAX, 2),
            (".dynstr", 3, at, u64::MAX, 9),
            (".rodata", 1, at, u64::MAX, u32::MAX),
        ];
        let mut made = Made::new(&sections, None, b"\0");
        assert_eq!(made.look(), BTreeMap::new());
        made.is_cheap();
        // Nor are the tables themselves anywhere.
        made.head[32..40].copy_from_slice(&at.to_ne_bytes());
        made.head[40..48].copy_from_slice(&at.to_ne_bytes());
        made.head[56..58].fill(0xff);
        assert_eq!(made.look(), BTreeMap::new());
        made.is_cheap();
    }
}

#[test]
fn what_is_no_program_of_this_host_s_is_none() {
    let sound = Made::new(&[], None, b"\0");
    for (at, byte) in [(0, 0), (3, b'X'), (4, 1), (5, 2)] {
        let mut other = sound.head.clone();
        other[at] = byte;
        let read = |into: &mut [u8], at: u64| {
            let rest = other.get(at as usize..).unwrap_or_default();
            let length = rest.len().min(into.len());
            into[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        };
        assert!(Elf::parse(&read).unwrap().is_none());
    }
    assert!(Elf::parse(&|_, _| Ok(0)).unwrap().is_none());
}

#[test]
fn a_function_of_this_program_lies_where_its_bytes_are() {
    let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let read = |into: &mut [u8], at: u64| {
        let rest = bytes.get(at as usize..).unwrap_or_default();
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    };
    let elf = Elf::parse(&read).unwrap().unwrap();
    let main = elf.symbols("main", &["main"]).unwrap()["main"].own.unwrap();
    let at = elf.code_offset(main.address).unwrap() as usize;
    assert_eq!(elf.code(main.address, 16).unwrap(), bytes[at..at + 16]);
    // The process has the same bytes there.
    let pid = std::process::id();
    let binary = crate::nginx::binary::parse(&bytes);
    let address = binary.in_process(pid, main.address).unwrap();
    let code = crate::process::foreign::memory(pid, address, 16).unwrap();
    assert_eq!(code, bytes[at..at + 16]);
}
