//! The event format that the BPF object writes and the collector reads.
#![no_std]
