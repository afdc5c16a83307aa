//! The stack that the BPF object's programs take, as kernels before 6.13 reckon it
//! (`check_max_stack_depth`, kernel/bpf/verifier.c): a program and all that it calls have 512 bytes
//! together, in steps of 32 a function.

use std::collections::HashMap;

use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex, SymbolKind,
};

use super::object::built;

const LIMIT: u64 = 512;
const STEP: u64 = 32;
/// Bytes of an instruction.
const SIZE: u64 = 8;
/// The frame pointer.
const FRAME: u8 = 10;

/// Where a function lies: its section and its first byte there.
type Place = (SectionIndex, u64);

#[derive(Debug)]
struct Function {
    name: String,
    depth: u64,
    calls: Vec<Place>,
}

struct Instruction {
    code: u8,
    target: u8,
    source: u8,
    offset: i16,
    number: i32,
}

impl Instruction {
    /// As in include/uapi/linux/bpf.h: the code, two registers, an offset, a number.
    fn read(bytes: &[u8]) -> Self {
        Self {
            code: bytes[0],
            target: bytes[1] & 15,
            source: bytes[1] >> 4,
            offset: i16::from_le_bytes([bytes[2], bytes[3]]),
            number: i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }
}

/// Bytes below the frame pointer that the code uses: by it, or by a register that it was copied to
/// and a number was added.
fn depth(code: &[u8]) -> u64 {
    const MOVE: u8 = 0xbf;
    const ADD_NUMBER: u8 = 0x07;
    let mut lowest = 0;
    let mut copies: HashMap<u8, i64> = HashMap::new();
    for bytes in code.as_chunks::<{ SIZE as usize }>().0 {
        let one = Instruction::read(bytes);
        match (one.code & 7, one.code) {
            (1, _) => {
                if one.source == FRAME {
                    lowest = lowest.min(i64::from(one.offset));
                }
                copies.remove(&one.target);
            }
            (2 | 3, _) if one.target == FRAME => lowest = lowest.min(i64::from(one.offset)),
            (_, MOVE) if one.source == FRAME => {
                copies.insert(one.target, 0);
            }
            (_, ADD_NUMBER) => {
                if let Some(at) = copies.get_mut(&one.target) {
                    *at += i64::from(one.number);
                    lowest = lowest.min(*at);
                }
            }
            (4 | 7, _) => {
                copies.remove(&one.target);
            }
            _ => {}
        }
    }
    lowest.unsigned_abs()
}

fn functions(file: &object::File<'_>) -> HashMap<Place, Function> {
    const CALL: u8 = 0x85;
    /// `BPF_PSEUDO_CALL`: another function of the program's.
    const OWN: u8 = 1;
    let texts = file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0);
    texts
        .map(|symbol| {
            let index = symbol.section_index().unwrap();
            let section = file.section_by_index(index).unwrap();
            let code = section
                .data_range(symbol.address(), symbol.size())
                .unwrap()
                .unwrap();
            let moved: HashMap<u64, Place> = section
                .relocations()
                .filter_map(|(at, relocation)| {
                    let RelocationTarget::Symbol(to) = relocation.target() else {
                        return None;
                    };
                    let to = file.symbol_by_index(to).ok()?;
                    Some((at, (to.section_index()?, to.address())))
                })
                .collect();
            let calls = code.as_chunks::<{ SIZE as usize }>().0.iter().zip(0..);
            let calls = calls.filter_map(|(bytes, number)| {
                let one = Instruction::read(bytes);
                let at = symbol.address() + number * SIZE;
                // By a symbol, or by a section, in which the number counts instructions from the
                // next one on.
                let (section, start) = *moved.get(&at)?;
                let inside = (i64::from(one.number) + 1) as u64 * SIZE;
                (one.code == CALL && one.source == OWN).then_some((section, start + inside))
            });
            let function = Function {
                name: symbol.name().unwrap().to_owned(),
                depth: depth(code),
                calls: calls.collect(),
            };
            ((index, symbol.address()), function)
        })
        .collect()
}

/// The deepest way down from a function, and who is on it.
fn deepest(functions: &HashMap<Place, Function>, at: Place) -> (u64, Vec<&str>) {
    let function = functions
        .get(&at)
        .unwrap_or_else(|| panic!("no function begins at {at:?}"));
    let own = function.depth.max(1).next_multiple_of(STEP);
    let below = function.calls.iter().map(|&call| deepest(functions, call));
    let (depth, names) = below.max_by_key(|(depth, _)| *depth).unwrap_or_default();
    let names = [vec![function.name.as_str()], names].concat();
    (own + depth, names)
}

#[test]
fn every_program_and_what_it_calls_fit_the_stack_of_kernels_before_6_13() {
    let object = built().unwrap();
    let file = object::File::parse(&*object).unwrap();
    let functions = functions(&file);
    let deepest: Vec<_> = functions
        .keys()
        .map(|&at| deepest(&functions, at))
        .collect();
    let longest = deepest.iter().map(|(_, names)| names.len()).max();
    assert!(longest > Some(3), "calls are not found: {longest:?}");
    // Had each function the least of a stack, the longest way would take less.
    let largest = deepest.iter().map(|(depth, _)| *depth).max();
    assert!(
        largest > Some(LIMIT / 2),
        "stacks are not found: {largest:?}"
    );
    let too_deep: Vec<_> = deepest.iter().filter(|(depth, _)| *depth > LIMIT).collect();
    assert!(too_deep.is_empty(), "{too_deep:?}");
}
