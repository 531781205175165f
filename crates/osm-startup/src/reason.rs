//! The reasons. Their codes are for programs and never change; `docs/startup.md` has them in a table.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::Owner;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $code:literal $owner:ident $advice:literal,)+) => {
        /// Why a pod waits.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $name,)+
        }

        impl Reason {
            /// All of them, in the order in which a pod meets them.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];

            /// For programs.
            pub fn code(self) -> &'static str {
                match self { $(Reason::$name => $code,)+ }
            }

            /// For conditions and Events of Kubernetes, whose reasons are words of letters.
            pub fn name(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)+ }
            }

            /// Who must act.
            pub fn owner(self) -> Owner {
                match self { $(Reason::$name => Owner::$owner,)+ }
            }

            /// What to do.
            pub fn advice(self) -> &'static str {
                match self { $(Reason::$name => $advice,)+ }
            }
        }
    };
}

reasons! {
    /// Admission refused the pod.
    Refused "refused" Pod "change what the message names, and make the pod again",
    /// Nobody answered at admission.
    WebhookUnavailable "webhook-unavailable" Controller "see why the controller does not answer: kubectl -n osm-system get pods; pods are made by themselves once it does",
    /// No node takes the pod.
    Unscheduled "unscheduled" Pod "see what no node has: kubectl describe pod",
    /// Another webhook put something before `osm-init` or changed the sidecar.
    OrderChanged "order-changed" Webhook "let the other webhook come before osm's, or leave this namespace out, and make the pod again",
    /// The image of `osm-init` or of the sidecar cannot be had.
    ImageMissing "image-missing" Node "check image and pull secrets in spec.sidecar of the MeshConfig, and that the registry has it",
    /// `osm-init` ended badly.
    InitFailed "init-failed" Node "read the log of container osm-init; the node needs iptables' kernel modules and NET_ADMIN for osm-init",
    /// The node's kernel cannot hold connections.
    HoldUnavailable "hold-unavailable" Node "load the kernel module xt_socket on the node",
    /// The agent cannot listen, because somebody else does.
    PortInUse "port-in-use" Application "let the application listen on another port; 15000, 15001, 15003, 15010 and 15901 to 15904 are the sidecar's",
    /// The sidecar's own directory cannot be used.
    StateDirUnusable "state-dir-unusable" Node "free memory or disk of the node, and see that nothing else is mounted on /var/run/osm",
    /// The kernel killed the sidecar for its memory.
    OutOfMemory "out-of-memory" Pod "raise the memory limit: spec.sidecar.resources of the MeshConfig",
    /// The sidecar's container ended.
    SidecarEnded "sidecar-ended" Sidecar "read the log of container envoy",
    /// The sidecar runs and its agent does not answer.
    SidecarSilent "sidecar-silent" Sidecar "read the log of container envoy; is a NetworkPolicy in the way of port 15904?",
    /// The sidecar's container does not run yet.
    SidecarPending "sidecar-pending" Node "wait; kubectl describe pod says what the kubelet does",
    /// What the injector wrote cannot be used.
    SettingsUnusable "settings-unusable" Sidecar "make the pod again, so that it is injected anew",
    /// The pod's token is not there, or is none.
    TokenUnusable "token-unusable" Token "see that the volume osm-token of the pod is mounted and holds a token",
    /// The controller's name is not known.
    ControllerUnresolved "controller-unresolved" Dns "check the cluster's DNS and that the Service osm-controller exists",
    /// Nobody listens at the controller's address.
    ControllerRefused "controller-refused" Controller "see whether the controller runs: kubectl -n osm-system get pods",
    /// No way leads to the controller.
    ControllerUnreachable "controller-unreachable" Network "check routes and NetworkPolicies between the pod and the controller",
    /// The controller does not answer.
    ControllerSilent "controller-silent" Controller "see whether the controller hangs, or a NetworkPolicy drops packets to its port 15128",
    /// The controller does not show a certificate of the mesh's authority.
    ControllerUntrusted "controller-untrusted" Controller "make the pod again, so that it gets the present root, or restore the authority in Secret osm-ca-bundle",
    /// The controller ended the conversation.
    ControllerFailed "controller-failed" Controller "read the controller's log",
    /// The token has run out.
    TokenExpired "token-expired" Token "see that the kubelet renews the token, and that the clocks of node and controller agree",
    /// The token is for somebody else.
    TokenAudience "token-audience" Token "mount a projected service account token with the audience osm",
    /// The token is not believed.
    TokenRefused "token-refused" Token "see that the token is of this cluster and its service account still exists",
    /// The controller does not know the pod.
    PodUnknown "pod-unknown" Controller "wait a moment; if it stays, read the controller's log: its watch of pods may be broken",
    /// The pod runs as another service account than its token says.
    AccountMismatch "service-account-mismatch" Token "make the pod again; a token must belong to the account that the pod runs as",
    /// The controller does not know the cluster yet.
    ControllerOutOfSync "controller-out-of-sync" Controller "wait until the controller has read the cluster; its /health/ready says what is missing",
    /// The pod's namespace is not of the mesh.
    NamespaceNotInMesh "namespace-not-in-mesh" Namespace "add the namespace to the mesh again (osm namespace add), or make the pod again without a sidecar",
    /// The certificate has been asked for.
    CertificatePending "certificate-pending" Controller "wait; if it stays, the controller is overloaded: see osm_cert_issued_time",
    /// The certificate is refused.
    CertificateRefused "certificate-refused" Controller "read the controller's log",
    /// The certificate is too old.
    CertificateExpired "certificate-expired" Node "set the node's clock, or see why the certificate is not renewed",
    /// The configuration has not come.
    ConfigurationPending "configuration-pending" Controller "wait; if it stays, read the controller's log",
    /// The configuration lacks something.
    ConfigurationIncomplete "configuration-incomplete" Controller "read the controller's log; osm explain says what the mesh makes of the pod",
    /// Envoy refused a part of the configuration.
    ConfigurationRejected "configuration-rejected" Controller "find the object that it comes from: osm local status, or kubectl get events; report it if none is wrong",
    /// Envoy's program cannot be started.
    EnvoyUnstartable "envoy-unstartable" Sidecar "check the sidecar's image: Envoy must be in it and fit the node's processor",
    /// Envoy ended.
    EnvoyEnded "envoy-ended" Envoy "read the log of container envoy",
    /// Envoy is not started.
    EnvoyPending "envoy-pending" Sidecar "wait",
    /// Envoy does not answer.
    EnvoySilent "envoy-silent" Envoy "wait; Envoy is restarted when it stays silent. Does the node lack processor time?",
    /// Envoy has not answered for what it was sent.
    EnvoyUnacknowledged "envoy-unacknowledged" Envoy "wait; if it stays, look at osm proxy get config_dump",
    /// Envoy waits for something itself.
    EnvoyWarming "envoy-warming" Envoy "wait; if it stays, look at osm proxy get clusters",
    /// A service that the pod waits for has no endpoint.
    UpstreamWithoutEndpoints "upstream-without-endpoints" Upstream "start the service's pods, or take it out of openservicemesh.io/wait-for",
    /// An init container of the pod's own has not ended.
    OwnInitContainer "own-init-container" Application "read the log of that container",
    /// The application does not pass its own probes.
    ApplicationUnready "application-unready" Application "read the application's log; its sidecar is ready",
    /// The proxies of peers do not know the pod yet.
    PeersPending "peers-pending" Peers "wait; the condition's message names who has not answered",
}

impl Reason {
    /// The one with this code.
    pub fn of_code(code: &str) -> Option<Reason> {
        Reason::ALL.iter().copied().find(|reason| reason.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_words_and_advice_is_no_sentence() {
        let codes: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(reason.code().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{reason}");
            assert!(!reason.advice().ends_with('.') && !reason.advice().is_empty(), "{reason}");
            assert_eq!(Reason::of_code(reason.code()), Some(*reason));
        }
    }

    #[test]
    fn every_reason_is_in_the_documentation_with_its_owner() {
        let page = include_str!("../../../docs/startup.md");
        for reason in Reason::ALL {
            let row = format!("| `{}` | {} |", reason.code(), reason.owner());
            assert!(page.contains(&row), "docs/startup.md lacks the row {row}");
        }
    }
}
