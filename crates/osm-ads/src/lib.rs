//! Delta ADS over gRPC: the server that runs sessions, and the client that keeps a copy.
