//! From what is written down and what runs to the next steps, and to what others are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;
use osm_api::{NamespacedName, Object, Problem};
use osm_runtime::clock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info_span;

use super::{Entry, EntryState, Runner};
use crate::addresses::PodIps;
use crate::admission::{admit, policy, with_mesh_images};
use crate::desired::DesiredPod;
use crate::endpoints::{Backend, by_service, slices};
use crate::names::zone;
use crate::plan::{Action, JobProgress, JobRecord, JobState, Running, RunningPod, plan_for};
use crate::pod::Phase;
use crate::pod_task::{self, Conditions, PodReport, Start};
use crate::publish::{Layer, written};
use crate::services::rules;

impl Runner {
    /// Takes every step that is due, and tells the controller, the router and the name server what follows.
    pub(super) fn reconcile(&mut self) -> anyhow::Result<()> {
        self.forget_gone();
        let now = clock::now();
        let plan = plan_for(&self.desired, &self.running(), &self.job_records, now);
        for action in plan.actions {
            match action {
                Action::Stop(name) => self.stop_pod(&name),
                Action::Start(name, wanted) => self.start_pod(name, wanted),
            }
        }
        self.wake_at = plan.wake_at;
        self.remember_jobs(&plan.jobs, now);
        self.job_progress = plan.jobs;
        self.publish().context("publishing objects for the controller")
    }

    fn remember_jobs(&mut self, jobs: &BTreeMap<NamespacedName, JobProgress>, now: Timestamp) {
        self.job_records
            .retain(|name, record| self.desired.jobs.get(name).is_some_and(|j| j.revision == record.revision));
        for (name, progress) in jobs {
            let wanted = &self.desired.jobs[name];
            let record = self.job_records.entry(name.clone()).or_insert_with(|| {
                // Its own time begins now, and may be the next thing to end.
                let _ = self.changed.try_send(());
                JobRecord { revision: wanted.revision.clone(), started_at: now, end: None }
            });
            if let JobState::Over(end) = &progress.state {
                record.end.get_or_insert_with(|| end.clone());
            }
        }
    }

    fn forget_gone(&mut self) {
        let addresses = &mut self.pod_addresses;
        self.pods.retain(|_, entry| match &entry.state {
            EntryState::Live { ip, report, .. } if report.borrow().is_gone => {
                addresses.give_back(*ip);
                false
            }
            EntryState::Live { .. } | EntryState::Refused(_) | EntryState::Held => true,
        });
    }

    fn running(&self) -> Running {
        let pods = self.pods.iter().map(|(name, entry)| {
            let mut pod = RunningPod {
                revision: entry.revision.clone(),
                owner: entry.owner.clone(),
                phase: Phase::Pending,
                ready_since: None,
                ended_at: None,
                restarts: 0,
                is_stopping: false,
            };
            if let EntryState::Live { report, stop, .. } = &entry.state {
                let report = report.borrow();
                pod.phase = report.status.phase;
                (pod.ready_since, pod.ended_at) = (report.ready_since, report.ended_at);
                pod.restarts = report.status.containers.iter().map(|c| c.restarts).sum();
                pod.is_stopping = stop.is_cancelled();
            }
            (name.clone(), pod)
        });
        pods.collect()
    }

    fn stop_pod(&mut self, name: &NamespacedName) {
        let Some(entry) = self.pods.get(name) else { return };
        match &entry.state {
            EntryState::Live { stop, .. } => stop.cancel(),
            EntryState::Refused(_) | EntryState::Held => {
                self.pods.remove(name);
                // Its name is free at once; who waits for it is planned in the next turn.
                let _ = self.changed.try_send(());
            }
        }
    }

    fn start_pod(&mut self, name: NamespacedName, wanted: DesiredPod) {
        let state = self.new_pod(&name, &wanted);
        self.pods.insert(name, Entry { revision: wanted.revision, owner: wanted.owner, state });
    }

    fn new_pod(&mut self, name: &NamespacedName, wanted: &DesiredPod) -> EntryState {
        let authority = self.controller.borrow().root_ca_pem.clone();
        let (policy, _) = policy(&self.world, authority.as_deref().unwrap_or_default());
        let images = with_mesh_images(&self.images, &policy, &self.programs);
        let created = clock::now();
        let admitted = admit(&wanted.pod, &self.world, &policy, &images, &self.programs, created, &mut self.rng);
        let admitted = match admitted {
            Ok(admitted) if admitted.injected.is_some() && authority.is_none() => return EntryState::Held,
            Ok(admitted) => admitted,
            Err(problems) => return EntryState::Refused(problems),
        };
        let Some(ip) = self.pod_addresses.take() else {
            let message = "every address of the pod network is in use";
            return EntryState::Refused(vec![Problem::new(format!("Pod {name}"), osm_api::Reason::Refused, message)]);
        };
        self.interfaces += 1;
        let start = Start {
            name: name.clone(),
            ips: PodIps::of(ip, self.families),
            interface: format!("pod{}", self.interfaces),
            owner: wanted.owner.clone(),
            created,
            admitted,
            images,
        };
        let warnings = start.admitted.warnings.clone();
        let stop = CancellationToken::new();
        let (tell, report) = watch::channel(pod_task::first_report(&start));
        let span = info_span!("pod", pod = %name);
        let (conditions, said) = watch::channel(Conditions::default());
        self.tasks.spawn_session("pod", span, pod_task::run(self.shared.clone(), start, stop.clone(), said, tell));
        self.wake_on_change(report.clone());
        EntryState::Live { ip, stop, conditions, report, warnings }
    }

    /// The loop turns whenever a pod's report changes.
    fn wake_on_change(&self, mut report: watch::Receiver<PodReport>) {
        let changed = self.changed.clone();
        self.tasks.spawn_session("pod-report", info_span!("report"), async move {
            while report.changed().await.is_ok() {
                if changed.send(()).await.is_err() {
                    return;
                }
            }
            // The task has ended: what it said last counts.
            let _ = changed.send(()).await;
        });
    }

    fn publish(&mut self) -> anyhow::Result<()> {
        let reports: BTreeMap<&NamespacedName, PodReport> = self
            .pods
            .iter()
            .filter_map(|(name, entry)| match &entry.state {
                EntryState::Live { report, .. } => Some((name, report.borrow().clone())),
                EntryState::Refused(_) | EntryState::Held => None,
            })
            .collect();
        let is_over = |phase| matches!(phase, Phase::Succeeded | Phase::Failed);
        let backends: Vec<(&NamespacedName, Backend<'_>)> = reports
            .iter()
            .filter(|(_, report)| !is_over(report.status.phase))
            .filter_map(|(name, report)| {
                let (ips, is_ready, is_terminating) =
                    (report.status.ips()?, report.status.ready, report.status.terminating);
                Some((*name, Backend { pod: &report.pod, ips, is_ready, is_terminating }))
            })
            .collect();
        let pods = reports.values().map(|report| Object::Pod(crate::publish::with_status(report))).collect();
        self.publisher.publish(Layer::Pods, pods)?;
        let seen: Vec<(NamespacedName, bool, bool)> =
            backends.iter().map(|(name, b)| ((*name).clone(), b.is_ready, b.is_terminating)).collect();
        if self.backends_seen.as_ref() == Some(&seen) {
            return Ok(());
        }
        let backends: Vec<Backend<'_>> = backends.into_iter().map(|(_, backend)| backend).collect();
        let found = slices(&self.world, &backends);
        self.publisher.publish(Layer::Written, written(&self.world, &self.cluster_ips))?;
        self.publisher.publish(Layer::Endpoints, found.values().cloned().map(Object::EndpointSlice).collect())?;
        let by_service = by_service(&found);
        let new_zone = zone(&self.world, &self.cluster_ips, &by_service);
        let new_rules = rules(&self.world, &self.cluster_ips, &by_service, self.families);
        self.zone.send_if_modified(|zone| {
            let is_new = **zone != new_zone;
            if is_new {
                *zone = Arc::new(new_zone);
            }
            is_new
        });
        self.rules.send_if_modified(|rules| {
            let is_new = *rules != new_rules;
            *rules = new_rules;
            is_new
        });
        self.slices = found;
        self.backends_seen = Some(seen);
        Ok(())
    }
}
