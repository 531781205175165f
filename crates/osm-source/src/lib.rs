//! Changes from outside: a watched directory of manifests.
