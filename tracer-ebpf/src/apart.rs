//! Functions of their own, global ones: the verifier walks each once, not once for each way that leads to it. It knows nothing of
//! what they are given but numbers, so they look for the worker and the connection anew; before 5.12 it takes no pointers.

use core::hint::black_box;

/// Calls such a function, which changes what the caller has borrowed: none of it is kept in registers meanwhile.
#[inline(always)]
pub fn call<A, B>(one: &mut A, other: &mut B, function: impl FnOnce() -> u64) -> u64 {
    black_box((&raw mut *one, &raw mut *other));
    let result = function();
    black_box((&raw mut *one, &raw mut *other));
    result
}
