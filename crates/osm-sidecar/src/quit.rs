//! The end of a sidecar that would keep its pod from completing: in a Job whose pods have no native sidecars, Kubernetes
//! waits for it as for any other container.

use osm_ads::Notice;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::farewell::told;

/// What becomes of the order to quit, which OSM's users send to port 15000 at the end of a Job's script.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum QuitPolicy {
    /// It is refused: the container would be started again, with connections waiting meanwhile.
    #[default]
    Refuse,
    /// It is carried out, and so it is when the controller says that the application's containers have ended.
    Obey,
    /// It is not needed: Kubernetes ends a native sidecar with its pod.
    Ignore,
}

/// Knows when the sidecar is to end by itself.
#[derive(Clone, Debug)]
pub struct Quit {
    /// Whether it may.
    pub policy: QuitPolicy,
    /// Told by somebody in the pod.
    pub ordered: CancellationToken,
    /// What the controller says about the pod.
    pub notice: watch::Receiver<Notice>,
}

impl Quit {
    /// Returns when it is to end; never, if it may not. Cancel safe.
    pub async fn is_due(&mut self) {
        match self.policy {
            QuitPolicy::Obey => tokio::select! {
                () = self.ordered.cancelled() => {}
                () = told(&mut self.notice, |notice| notice.is_application_over) => {}
            },
            QuitPolicy::Refuse | QuitPolicy::Ignore => std::future::pending().await,
        }
    }

    /// Takes an order, and says in words what becomes of it: an error if it is refused.
    pub fn order(&self) -> Result<&'static str, &'static str> {
        match self.policy {
            QuitPolicy::Obey => {
                self.ordered.cancel();
                Ok("OK\n")
            }
            QuitPolicy::Ignore => Ok("not needed: the sidecar ends with its pod\n"),
            QuitPolicy::Refuse => Err("only a pod that completes, as that of a Job, can do without its sidecar\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quit(policy: QuitPolicy) -> (watch::Sender<Notice>, Quit) {
        let (sender, notice) = watch::channel(Notice::default());
        (sender, Quit { policy, ordered: CancellationToken::new(), notice })
    }

    async fn is_due(quit: &mut Quit) -> bool {
        tokio::select! {
            biased;
            () = quit.is_due() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn a_jobs_sidecar_ends_by_order_and_when_the_application_has() {
        let (_sender, mut ordered) = quit(QuitPolicy::Obey);
        assert!(!is_due(&mut ordered).await);
        assert_eq!(ordered.order(), Ok("OK\n"));
        assert!(is_due(&mut ordered).await);
        let (sender, mut noticed) = quit(QuitPolicy::Obey);
        sender.send_replace(Notice { is_withdrawn: true, is_application_over: false });
        assert!(!is_due(&mut noticed).await);
        sender.send_replace(Notice { is_withdrawn: false, is_application_over: true });
        assert!(is_due(&mut noticed).await);
    }

    #[tokio::test]
    async fn no_other_sidecar_ends_by_itself() {
        for policy in [QuitPolicy::Refuse, QuitPolicy::Ignore] {
            let (sender, mut other) = quit(policy);
            assert_eq!(other.order().is_ok(), policy == QuitPolicy::Ignore);
            sender.send_replace(Notice { is_withdrawn: true, is_application_over: true });
            assert!(!is_due(&mut other).await);
        }
    }
}
