//! Verdicts, attempts and connections as Parquet tables, for questions about a fleet.
//! `docs/parquet.md` is the contract.
//!
//! Strings of others are cleaned as for a terminal: a query's result is shown on one.

mod file;
mod rows;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    file::TableFile,
    rows::{attempts, connection, failure, verdict},
    table::{ATTEMPTS, CONNECTIONS, Cell, Table, VERDICTS},
};
