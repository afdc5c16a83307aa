//! nginx's memory: where its objects keep what hooks read, and what leads from one to another.

pub mod address;
pub mod client;
pub mod identity;
pub mod layout;
pub mod log_level;
pub mod lookup;
pub mod members;
pub mod names;
pub mod request;
