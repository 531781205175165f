//! The controller: one loop from changes to sessions, certificates, health.
