//! Whose failures can be seen, and since when: no failed request is said only of time in which one
//! would have been seen.

use serde::{Deserialize, Serialize};

use super::Time;

/// What can be seen changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// When.
    pub at: Time,
    /// How.
    pub change: Change,
}

impl Coverage {
    /// The same at another time, what it counts from included.
    #[must_use]
    pub fn at(&self, at: Time) -> Self {
        let mut moved = self.clone();
        if let Change::Something { since }
        | Change::Follows { since, .. }
        | Change::Late { since, .. } = &mut moved.change
        {
            *since = Time(at.0.saturating_sub(self.at.since(*since)));
        }
        moved.at = at;
        moved
    }
}

/// How it changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// No nginx is followed: none runs, or the last one ended.
    Nothing,
    /// There is one that is followed.
    Something {
        /// Since when.
        since: Time,
    },
    /// Another nginx is followed.
    Follows {
        /// Its master.
        pid: u32,
        /// What it calls itself.
        program: String,
        /// How many workers it has so far.
        workers: usize,
        /// Since when.
        since: Time,
    },
    /// A followed nginx exited, and others are followed still.
    Ends {
        /// Its master.
        pid: u32,
        /// What it calls itself.
        program: String,
    },
    /// A program that had not been seen before is nginx: its failures are seen only from now on.
    Late {
        /// Who executed it.
        pid: u32,
        /// Its path, and what it calls itself.
        program: String,
        /// When it was executed.
        since: Time,
    },
    /// This nginx's failures can not be seen.
    Blind {
        /// Its master.
        pid: u32,
        /// What it calls itself.
        program: String,
        /// Why.
        why: String,
        /// Another user than root runs it, and nobody asked for it: it makes no failure of the run.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_foreign: bool,
    },
    /// Of this nginx's failures only the kernel and its log tell.
    Alone {
        /// Its master.
        pid: u32,
        /// What it calls itself.
        program: String,
        /// Why.
        why: String,
    },
    /// Members of this nginx's objects lie elsewhere than its version and build lead to expect.
    Layout {
        /// The worker whose memory showed it.
        pid: u32,
        /// What it calls itself.
        program: String,
        /// They were found there; else nothing rests on them.
        is_found: bool,
    },
    /// Processes of this nginx's are not followed: there is no place.
    Refused {
        /// Who forked them.
        pid: u32,
        /// How many so far, of all.
        processes: u64,
    },
}

impl Change {
    /// A word for programs.
    #[must_use]
    pub fn id(&self) -> &'static str {
        match self {
            Self::Nothing => "none-followed",
            Self::Something { .. } => "some-followed",
            Self::Follows { .. } => "followed",
            Self::Ends { .. } => "exited",
            Self::Late { .. } => "late",
            Self::Blind { .. } => "blind",
            Self::Alone { .. } => "alone",
            Self::Layout { .. } => "layout",
            Self::Refused { .. } => "refused",
        }
    }

    /// The process that it is about.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Nothing | Self::Something { .. } => None,
            Self::Follows { pid, .. }
            | Self::Ends { pid, .. }
            | Self::Late { pid, .. }
            | Self::Blind { pid, .. }
            | Self::Alone { pid, .. }
            | Self::Layout { pid, .. }
            | Self::Refused { pid, .. } => Some(*pid),
        }
    }
}
