//! Fixtures: network namespaces, nginx, faulty upstreams, the tracer under test.
