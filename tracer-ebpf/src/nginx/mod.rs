//! nginx's memory: where its objects keep what hooks read.

pub mod layout;
pub mod members;
