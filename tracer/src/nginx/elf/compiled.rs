//! What compilers make of a function, by the names they give to it.

/// Longer than any suffix: `.lto_priv.0.constprop.0.part.0.cold`.
pub(super) const SUFFIX: usize = 64;
/// More copies or pieces than compilers make of one function.
const LIMIT: usize = 32;

/// Where a function or object lies in the file's own address space, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nginx) struct Symbol {
    pub(in crate::nginx) address: u64,
    pub(in crate::nginx) size: u64,
}

/// All that a function, or an object, was compiled to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::nginx) struct Compiled {
    /// Itself.
    pub(in crate::nginx) own: Option<Symbol>,
    /// Copies of it that some of its callers call.
    pub(in crate::nginx) clones: Vec<Symbol>,
    /// Parts of it that lie elsewhere.
    pub(in crate::nginx) parts: Vec<Symbol>,
}

impl Compiled {
    /// All of it, itself first.
    pub(in crate::nginx) fn all(&self) -> impl Iterator<Item = Symbol> {
        let others = self.clones.iter().chain(&self.parts);
        self.own.iter().chain(others).copied()
    }

    /// The first one counts: what a file exports is read before what it lists.
    pub(super) fn add(&mut self, variant: Variant, symbol: Symbol) {
        let others = match variant {
            Variant::Own => {
                self.own.get_or_insert(symbol);
                return;
            }
            Variant::Clone => &mut self.clones,
            Variant::Part => &mut self.parts,
        };
        let is_known = others.iter().any(|known| known.address == symbol.address);
        if !is_known && others.len() < LIMIT {
            others.push(symbol);
        }
    }
}

/// What a symbol is to the function that its name begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    Own,
    Clone,
    Part,
}

impl Variant {
    /// By what follows the function's name; `None` if that is another name's.
    pub(super) fn of(suffix: &[u8]) -> Option<Self> {
        let mut variant = Self::Own;
        if suffix.is_empty() {
            return Some(variant);
        }
        let mut had_word = false;
        for word in suffix.strip_prefix(b".")?.split(|&byte| byte == b'.') {
            variant = match (word, variant) {
                (b"part" | b"cold", _) => Self::Part,
                (b"constprop" | b"isra", Self::Own) => Self::Clone,
                // A name that would not be its file's alone any more.
                (b"constprop" | b"isra" | b"lto_priv", variant) => variant,
                (number, variant) if had_word && is_number(number) => variant,
                _ => return None,
            };
            had_word = true;
        }
        Some(variant)
    }
}

fn is_number(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_tells_what_a_symbol_is() {
        for (suffix, variant) in [
            ("", Some(Variant::Own)),
            (".part.0", Some(Variant::Part)),
            (".cold", Some(Variant::Part)),
            (".part.12.cold", Some(Variant::Part)),
            (".constprop.3", Some(Variant::Clone)),
            (".constprop.0.isra.0", Some(Variant::Clone)),
            (".lto_priv.0", Some(Variant::Own)),
            (".constprop.0.cold", Some(Variant::Part)),
            (".lto_priv.0.part.1.constprop.2", Some(Variant::Part)),
            ("_depth", None),
            (".", None),
            (".0", None),
            (".0.part", None),
            (".part.", None),
            (".part.x", None),
            (".localalias", None),
        ] {
            assert_eq!(Variant::of(suffix.as_bytes()), variant, "{suffix}");
        }
    }

    #[test]
    fn no_file_has_more_of_a_function_than_compilers_make() {
        let mut compiled = Compiled::default();
        for address in (0..1000).chain(0..1000) {
            let symbol = Symbol { address, size: 1 };
            for variant in [Variant::Own, Variant::Clone, Variant::Part] {
                compiled.add(variant, symbol);
            }
        }
        assert_eq!(compiled.own.map(|own| own.address), Some(0));
        assert_eq!(
            (compiled.clones.len(), compiled.parts.len()),
            (LIMIT, LIMIT)
        );
    }
}
