//! Does nginx's log let errors through? Where it does, nginx itself says what goes wrong.

use tracer_ebpf::abi::{Connection, FLAG_LOGS_ERRORS, counter};

use super::layout::{CONNECTION_LOG, LOG_ERR, LOG_LEVEL, LOG_LEVELS, PC_CONNECTION};
use crate::{maps, read};

/// Does nginx itself say what goes wrong with a connection to an upstream: does its log let errors
/// through?
#[inline(always)]
pub fn logs_errors(connection: &mut Connection) -> bool {
    // It is asked as the end is read, and then as nginx closes it.
    if connection.flags & FLAG_LOGS_ERRORS != 0 {
        return true;
    }
    let nginx = match connection.nginx {
        0 => read::user(connection.peer.wrapping_add(PC_CONNECTION)).unwrap_or(0),
        nginx => nginx,
    };
    let is_told = read::user::<u64>(nginx.wrapping_add(CONNECTION_LOG))
        .and_then(|log| read::user::<u64>(log.wrapping_add(LOG_LEVEL)))
        .is_some_and(is_told);
    if is_told {
        connection.flags |= FLAG_LOGS_ERRORS;
    } else {
        maps::count(counter::CLOSINGS);
    }
    is_told
}

/// Does nginx say what fails where this log is the one to say it to?
#[inline(always)]
pub fn is_logged(log: u64) -> bool {
    read::user::<u64>(log.wrapping_add(LOG_LEVEL)).is_some_and(is_told)
}

/// Does a log of this level let errors through?
#[inline(always)]
pub fn is_told(level: u64) -> bool {
    level & LOG_LEVELS >= LOG_ERR
}
