//! A backend that fails on purpose: a process of its own, which the kernel sees live and die.
//!
//! `backend ADDRESS MODE [TEXT] [--prefork N]` listens on ADDRESS (`IP:port`, `[v6]:port` or
//! `unix:/path`), prints `ready`, and does to every connection what [`conduct::Mode`] says.
//! `backend ADDRESS keepalive MILLISECONDS` keeps idle connections that long, `backend ADDRESS dns
//! MODE` answers DNS queries. It serves until it is ended, and ends with 2 if it cannot begin.

mod conduct;
mod dns;
mod keepalive;
mod listener;
mod prefork;
mod protocol;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, setrlimit};

use conduct::Mode;
use listener::Listener;

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("backend: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(mut words: Vec<String>) -> Result<()> {
    no_core_dumps();
    let children = match words.iter().position(|word| word == "--prefork") {
        Some(at) => {
            let count = words.get(at + 1).context("--prefork needs a number")?;
            let count = count.parse()?;
            words.drain(at..at + 2);
            count
        }
        None => 0,
    };
    let mut words = words.iter().map(String::as_str);
    let (Some(address), Some(mode)) = (words.next(), words.next()) else {
        bail!("usage: backend ADDRESS MODE [TEXT] [--prefork N]");
    };
    let text = words.next().unwrap_or_default();
    match mode {
        "dns" => dns::serve(address, text),
        "keepalive" => {
            let idle = Duration::from_millis(text.parse().context("keepalive needs a time")?);
            keepalive::serve(&Listener::bind(address)?, idle)
        }
        _ => {
            let mode = Mode::parse(mode, text)?;
            let listener = Listener::bind(address)?;
            if children > 0 {
                prefork::serve(&listener, &mode, children)
            } else {
                println!("ready");
                threads(&listener, &mode)
            }
        }
    }
}

/// A thread a connection.
fn threads(listener: &Listener, mode: &Mode) -> Result<()> {
    loop {
        if matches!(mode, Mode::NeverAccept) {
            conduct::sleep_forever();
        }
        let stream = listener.accept()?;
        let mode = mode.clone();
        std::thread::spawn(move || mode.conduct(stream));
    }
}

/// The crashes are on purpose: nobody wants their remains.
fn no_core_dumps() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
}
