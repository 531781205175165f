//! ProxyView in, Envoy resources out: Envoy types begin here.
