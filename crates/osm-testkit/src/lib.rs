//! What tests share: golden files, waiting with a deadline, where Envoy is.
