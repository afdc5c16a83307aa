//! How the hooks came out, one by one and in numbers.

/// How a hook came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attached {
    /// It stands.
    Stands,
    /// It does not, and why.
    Absent(String),
    /// A better way stands.
    Spare,
    /// It stands aside until an nginx needs it.
    Aside,
}

impl Attached {
    /// It does, or will once it is needed.
    pub(super) fn stands(&self) -> bool {
        matches!(self, Self::Stands | Self::Aside)
    }

    /// How bad that is.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Spare => 0,
            Self::Aside => 1,
            Self::Stands => 2,
            Self::Absent(_) => 3,
        }
    }
}

/// How the sights of the table came out, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Seen, or inferred from what is seen.
    pub stand: usize,
    /// Of those, not by the best way.
    pub by_fallback: usize,
    /// Neither.
    pub lost: usize,
}
