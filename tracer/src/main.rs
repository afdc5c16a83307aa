//! Exit codes and the error chain; nothing else.

fn main() {}
