//! What benchmarks, examples and fuzz targets use. No stable interface: it changes with them.

pub use crate::{
    capture::{Header as CaptureHeader, Item, Reader, Writer},
    causes::judge,
    check::{read_answer as read_dns_answer, read_files as read_name_files},
    correlate::Correlator,
    event::{
        Clock, Connection, Event, RequestId, Time,
        decode::{KernelNames, record as decode_record},
    },
    nginx::{
        binary::parse as parse_binary, log_line::parse as parse_log_line,
        pasted::message_of_pasted, read_configuration, read_fdinfo,
    },
    process::read_proc as read_process_files,
    series::Series,
    source::host::{read_answer as read_netlink_answer, read_proc as read_host_files},
};
