//! The runner: pods as processes in network namespaces on one machine, without a cluster.
