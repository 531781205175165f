//! How much memory the sidecar's two processes hold, for Prometheus.

use std::fmt::Write;
use std::fs;

use crate::gate;

/// In the text that Prometheus reads. A process that is not there has no line.
pub(crate) fn to_prometheus(envoy: &gate::Envoy) -> String {
    let mut text = "# TYPE osm_sidecar_resident_bytes gauge\n".to_owned();
    let envoy = match envoy {
        gate::Envoy::Running { pid, .. } => Some(*pid),
        gate::Envoy::Absent | gate::Envoy::Unstartable(_) | gate::Envoy::Ended { .. } => None,
    };
    for (process, pid) in [("agent", Some(std::process::id())), ("envoy", envoy)] {
        if let Some(bytes) = pid.and_then(resident_bytes) {
            writeln!(text, "osm_sidecar_resident_bytes{{process=\"{process}\"}} {bytes}")
                .expect("a String takes every write");
        }
    }
    text
}

/// `VmRSS` of proc_pid_status(5).
fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    Some(kib.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_memory_and_one_that_is_gone_has_no_line() {
        let text = to_prometheus(&gate::Envoy::Absent);
        assert!(text.contains("osm_sidecar_resident_bytes{process=\"agent\"} "), "{text}");
        assert!(!text.contains("envoy"), "{text}");
        assert!(resident_bytes(std::process::id()).unwrap() > 1 << 20);
        assert!(to_prometheus(&gate::Envoy::Running { run: 1, pid: std::process::id() }).contains("process=\"envoy\""));
    }
}
