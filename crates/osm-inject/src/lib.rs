//! Pod in, Pod out: the sidecar, the init container and the shape.
