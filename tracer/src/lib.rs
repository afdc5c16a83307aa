//! tracer: one verdict per failed nginx request, from the kernel's own evidence.
