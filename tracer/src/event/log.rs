//! A line of nginx's error log, as far as it tells of a request.

use serde::{Deserialize, Serialize};

use super::Time;

/// One parsed error-log line that carries a connection number. No verdict depends on it: it names the request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was read (boot time).
    pub at: Time,
    /// The worker's pid as nginx printed it (in the worker's own pid namespace).
    pub pid: u32,
    /// nginx's connection number: the `*67890` of the line.
    pub connection: u64,
    /// The message before `, client:`, e.g. `connect() failed (111: Connection refused) while connecting to upstream`.
    pub message: String,
    /// `client: …`.
    pub client: Option<String>,
    /// `host: "…"` (or the `:authority`), without quotes.
    pub host: Option<String>,
    /// `request: "…"`, without quotes.
    pub request: Option<String>,
    /// `upstream: "…"`, without quotes.
    pub upstream: Option<String>,
}
