//! The event format that the BPF object writes and the collector reads.
//!
//! Every record begins with a [`abi::Header`]: a tag and a length. All fields are fixed-width,
//! padding is explicit and zero, integers are in host byte order, times are nanoseconds since boot.
#![no_std]

pub mod abi;
