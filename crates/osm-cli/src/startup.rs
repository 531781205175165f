//! `osm local startup`: how a pod started, as a waterfall; while it is held, what it waits for.

use osm_local::status::{PodStatus, TimelineEvent};
use serde::Serialize;
use serde_json::Value;

/// Width of the picture, in characters.
const WIDTH: usize = 40;

/// How one pod started.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Startup {
    /// `namespace/name`.
    pub(crate) pod: String,
    /// The start-up shape and why; none outside the mesh.
    pub(crate) shape: Option<String>,
    /// What happened, in order of time.
    pub(crate) steps: Vec<Step>,
    /// What the pod waits for; empty once it does not.
    pub(crate) missing: Vec<Missing>,
}

/// One thing that happened.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Step {
    /// Milliseconds since the pod was created.
    pub(crate) at_ms: i64,
    /// What.
    pub(crate) what: String,
}

/// One thing that a pod waits for.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Missing {
    /// What is missing.
    pub(crate) what: String,
    /// Who would have to bring it.
    pub(crate) owner: String,
    /// Since when it is missing, as RFC 3339 writes times.
    pub(crate) since: String,
}

/// What the sidecar calls its steps, and what people call them.
const SIDECAR_STEPS: [(&str, &str); 6] = [
    ("/agentStarted", "agent runs"),
    ("/identityIssued", "identity issued"),
    ("/controllerConnected", "controller reached"),
    ("/firstResources", "configuration received"),
    ("/envoyStarted", "Envoy runs"),
    ("/programmed", "programmed: the gate is open"),
];

impl Startup {
    /// Puts what the runner saw beside what the sidecar says about itself.
    pub(crate) fn of(pod: &PodStatus) -> Startup {
        let created = pod.timeline.first().map_or(0, |entry| entry.at_unix_ms);
        let mut steps: Vec<Step> = pod
            .timeline
            .iter()
            .map(|entry| {
                let container = entry.container.as_deref().unwrap_or_default();
                let code = entry.exit_code.unwrap_or_default();
                let what = match entry.event {
                    TimelineEvent::Created => "created".to_owned(),
                    TimelineEvent::Admitted => "admitted".to_owned(),
                    TimelineEvent::NetworkReady => "network ready".to_owned(),
                    TimelineEvent::ContainerStarted => format!("{container} started"),
                    TimelineEvent::ContainerPassedStartup => format!("{container} passed its startup probe"),
                    TimelineEvent::ContainerReady => format!("{container} ready"),
                    TimelineEvent::ContainerUnready => format!("{container} no longer ready"),
                    TimelineEvent::ContainerFailedPostStart => format!("{container} failed in its postStart hook"),
                    TimelineEvent::ContainerFailedLiveness => format!("{container} failed its liveness probe"),
                    TimelineEvent::ContainerExited => format!("{container} ended with exit code {code}"),
                    TimelineEvent::Ready => "pod ready".to_owned(),
                    TimelineEvent::Unready => "pod no longer ready".to_owned(),
                    TimelineEvent::Stopping => "told to stop".to_owned(),
                    TimelineEvent::Over => "over".to_owned(),
                };
                Step { at_ms: entry.at_unix_ms - created, what }
            })
            .collect();
        let sidecar = pod.sidecar.as_ref().unwrap_or(&Value::Null);
        let mut add = |at: Option<&Value>, what: String| {
            steps.extend(at.and_then(Value::as_i64).map(|at| Step { at_ms: at - created, what }));
        };
        for (path, what) in SIDECAR_STEPS {
            add(sidecar.pointer(path), what.to_owned());
        }
        for (kind, at) in sidecar["acknowledged"].as_object().into_iter().flatten() {
            add(Some(at), format!("Envoy acknowledged: {kind}"));
        }
        for restart in sidecar["envoyRestarts"].as_array().into_iter().flatten() {
            let reason = restart["reason"].as_str().unwrap_or_default();
            add(restart.get("ended"), format!("Envoy {reason}"));
            add(restart.get("programmed"), "programmed again".to_owned());
        }
        steps.sort_by_key(|step| step.at_ms);
        let missing = sidecar["missing"].as_array().into_iter().flatten().map(|item| {
            let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
            Missing { what: text("what"), owner: text("owner"), since: text("since") }
        });
        Startup {
            pod: format!("{}/{}", pod.namespace, pod.name),
            shape: pod.injected.clone(),
            steps,
            missing: missing.collect(),
        }
    }

    /// The picture: a line for each step, each where its time is.
    pub(crate) fn waterfall(&self) -> String {
        let shape = self.shape.as_deref().unwrap_or("not in the mesh");
        let mut text = format!("{} ({shape})\n", self.pod);
        let end = self.steps.last().map_or(1, |step| step.at_ms.max(1));
        for step in &self.steps {
            let share = step.at_ms.clamp(0, end) * (WIDTH as i64 - 1) / end;
            let column = usize::try_from(share).unwrap_or_default();
            text.push_str(&format!(
                "{:>7} ms  {:column$}*{:rest$}  {}\n",
                step.at_ms,
                "",
                "",
                step.what,
                rest = WIDTH - 1 - column
            ));
        }
        for Missing { what, owner, since } in &self.missing {
            text.push_str(&format!("waits for: {what} (from {owner}, since {since})\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at_ms: i64, what: &str) -> Step {
        Step { at_ms, what: what.to_owned() }
    }

    #[test]
    fn each_step_stands_where_its_time_is() {
        let startup = Startup {
            pod: "shop/once".to_owned(),
            shape: Some("native: restartPolicy Never".to_owned()),
            steps: vec![step(0, "created"), step(50, "network ready"), step(100, "over")],
            missing: Vec::new(),
        };
        let picture = startup.waterfall();
        let columns: Vec<usize> = picture.lines().skip(1).filter_map(|line| line.find('*')).collect();
        assert_eq!(columns.len(), 3, "{picture}");
        assert_eq!((columns[1] - columns[0], columns[2] - columns[0]), (19, 39), "{picture}");
    }

    #[test]
    fn a_pod_that_waits_says_for_what() {
        let missing = Missing { what: "the controller".into(), owner: "osm-controller".into(), since: "now".into() };
        let startup = Startup { pod: "a/b".into(), shape: None, steps: Vec::new(), missing: vec![missing] };
        assert!(startup.waterfall().ends_with("waits for: the controller (from osm-controller, since now)\n"));
    }
}
