//! Certificates and tokens: issuing, rotation arithmetic, checking.
