//! Following nginx: its masters and workers, their binaries and their logs.
//!
//! Regardless of the path and the build: distribution packages, nginx.org, OpenResty, Angie,
//! freenginx, Tengine, static builds, in any container. nginx itself is neither queried nor
//! changed.

pub(crate) mod binary;
mod breakpoints;
pub(crate) mod config;
mod cycle;
mod discover;
mod elf;
mod errno;
mod layout;
mod log_file;
pub(crate) mod log_line;
mod logs;
mod names;
mod outspoken;
pub(crate) mod pasted;
mod remembered;
mod status;
mod votes;
mod worker;

pub(crate) use self::{
    binary::{Binaries, Binary, Entries, ExeId},
    breakpoints::breakpoints,
    config::{block, returns},
    cycle::{connections, cycle_at},
    discover::{Kind, Master, inspect, master, named_nginx, runs_the_same, scan},
    errno::errno_offset,
    logs::{LogTail, appended},
    names::{addresses, hosts, names},
    remembered::{Remembered, remembered},
    worker::identity,
};
pub use self::{config::read_configuration, logs::read_fdinfo};
