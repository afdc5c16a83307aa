//! A line of nginx's error log, as far as it is about a request.

use serde::{Deserialize, Serialize};

use super::Time;

/// One parsed error-log line that carries a connection number. No cause depends on it: it names the
/// request, where nginx's memory does not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was read (boot time).
    pub at: Time,
    /// The worker's pid as nginx printed it (in the worker's own pid namespace).
    pub pid: u32,
    /// nginx's connection number: the `*67890` of the line.
    pub connection: u64,
    /// The message before `, client:`, e.g. `connect() failed (111: Connection refused) while
    /// connecting to upstream`.
    pub message: String,
    /// `client: …`.
    pub client: Option<String>,
    /// `host: "…"` (or the `:authority`), without quotes.
    pub host: Option<String>,
    /// `request: "…"`, without quotes.
    pub request: Option<String>,
    /// `upstream: "…"`, without quotes.
    pub upstream: Option<String>,
    /// `server: …`: the server block's first name. Absent in captures of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The followed workers that may have written it, by pid on the host: those that have the
    /// printed pid in their own pid namespace and hold the file that it was read from. Absent in
    /// captures of before: whoever has that pid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<Vec<u32>>,
}

impl LogLine {
    /// May another have written it than whom it is taken for? Several workers may, or none is known
    /// to hold the file.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.workers
            .as_ref()
            .is_some_and(|workers| workers.len() != 1)
    }
}
