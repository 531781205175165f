//! The scenarios, in the order in which they are best run: a failure of an early one explains later ones.

mod bookstore;
mod causes;
mod chance;
mod closed;
mod cluster;
mod commands;
mod control_plane;
mod ends;
mod hold;
mod input;
mod ipv6;
mod isolation;
mod jobs;
mod late;
mod layers;
mod machine;
mod manifests;
mod outage;
mod parking;
mod peers;
mod policies;
mod probes;
mod random_faults;
mod rollouts;
mod shapes;
mod starts;
mod traffic;
mod updates;
mod waits;
mod webhooks;
mod wire;

use anyhow::Result;

use crate::Choice;
use crate::lab::{Lab, Place, wait_for};

/// One scenario.
pub(crate) struct Scenario {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it shows, in a sentence.
    pub(crate) shows: &'static str,
    /// Where it runs.
    pub(crate) places: &'static [Place],
    /// Runs it; the text holds the figures worth printing.
    pub(crate) run: fn(&Choice) -> Result<String>,
}

const ON_A_MACHINE: &[Place] = &[Place::Machine];
const IN_A_CLUSTER: &[Place] = &[Place::Cluster];
const EVERYWHERE: &[Place] = &[Place::Machine, Place::Cluster];

/// Where everything takes longer, what all of them together take counts.
const BY_NAME_IN_A_CLUSTER: &[&str] = &[
    "no-endpoint-before-its-inbound",
    "ready-when-its-peers-know",
    "kills-under-load",
    "hangs-under-load",
    "hand-overs",
    "rolling-updates-under-load",
    "nothing-starts-half",
    "a-new-pod-waits-for-the-controller",
];

impl Scenario {
    /// Whether it runs there only when it is asked for by name.
    pub(crate) fn is_by_name_only(&self, place: Place) -> bool {
        place == Place::Cluster && BY_NAME_IN_A_CLUSTER.contains(&self.name)
    }
}

/// Every scenario.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "two-programs-talk",
        shows: "a client reaches a server by every name and by address, through both Envoys, over HTTP and TCP",
        places: EVERYWHERE,
        run: traffic::two_programs_talk,
    },
    Scenario {
        name: "the-wire-is-encrypted",
        shows: "a capture on the bridge holds plain text of pods outside the mesh, and none of pods inside",
        places: ON_A_MACHINE,
        run: traffic::the_wire_is_encrypted,
    },
    Scenario {
        name: "the-mesh-is-closed",
        shows: "a pod outside the mesh gets no answer from a pod inside",
        places: EVERYWHERE,
        run: traffic::the_mesh_is_closed,
    },
    Scenario {
        name: "once-with-hold",
        shows: "a pod that connects once, at once, and is never restarted, succeeds every time",
        places: EVERYWHERE,
        run: hold::once_with_hold,
    },
    Scenario {
        name: "once-without-hold",
        shows: "the same pod fails when the hold is switched off: the promise is the hold's work",
        places: ON_A_MACHINE,
        run: hold::once_without_hold,
    },
    Scenario {
        name: "own-init-containers-are-meshed",
        shows: "a pod's own init containers reach the mesh; where none could be there, they say so, or run before it",
        places: EVERYWHERE,
        run: shapes::own_init_containers_are_meshed,
    },
    Scenario {
        name: "the-application-waits-for-its-upstream",
        shows: "with hold: container and wait-for the application starts when its upstream is there, and says why it waits",
        places: EVERYWHERE,
        run: waits::the_application_waits_for_its_upstream,
    },
    Scenario {
        name: "the-wait-for-an-upstream-ends",
        shows: "a pod is not ready before the services that it waits for have endpoints, or its limit has passed",
        places: EVERYWHERE,
        run: waits::the_wait_for_an_upstream_ends,
    },
    Scenario {
        name: "probes-pass-while-envoy-restarts",
        shows: "every kind of probe for every purpose passes under mTLS while Envoy is killed over and over",
        places: EVERYWHERE,
        run: probes::probes_pass_while_envoy_restarts,
    },
    Scenario {
        name: "ipv6-does-not-hang",
        shows: "in a pod that started without IPv6, ::1, names with addresses of both families and IPv6 that comes later work at once",
        places: ON_A_MACHINE,
        run: ipv6::ipv6_does_not_hang,
    },
    Scenario {
        name: "ipv6-is-meshed",
        shows: "over IPv6 pods are encrypted, refused, held, parked and served as over IPv4",
        places: EVERYWHERE,
        run: ipv6::ipv6_is_meshed,
    },
    Scenario {
        name: "merged-gives-up-its-rights",
        shows: "the sidecar that installs the rules itself has no right left, nor a way to get any, and the mesh may ask for it",
        places: ON_A_MACHINE,
        run: shapes::merged_gives_up_its_rights,
    },
    Scenario {
        name: "jobs-with-a-sidecar-complete",
        shows: "a Job's pod is over when its work is, with the work's own exit code, whatever the restart policy",
        places: ON_A_MACHINE,
        run: jobs::jobs_with_a_sidecar_complete,
    },
    Scenario {
        name: "a-failing-job-is-given-up",
        shows: "a Job whose work fails is given up with the reason that Kubernetes gives",
        places: ON_A_MACHINE,
        run: jobs::a_failing_job_is_given_up,
    },
    Scenario {
        name: "jobs-complete-in-shape-init",
        shows: "a Job whose sidecar is no native one completes, by itself and by quitquitquit, with the work's exit code",
        places: ON_A_MACHINE,
        run: ends::jobs_complete_in_shape_init,
    },
    Scenario {
        name: "the-network-outlives-the-application",
        shows: "preStop hooks and applications that shut down are answered, in every shape",
        places: EVERYWHERE,
        run: ends::the_network_outlives_the_application,
    },
    Scenario {
        name: "requests-under-way-are-answered",
        shows: "a server is told to end with requests under way and others coming: each is answered",
        places: EVERYWHERE,
        run: ends::requests_under_way_are_answered,
    },
    Scenario {
        name: "no-endpoint-before-its-inbound",
        shows: "a new pod is no endpoint of its peers before its sidecar is programmed",
        places: EVERYWHERE,
        run: peers::no_endpoint_before_its_inbound,
    },
    Scenario {
        name: "ready-when-its-peers-know",
        shows: "a new pod is ready when the proxies that reach it have it, or after a limit, and says why",
        places: EVERYWHERE,
        run: peers::ready_when_its_peers_know,
    },
    Scenario {
        name: "envoy-killed-under-load",
        shows: "Envoy killed under 200 new connections a second: none is refused",
        places: EVERYWHERE,
        run: hold::envoy_killed_under_load,
    },
    Scenario {
        name: "envoy-killed-behind-a-filter",
        shows: "the same in a pod with the container runtime's filter of system calls",
        places: IN_A_CLUSTER,
        run: hold::envoy_killed_behind_a_filter,
    },
    Scenario {
        name: "sidecar-killed-under-load",
        shows: "the whole sidecar container is killed under load, in every shape: no connection is refused",
        places: EVERYWHERE,
        run: shapes::sidecar_killed_under_load,
    },
    Scenario {
        name: "connections-are-taken-at-once",
        shows: "while the sidecar waits for the controller, connect() returns at once; served later, also if the server speaks first",
        places: EVERYWHERE,
        run: parking::connections_are_taken_at_once,
    },
    Scenario {
        name: "kills-under-load",
        shows: "Envoy killed again and again under 500 new connections a second: none refused, none lost from its queue",
        places: EVERYWHERE,
        run: parking::kills_under_load,
    },
    Scenario {
        name: "hangs-under-load",
        shows: "Envoy stopped with SIGSTOP under load: replaced within half a second, the application is not restarted",
        places: EVERYWHERE,
        run: parking::hangs_under_load,
    },
    Scenario {
        name: "hand-overs",
        shows: "connections opened while the agent hands over to a new Envoy: none refused, none reset",
        places: EVERYWHERE,
        run: parking::hand_overs,
    },
    Scenario {
        name: "controller-killed",
        shows: "traffic goes on and Envoy is programmed again while the controller is down",
        places: EVERYWHERE,
        run: hold::controller_killed,
    },
    Scenario {
        name: "sidecar-killed-without-controller",
        shows: "agent and Envoy killed while the controller is down: programmed again from the last good state",
        places: ON_A_MACHINE,
        run: hold::sidecar_killed_without_controller,
    },
    Scenario {
        name: "a-new-pod-waits-for-the-controller",
        shows: "a pod made while the controller is down says what it waits for, and starts when it is back",
        places: EVERYWHERE,
        run: outage::a_new_pod_waits_for_the_controller,
    },
    Scenario {
        name: "starts-with-random-faults",
        shows: "pods start while controller, network, agent and Envoy fail at random: none of their connections is refused",
        places: ON_A_MACHINE,
        run: random_faults::starts_with_random_faults,
    },
    Scenario {
        name: "each-layer-is-needed",
        shows: "with a layer of the start-up promise switched off, the scenarios that it is for fail, and say how",
        places: ON_A_MACHINE,
        run: layers::each_layer_is_needed,
    },
    Scenario {
        name: "twenty-causes",
        shows: "each cause that can hold a pod is injected for real, and `osm startup` names it within two seconds",
        places: ON_A_MACHINE,
        run: causes::twenty_causes,
    },
    Scenario {
        name: "starts-are-pictured",
        shows: "osm startup shows every step of a start, and --all the length of each phase, slowest first",
        places: EVERYWHERE,
        run: causes::starts_are_pictured,
    },
    Scenario {
        name: "nothing-starts-half",
        shows: "certificate or policies come late: the pod waits and says so, is served when they come, and never more than it may",
        places: EVERYWHERE,
        run: late::nothing_starts_half,
    },
    Scenario {
        name: "a-grant-revoked-meanwhile",
        shows: "a grant revoked while the controller is down is honoured within the stated time after it is back",
        places: ON_A_MACHINE,
        run: outage::a_grant_revoked_meanwhile,
    },
    Scenario {
        name: "the-bookstore-in-both-modes",
        shows: "permissive mode lets both buy; SMI mode gives the bookthief 403 while the bookbuyer goes on; and back",
        places: EVERYWHERE,
        run: bookstore::the_bookstore_in_both_modes,
    },
    Scenario {
        name: "switching-the-mode-fails-nothing",
        shows: "the mode is switched under 100 requests a second that both modes allow: none fails",
        places: EVERYWHERE,
        run: bookstore::switching_the_mode_fails_nothing,
    },
    Scenario {
        name: "the-sidecar-is-out-of-reach",
        shows: "an application can neither stop Envoy, nor read keys, nor ask for secrets, nor open its sockets",
        places: ON_A_MACHINE,
        run: isolation::the_sidecar_is_out_of_reach,
    },
    Scenario {
        name: "a-cluster-update-takes-effect",
        shows: "a changed cluster is in force at a proxy that already runs",
        places: EVERYWHERE,
        run: updates::a_cluster_update_takes_effect,
    },
    Scenario {
        name: "an-unrelated-change-touches-nothing",
        shows: "services come and go while a connection stays open",
        places: EVERYWHERE,
        run: updates::an_unrelated_change_touches_nothing,
    },
    Scenario {
        name: "rolling-updates-under-load",
        shows: "client and server are replaced in turn under 500 requests a second without retries: none fails",
        places: EVERYWHERE,
        run: rollouts::rolling_updates_under_load,
    },
    Scenario {
        name: "rolling-updates-of-programs-that-drop-everything",
        shows: "the same with servers that end at once when they are told to: none of the requests, which are idempotent, fails",
        places: ON_A_MACHINE,
        run: rollouts::rolling_updates_of_programs_that_drop_everything,
    },
    Scenario {
        name: "explanations-agree-with-the-traffic",
        shows: "osm explain and osm policy check-pods say what the proxies do, and by which objects",
        places: ON_A_MACHINE,
        run: commands::explanations_agree_with_the_traffic,
    },
    Scenario {
        name: "proxies-are-looked-into",
        shows: "osm proxy get prints configuration, clusters and statistics of a proxy, or says why it cannot",
        places: ON_A_MACHINE,
        run: commands::proxies_are_looked_into,
    },
    Scenario {
        name: "bad-input-is-named",
        shows: "every bad object is named by file, object and field, and the rest goes on",
        places: ON_A_MACHINE,
        run: input::bad_input_is_named,
    },
    Scenario {
        name: "bad-policies-admit-nobody",
        shows: "broken grants and settings are named by file, object and field, admit nobody, and harm nothing",
        places: ON_A_MACHINE,
        run: policies::bad_policies_admit_nobody,
    },
    Scenario {
        name: "ten-thousand-objects",
        shows: "ten thousand objects at once are taken in, and pods still start",
        places: ON_A_MACHINE,
        run: input::ten_thousand_objects,
    },
    Scenario {
        name: "the-machine-stays-as-it-was",
        shows: "tables, links, namespaces, mounts and processes of the machine are the same before and after",
        places: ON_A_MACHINE,
        run: machine::the_machine_stays_as_it_was,
    },
    Scenario {
        name: "a-killed-runner-leaves-nothing",
        shows: "kill -9 of the runner ends everything that it started",
        places: ON_A_MACHINE,
        run: machine::a_killed_runner_leaves_nothing,
    },
    Scenario {
        name: "a-job-completes",
        shows: "a Job with a sidecar completes on a real kubelet",
        places: IN_A_CLUSTER,
        run: cluster::a_job_completes,
    },
    Scenario {
        name: "kubectl-run-connects-at-once",
        shows: "50 pods of `kubectl run --restart=Never` that connect at once, on a real kubelet: all succeed",
        places: IN_A_CLUSTER,
        run: starts::kubectl_run_connects_at_once,
    },
    Scenario {
        name: "nothing-leaves-unmeshed",
        shows: "the sidecar's image is missing, or osm-init fails: a capture on the node holds no packet of the pod, in any shape",
        places: EVERYWHERE,
        run: starts::nothing_leaves_unmeshed,
    },
    Scenario {
        name: "a-recreated-sandbox-is-meshed",
        shows: "a pod's sandbox ends and is made anew, in every shape: its application is in the mesh again",
        places: IN_A_CLUSTER,
        run: shapes::a_recreated_sandbox_is_meshed,
    },
    Scenario {
        name: "who-cannot-be-meshed-is-told",
        shows: "a pod on the host's network, one for Windows and one of an ignored namespace stay outside, and Events say so",
        places: IN_A_CLUSTER,
        run: control_plane::who_cannot_be_meshed_is_told,
    },
    Scenario {
        name: "the-controller-may-do-only-its-work",
        shows: "requests with the controller's own rights that it does not need are refused",
        places: IN_A_CLUSTER,
        run: control_plane::the_controller_may_do_only_its_work,
    },
    Scenario {
        name: "without-a-controller-nothing-starts-bare",
        shows: "no controller: pods of the mesh are not made and Kubernetes says why, others are, and it heals by itself",
        places: IN_A_CLUSTER,
        run: control_plane::without_a_controller_nothing_starts_bare,
    },
    Scenario {
        name: "either-of-two-controllers-may-die",
        shows: "each of two controllers is killed in turn under load: no request fails, new pods start",
        places: IN_A_CLUSTER,
        run: control_plane::either_of_two_controllers_may_die,
    },
    Scenario {
        name: "no-pod-starts-bare",
        shows: "a pod made in the middle of a controller's roll-out is injected, or refused with a reason",
        places: IN_A_CLUSTER,
        run: cluster::no_pod_starts_bare,
    },
    Scenario {
        name: "another-webhook-changes-the-order",
        shows: "another webhook moves or changes our containers after us: that is repaired, or the pod refused with the culprit",
        places: IN_A_CLUSTER,
        run: webhooks::another_webhook_changes_the_order,
    },
    Scenario {
        name: "the-api-server-restarts",
        shows: "the API server is killed: what is made afterwards is in force without a manual step",
        places: IN_A_CLUSTER,
        run: cluster::the_api_server_restarts,
    },
    Scenario {
        name: "the-node-restarts",
        shows: "every pod, the kubelet and the container runtime end at once: everything converges",
        places: IN_A_CLUSTER,
        run: cluster::the_node_restarts,
    },
];

/// A lab with the shop in it, whose client has been answered by its server.
fn open_shop(choice: &Choice) -> Result<Lab> {
    open(choice, &manifests::shop())
}

/// The same with manifests among which the shop is.
fn open(choice: &Choice, manifests: &str) -> Result<Lab> {
    let lab = Lab::up(choice, manifests)?;
    lab.wait_ready("shop/server")?;
    lab.wait_ready("shop/client")?;
    wait_for("the server answers", || lab.pod("shop/client").get("http://server.shop/"))?;
    Ok(lab)
}
