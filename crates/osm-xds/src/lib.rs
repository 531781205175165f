//! Encoded resources and the delta xDS session as a state machine without input or output.
