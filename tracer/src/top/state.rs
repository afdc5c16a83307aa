//! What keys change: which list has the focus, which line is selected, whether a verdict is open.

use super::{
    keys::{Key, Keys},
    model::Kept,
    snapshot::Snapshot,
};

/// A list with a selected line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Focus {
    Upstreams,
    Verdicts,
}

/// What a key asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Draw again.
    Draw,
    /// End.
    Quit,
}

/// A verdict that is open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) kept: Kept,
    /// Lines that were scrolled away.
    pub(super) top: usize,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct State {
    keys: Keys,
    pub(super) focus: Focus,
    /// The selected upstream by name: its place changes.
    pub(super) upstream: Option<String>,
    /// The selected verdict by number; `None`: the newest, whichever that is.
    pub(super) verdict: Option<u64>,
    pub(super) open: Option<Open>,
    /// Lines of a page, as last drawn.
    pub(super) page: usize,
    /// No key is read.
    pub(super) is_still: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            keys: Keys::default(),
            focus: Focus::Verdicts,
            upstream: None,
            verdict: None,
            open: None,
            page: 10,
            is_still: false,
        }
    }
}

impl State {
    /// Of a picture that is printed.
    pub(crate) fn still() -> Self {
        Self {
            is_still: true,
            ..Self::default()
        }
    }

    /// Takes what the terminal sent.
    pub(crate) fn take(&mut self, bytes: &[u8], shown: &Snapshot) -> Wish {
        for key in self.keys.read(bytes) {
            match key {
                Key::Quit => return Wish::Quit,
                Key::Back => self.open = None,
                Key::Enter if self.open.is_some() => self.open = None,
                Key::Enter => self.enter(shown),
                Key::Switch if self.open.is_none() => {
                    self.focus = match self.focus {
                        Focus::Upstreams => Focus::Verdicts,
                        Focus::Verdicts => Focus::Upstreams,
                    };
                }
                Key::Switch => {}
                Key::Up => self.step(shown, -1),
                Key::Down => self.step(shown, 1),
                Key::PageUp => self.step(shown, -(self.page as isize)),
                Key::PageDown => self.step(shown, self.page as isize),
                Key::First => self.step(shown, isize::MIN),
                Key::Last => self.step(shown, isize::MAX),
            }
        }
        Wish::Draw
    }

    /// Opens the selected verdict, or the newest of the selected upstream.
    fn enter(&mut self, shown: &Snapshot) {
        let kept = match self.focus {
            Focus::Verdicts => shown.verdicts.get(self.selected_verdict(shown)),
            Focus::Upstreams => {
                let row = shown.upstreams.get(self.selected_upstream(shown));
                row.and_then(|row| {
                    shown.verdicts.iter().find(|kept| {
                        let attempts = kept.verdict.attempts.iter();
                        let mut tried = attempts.filter_map(|attempt| attempt.upstream.as_deref());
                        tried.any(|upstream| upstream == row.upstream)
                    })
                })
            }
        };
        self.open = kept.cloned().map(|kept| Open { kept, top: 0 });
    }

    fn step(&mut self, shown: &Snapshot, by: isize) {
        if let Some(open) = &mut self.open {
            // The view knows where it ends.
            open.top = open.top.saturating_add_signed(by);
            return;
        }
        match self.focus {
            Focus::Upstreams => {
                let place = moved(self.selected_upstream(shown), by, shown.upstreams.len());
                self.upstream = shown.upstreams.get(place).map(|row| row.upstream.clone());
            }
            Focus::Verdicts => {
                let place = moved(self.selected_verdict(shown), by, shown.verdicts.len());
                let kept = shown.verdicts.get(place);
                // At the top it stays with the newest.
                self.verdict = kept.filter(|_| place > 0).map(|kept| kept.number);
            }
        }
    }

    /// The place of the selected upstream.
    pub(super) fn selected_upstream(&self, shown: &Snapshot) -> usize {
        let name = self.upstream.as_deref();
        let mut rows = shown.upstreams.iter();
        rows.position(|row| Some(row.upstream.as_str()) == name)
            .unwrap_or(0)
    }

    /// The place of the selected verdict; one that is forgotten is the oldest.
    pub(super) fn selected_verdict(&self, shown: &Snapshot) -> usize {
        let Some(number) = self.verdict else { return 0 };
        let place = shown.verdicts.iter().position(|kept| kept.number <= number);
        place.unwrap_or(shown.verdicts.len().saturating_sub(1))
    }
}

fn moved(place: usize, by: isize, count: usize) -> usize {
    place.saturating_add_signed(by).min(count.saturating_sub(1))
}
