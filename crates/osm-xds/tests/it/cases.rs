//! Details of the protocol, one by one.
