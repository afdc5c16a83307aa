//! The terminal while `top` has it: raw, on its alternate screen, and given back as it was whatever
//! ends the run: a key, a signal, an error or a panic.
//!
//! What is drawn is written by a thread of its own: a terminal that takes nothing (Ctrl-S, a
//! stalled ssh) costs frames, not kernel records.

use std::{
    cell::RefCell,
    io::{self, Write},
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result};
use ratatui::{
    Frame, Terminal,
    backend::{Backend, ClearType, CrosstermBackend, WindowSize},
    buffer::Cell,
    crossterm::{
        cursor::{Hide, Show},
        execute,
        style::ResetColor,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
    layout::{Position, Size},
};

use super::outlet::Outlet;
use crate::say;

/// There is no terminal to draw on.
#[derive(Debug)]
pub(super) struct NoTerminal;

impl std::fmt::Display for NoTerminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("top needs a terminal; without one: tracer top --once --format json")
    }
}

impl std::error::Error for NoTerminal {}

/// The terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, until it is dropped.
pub(super) struct Screen {
    terminal: Terminal<Tty>,
    outlet: Rc<RefCell<Outlet>>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// [`NoTerminal`], or it cannot be set.
    pub(super) fn take() -> Result<Self> {
        if !say::is_terminal() || say::size().is_none() {
            return Err(NoTerminal.into());
        }
        let outlet = Outlet::start(say::rendered()).context("starting to write to stdout")?;
        let outlet = Rc::new(RefCell::new(outlet));
        enable_raw_mode().map_err(|_| NoTerminal)?;
        TAKEN.store(true, Ordering::Release);
        say::hold();
        // From here on the drop gives it back.
        let writer = Writer(Rc::clone(&outlet));
        let terminal = Terminal::new(Tty(CrosstermBackend::new(writer)));
        let mut screen = match terminal {
            Ok(terminal) => Self { terminal, outlet },
            Err(error) => {
                give_back(true);
                return Err(error).context("starting to draw");
            }
        };
        let tty = &mut screen.terminal.backend_mut().0;
        execute!(tty, EnterAlternateScreen, Hide).context("writing to the terminal")?;
        Ok(screen)
    }

    /// Draws, unless the terminal has not taken the frame before; returns whether it did.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<bool> {
        if !self.outlet.borrow().is_idle() {
            return Ok(false);
        }
        self.terminal
            .draw(draw)
            .map(|_| true)
            .context("writing to the terminal")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let written = self.outlet.borrow_mut().finish();
        // One that takes nothing would take no farewell either, and hold up the end.
        give_back(written.is_ok());
    }
}

/// Restores the terminal, once.
fn give_back(is_written: bool) {
    if !TAKEN.swap(false, Ordering::AcqRel) {
        return;
    }
    if is_written {
        let _ = execute!(say::rendered(), ResetColor, Show, LeaveAlternateScreen);
    }
    let _ = disable_raw_mode();
    say::release();
}

/// A panic is about to be reported: where it ends the run, the terminal is given back first.
pub(super) fn before_a_fault() {
    // Other threads' panics cost an answer, not the run: what they say is held.
    if std::thread::current().name() == Some("main") {
        give_back(true);
    }
}

/// What is drawn, to the thread that writes it.
struct Writer(Rc<RefCell<Outlet>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }
}

/// crossterm's terminal, but for what it would ask others: its size runs `tput` where the kernel
/// does not tell, and the cursor's place is an answer among the keys.
struct Tty(CrosstermBackend<Writer>);

impl Backend for Tty {
    type Error = io::Error;

    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, cells: I) -> io::Result<()> {
        self.0.draw(cells)
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.0.hide_cursor()
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.0.show_cursor()
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.0.set_cursor_position(position)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.0.clear()
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        self.0.clear_region(region)
    }

    fn size(&self) -> io::Result<Size> {
        let (width, height) = say::size().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Size::new(width, height))
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize {
            columns_rows: self.size()?,
            pixels: Size::ZERO,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Backend::flush(&mut self.0)
    }
}
