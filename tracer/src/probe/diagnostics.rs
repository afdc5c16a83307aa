//! What the BPF side says of itself (aya-log), on stderr: only where `--debug` asks for it.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

use crate::say::say;

/// Prints a diagnostic a line, marked as the BPF side's.
#[derive(Debug)]
pub(super) struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        say!(
            "bpf {}: {}",
            record.level().as_str().to_lowercase(),
            record.args()
        );
    }

    fn flush(&self) {}
}

/// Starts reading the object's log; `None` if it has none to read.
pub(super) fn read(object: &mut Ebpf) -> Option<EbpfLogger<Stderr>> {
    EbpfLogger::init_with_logger(object, Stderr).ok()
}
