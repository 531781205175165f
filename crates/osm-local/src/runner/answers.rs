//! What the runner is asked, and its answers.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use osm_api::{Change, Changed, Kind, ManifestSet, NamespacedName, ObjectKey, Problem, SIDECAR_CONTAINER, k8s};
use tracing::info_span;

use super::{Answer, Entry, EntryState, Next, Runner};
use crate::addresses::PodIps;
use crate::admission::policy;
use crate::control::{Changes, ManifestText, Outcome, Request, Response};
use crate::desired::Owner;
use crate::endpoints::{by_service, ready_hosts};
use crate::images::Images;
use crate::plan::{JobEnd, JobState};
use crate::pod::{Phase, Role};
use crate::pod_task::ask_sidecar;
use crate::process::{ProcessSpec, Surroundings, container_spec};
use crate::status::{ContainerState, JobPhase, JobStatus, PodStatus, ServiceStatus, Status};

impl Runner {
    pub(super) fn answer(&mut self, request: Request, answer: Answer) -> Next {
        let response = match request {
            Request::Apply { files } => self.apply(&files),
            Request::Delete { files } => self.delete(&files),
            Request::Exec { pod, container, command } => self.exec(&pod, container, command),
            Request::Status { ask_sidecars } => {
                self.answer_status(ask_sidecars, answer);
                return Next::Turn;
            }
            Request::SetConditions { pod, uid, conditions } => self.set_conditions(&pod, &uid, conditions),
            Request::Shutdown => {
                let _ = answer.send(Response::ShuttingDown);
                return Next::End;
            }
        };
        // Who asked may be gone.
        let _ = answer.send(response);
        Next::Turn
    }

    fn apply(&mut self, files: &[ManifestText]) -> Response {
        let (mut changes, updates) = read(files);
        for change in updates {
            let Change::Apply(object, origin) = change else { continue };
            let key = object.key();
            let is_new = self.written.get(&key).is_none();
            let outcome = match self.written.apply(Change::Apply(object, origin)) {
                Changed::Something if is_new => Outcome::Created,
                Changed::Something => Outcome::Configured,
                Changed::Nothing => Outcome::Unchanged,
            };
            changes.objects.push((key.to_string(), outcome));
        }
        self.finish(changes)
    }

    fn delete(&mut self, files: &[ManifestText]) -> Response {
        let (mut changes, updates) = read(files);
        for change in updates {
            let Change::Apply(object, _) = change else { continue };
            let key = object.key();
            let outcome = match self.written.apply(Change::Delete(key.clone())) {
                Changed::Something => Outcome::Deleted,
                Changed::Nothing => Outcome::NotFound,
            };
            changes.objects.push((key.to_string(), outcome));
        }
        self.finish(changes)
    }

    /// Takes the first steps at once, so that what is wrong with the objects is known to whoever applied them.
    fn finish(&mut self, mut changes: Changes) -> Response {
        self.take_in_world();
        if let Err(error) = self.reconcile() {
            let hint = "see the runner's log: osm local logs --runner".into();
            return Response::Refused { message: format!("{error:#}"), hint };
        }
        let touched: BTreeSet<&str> = changes.objects.iter().map(|(subject, _)| subject.as_str()).collect();
        let is_about = |problem: &Problem| touched.contains(problem.subject.as_str());
        changes.problems.extend(self.problems().into_iter().filter(is_about));
        changes.warnings.extend(self.warnings().into_iter().filter(is_about));
        Response::Changed(changes)
    }

    fn set_conditions(&self, pod: &NamespacedName, uid: &str, conditions: Vec<k8s::PodCondition>) -> Response {
        if let Some(Entry { state: EntryState::Live { conditions: said, report, .. }, .. }) = self.pods.get(pod)
            && report.borrow().status.uid == uid
        {
            said.send_modify(|said| {
                said.extend(conditions.into_iter().map(|condition| (condition.type_.clone(), condition)));
            });
        }
        Response::ConditionsSet
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.desired.problems.clone();
        problems.extend(policy(&self.world, "").1);
        for (name, entry) in &self.pods {
            if let EntryState::Refused(refused) = &entry.state {
                problems.extend(refused.iter().map(|problem| self.as_written(problem, name, entry)));
            }
        }
        without_repetition(problems)
    }

    fn warnings(&self) -> Vec<Problem> {
        let mut all = self.address_problems.clone();
        for (name, entry) in &self.pods {
            if let EntryState::Live { warnings, .. } = &entry.state {
                all.extend(warnings.iter().map(|problem| self.as_written(problem, name, entry)));
            }
        }
        without_repetition(all)
    }

    /// A problem of a pod, said of what was written down: the pod itself, or what its template is from.
    fn as_written(&self, problem: &Problem, pod: &NamespacedName, entry: &Entry) -> Problem {
        let mut problem = problem.clone();
        let key = match &entry.owner {
            Some(owner) => {
                let key = owner.key();
                problem.subject = key.to_string();
                if !problem.field.is_empty() {
                    problem.field = format!("spec.template.{}", problem.field);
                }
                key
            }
            None => ObjectKey::new(Kind::Pod, &pod.namespace, &pod.name),
        };
        problem.with_origin(self.world.origin(&key).cloned())
    }

    fn exec(&self, pod: &NamespacedName, container: Option<String>, command: Vec<String>) -> Response {
        let refuse = |message: String, hint: &str| Response::Refused { message, hint: hint.into() };
        let Some(Entry { state: EntryState::Live { report, .. }, .. }) = self.pods.get(pod) else {
            return refuse(format!("no pod {pod} runs"), "see which do: osm local status");
        };
        let report = report.borrow().clone();
        let own = |c: &&crate::status::ContainerStatus| c.role == Role::App && c.name != SIDECAR_CONTAINER;
        let found = match &container {
            Some(name) => report.status.containers.iter().find(|c| c.name == *name),
            None => report.status.containers.iter().find(own).or(report.status.containers.first()),
        };
        let Some(found) = found else {
            let names: Vec<&str> = report.status.containers.iter().map(|c| c.name.as_str()).collect();
            let message = format!("pod {pod} has no container {}", container.unwrap_or_default());
            return refuse(message, &format!("its containers: {}", names.join(", ")));
        };
        let (ContainerState::Running, Some(pid)) = (found.state, found.pid) else {
            return refuse(format!("container {} of pod {pod} does not run", found.name), "see why: osm local status");
        };
        match self.process_in(&report.pod, &found.name, report.status.ips(), command) {
            Ok(process) => Response::Exec { pid, process: Box::new(process) },
            Err(problem) => refuse(problem.to_string(), ""),
        }
    }

    /// What the container's own process is, with another command.
    fn process_in(
        &self,
        pod: &k8s::Pod,
        container: &str,
        ips: Option<PodIps>,
        command: Vec<String>,
    ) -> Result<ProcessSpec, Box<Problem>> {
        let spec = pod.spec.clone().unwrap_or_default();
        let fields = crate::admission::fields(&spec);
        let Some((field, found)) = fields.into_iter().find(|(_, c)| c.name == container) else {
            return Err(Box::new(Problem::new(container, osm_api::Reason::Missing, "no such container")));
        };
        let volumes: BTreeMap<_, _> =
            spec.volumes.iter().flatten().map(|v| (v.name.clone(), std::path::PathBuf::new())).collect();
        let images: Images =
            crate::admission::with_mesh_images(&self.images, &policy(&self.world, "").0, &self.programs);
        let around = Surroundings {
            pod,
            ips: ips.unwrap_or(PodIps::NONE),
            images: &images,
            volumes: &volumes,
            scratch: std::path::Path::new("/"),
        };
        let process = container_spec(found, &field, &around)?.process;
        Ok(ProcessSpec { command, ends_with_parent: true, ..process })
    }

    fn answer_status(&self, ask_sidecars: bool, answer: Answer) {
        let mut status = self.status();
        let asking = async move {
            if ask_sidecars {
                let asked = status.pods.iter_mut().filter(|pod| runs_sidecar(pod)).map(|pod| async {
                    if let Some(ip) = pod.ip {
                        // What it said earlier is no answer.
                        pod.sidecar = ask_sidecar(ip).await;
                    }
                });
                join_all(asked).await;
            }
            let _ = answer.send(Response::Status(Box::new(status)));
        };
        // Sidecars may take their time; the loop does not wait for them.
        self.tasks.spawn_session("status", info_span!("status"), asking);
    }

    fn status(&self) -> Status {
        let pods: Vec<PodStatus> = self.pods.iter().map(|(name, entry)| pod_status(name, entry)).collect();
        let controller = self.controller.borrow().status.clone();
        let slices = by_service(&self.slices);
        let jobs = self.jobs_status();
        let services = self.world.services.iter().map(|(name, service)| ServiceStatus {
            namespace: name.namespace.clone(),
            name: name.name.clone(),
            cluster_ip: self.cluster_ips.get(name).and_then(|all| all.first().copied()),
            cluster_ips: self.cluster_ips.get(name).cloned().filter(|all| all.len() > 1).unwrap_or_default(),
            ports: service
                .spec
                .iter()
                .flat_map(|spec| spec.ports.iter().flatten())
                .map(|port| format!("{}/{}", port.port, port.protocol.as_deref().unwrap_or("TCP")))
                .collect(),
            ready_endpoints: slices.get(name).map(|slices| ready_hosts(slices)).unwrap_or_default(),
        });
        let all_there = self.desired.pods.keys().all(|name| self.pods.contains_key(name));
        Status {
            name: self.shared.state.name().to_owned(),
            pid: self.process.pid,
            started_at_unix_ms: self.started.as_millisecond(),
            ready: all_there
                && controller.ready
                && pods.iter().all(PodStatus::is_settled)
                && jobs.iter().all(|job| job.state != JobPhase::Failed),
            controller,
            jobs,
            services: services.collect(),
            pods,
            problems: self.problems(),
            warnings: self.warnings(),
        }
    }
}

impl Runner {
    fn jobs_status(&self) -> Vec<JobStatus> {
        let jobs = self.desired.jobs.iter().filter_map(|(name, wanted)| {
            let progress = self.job_progress.get(name)?;
            let (state, reason) = match &progress.state {
                JobState::Running => (JobPhase::Running, String::new()),
                JobState::Suspended => (JobPhase::Suspended, String::new()),
                JobState::Over(JobEnd::Complete) => (JobPhase::Complete, String::new()),
                JobState::Over(JobEnd::Failed { reason }) => (JobPhase::Failed, reason.clone()),
            };
            Some(JobStatus {
                namespace: name.namespace.clone(),
                name: name.name.clone(),
                state,
                reason,
                completions: wanted.completions,
                active: progress.active,
                succeeded: progress.succeeded,
                failed: progress.failed,
            })
        });
        jobs.collect()
    }
}

fn runs_sidecar(pod: &PodStatus) -> bool {
    let runs = |container: &crate::status::ContainerStatus| {
        container.name == SIDECAR_CONTAINER && container.state == ContainerState::Running
    };
    pod.injected.is_some() && pod.containers.iter().any(runs)
}

/// The objects of these manifests, each call on its own: applying a file later does not take back what it once held.
fn read(files: &[ManifestText]) -> (Changes, Vec<Change>) {
    let (mut set, mut changes, mut found) = (ManifestSet::default(), Changes::default(), Vec::new());
    for file in files {
        let update = set.put(&file.name, &file.text);
        changes.problems.extend(update.problems);
        found.extend(update.changes.into_iter().filter(|change| matches!(change, Change::Apply(..))));
    }
    (changes, found)
}

/// The pods of one Deployment have the same problem.
fn without_repetition(problems: Vec<Problem>) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    problems.into_iter().filter(|problem| seen.insert(problem.clone())).collect()
}

fn pod_status(name: &NamespacedName, entry: &Entry) -> PodStatus {
    let (phase, reason) = match &entry.state {
        EntryState::Live { report, .. } => return report.borrow().status.clone(),
        EntryState::Refused(problems) => {
            (Phase::Failed, problems.first().map(|p| format!("refused: {}", p.message)).unwrap_or_default())
        }
        EntryState::Held => (Phase::Pending, "the controller has no certificate authority yet".to_owned()),
    };
    PodStatus {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        uid: String::new(),
        ip: None,
        ipv6: None,
        interface: None,
        phase,
        ready: false,
        terminating: false,
        reason,
        deployment: entry.owner.as_ref().and_then(Owner::deployment).cloned(),
        job: entry.owner.as_ref().and_then(Owner::job).cloned(),
        injected: None,
        conditions: Vec::new(),
        containers: Vec::new(),
        timeline: Vec::new(),
        sidecar: None,
    }
}
