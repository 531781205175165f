//! In the pod: init installs redirection and hold, agent supervises Envoy.
