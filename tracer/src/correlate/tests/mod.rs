//! From events to cases, and on to verdicts: what a user of the pure middle sees.

mod bounds;
mod host_answers;
mod kinds;
mod log_lines;
mod properties;
mod recycled;
mod requests;
mod retries;
mod scene;
mod script;

use self::{
    kinds::Kind::{self, *},
    scene::{Act, MS, SECOND, Scene},
};
