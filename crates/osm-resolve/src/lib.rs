//! World in, Mesh and Problems out: Kubernetes types end here.
