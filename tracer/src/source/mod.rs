//! Where events come from: the kernel's ring buffer, and the host observer beside it.

pub mod clock;
mod following;
pub mod host;
mod live;
mod pace;
mod privileges;
mod questions;
mod skips;
pub mod system;

pub use self::{
    following::{Following, Scope},
    live::{Live, Options, StartError},
    privileges::keep_file_access_alone,
};
