//! Fixtures: network namespaces, nginx, faulty upstreams, the tracer under test.
//!
//! Everything is real: the distribution's nginx, this kernel, faults that the kernel itself
//! produces. Everything is the test's own: its traffic stays on loopback or in namespaces that it
//! made, its tracer follows its nginx alone, and what it started ends with it. Needs root; the
//! programs are found as [`programs`] says.

pub mod apart;
pub mod backend;
pub mod certificate;
pub mod checked;
pub mod client;
pub mod collector;
pub mod container;
pub mod counters;
pub mod crafted;
mod differences;
pub mod error_log;
pub mod expected;
pub mod failing;
pub mod faults;
pub mod folder;
pub mod holdings;
pub mod http2;
mod judgement;
pub mod kernel;
mod lines;
pub mod mount;
pub mod mounted;
pub mod netns;
pub mod nginx;
mod possible;
pub mod presented;
pub mod process;
pub mod programs;
pub mod prometheus;
pub mod readers;
pub mod schema;
pub mod selection;
mod sent;
pub mod service;
pub mod session;
pub mod site;
pub mod spacing;
pub mod stage;
pub mod terminal;
mod tls;
pub mod tracer;
pub mod tun;
pub mod unscoped;
pub mod upstream;
pub mod veth;
pub mod wait;
pub mod wire;
