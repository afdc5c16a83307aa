//! The commands: one file a subcommand, its arguments beside its `run`.

pub mod causes;
