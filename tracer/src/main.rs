//! Exit codes and the error chain; nothing else.

use std::process::ExitCode;

use tracer::Exit;

fn main() -> ExitCode {
    tracer::report_faults();
    match tracer::run(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match Exit::of(&error) {
            // The reader has gone: nothing is left to say, to nobody.
            Exit::ClosedPipe => ExitCode::SUCCESS,
            exit @ (Exit::Reported | Exit::NotReady | Exit::Findings) => exit.code(),
            exit => {
                tracer::say_error(&error);
                exit.code()
            }
        },
    }
}
