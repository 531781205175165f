//! Small programs of the demo and of the end-to-end scenarios: a server, a client that connects once, a load.
