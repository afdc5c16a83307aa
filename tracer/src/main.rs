//! Exit codes and the error chain; nothing else.

use std::process::ExitCode;

use tracer::{
    cli::{self, Exit},
    say,
};

fn main() -> ExitCode {
    cli::report_faults();
    match cli::run(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match Exit::of(&error) {
            // The reader has gone: nothing is left to say, to nobody.
            Exit::ClosedPipe => ExitCode::SUCCESS,
            exit @ (Exit::Reported | Exit::NotReady) => exit.code(),
            exit => {
                say::error(&error);
                exit.code()
            }
        },
    }
}
