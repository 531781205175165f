//! Redirection and hold: one type, its arguments and its iptables rules.
