//! From events to cases, and on to verdicts: what a user of the pure middle sees.

mod alone;
mod bounds;
mod host_answers;
mod kinds;
mod log_lines;
mod loops;
mod neighbours;
mod playing;
mod properties;
mod records;
mod replies;
mod requests;
mod retries;
mod scene;
mod script;

use self::{
    kinds::Kind::*,
    scene::{Act, MS, SECOND, Scene},
};
