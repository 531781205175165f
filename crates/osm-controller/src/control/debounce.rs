//! When to publish: a first change at once, a burst of changes once it is over, and never too late.

use std::time::Duration;

use tokio::time::Instant;

/// How long changes are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// A burst is over when nothing has changed for this long.
    pub(crate) quiet: Duration,
    /// No change waits longer than this, however long the burst.
    pub(crate) longest: Duration,
}

/// Says when to publish. Law: no change waits longer than [`Window::longest`].
#[derive(Debug)]
pub(crate) struct Debounce {
    window: Window,
    waiting: Option<Waiting>,
    published: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    first: Instant,
    last: Instant,
}

impl Default for Window {
    /// Short enough that nobody waits for it, long enough that a rollout of a deployment is a handful of pushes.
    fn default() -> Window {
        Window { quiet: Duration::from_millis(25), longest: Duration::from_millis(250) }
    }
}

impl Debounce {
    /// Nothing has changed yet.
    pub(crate) fn new(window: Window) -> Debounce {
        Debounce { window, waiting: None, published: None }
    }

    /// Something changed at `now`.
    pub(crate) fn note(&mut self, now: Instant) {
        let first = self.waiting.map_or(now, |waiting| waiting.first);
        self.waiting = Some(Waiting { first, last: now });
    }

    /// When to publish; none while nothing waits.
    pub(crate) fn due(&self) -> Option<Instant> {
        let Waiting { first, last } = self.waiting?;
        if self.published.is_none_or(|published| published + self.window.quiet <= first) {
            return Some(first);
        }
        Some((last + self.window.quiet).min(first + self.window.longest))
    }

    /// All that waited is being published at `now`; returns since when the first of it waited.
    pub(crate) fn publish(&mut self, now: Instant) -> Option<Instant> {
        self.published = Some(now);
        self.waiting.take().map(|waiting| waiting.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The times at which changes that come at `changes_ms` (sorted) are published, and the longest wait of any.
    fn run(changes_ms: &[u64]) -> (Vec<u64>, u64) {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let since = |instant: Instant| u64::try_from(instant.duration_since(start).as_millis()).unwrap();
        let mut debounce = Debounce::new(Window::default());
        let (mut published, mut longest) = (Vec::new(), 0);
        let mut publish_until = |debounce: &mut Debounce, limit: Option<Instant>| {
            while let Some(due) = debounce.due().filter(|due| limit.is_none_or(|limit| *due < limit)) {
                longest = longest.max(since(due) - since(debounce.publish(due).unwrap()));
                published.push(since(due));
            }
        };
        for change in changes_ms {
            publish_until(&mut debounce, Some(at(*change)));
            debounce.note(at(*change));
        }
        publish_until(&mut debounce, None);
        (published, longest)
    }

    #[test]
    fn a_first_change_is_published_at_once_and_a_burst_after_it_once() {
        assert_eq!(run(&[100]).0, [100]);
        assert_eq!(run(&[100, 101, 110, 130]).0, [100, 155]);
        assert_eq!(run(&[100, 200]).0, [100, 200]);
    }

    #[test]
    fn a_burst_that_never_ends_is_published_at_the_longest_wait() {
        let burst: Vec<u64> = (0..1000).step_by(10).collect();
        assert_eq!(run(&burst).0[..3], [0, 260, 520]);
    }

    proptest! {
        #[test]
        fn no_change_waits_longer_than_the_longest_wait_and_none_is_lost(mut changes in prop::collection::vec(0..5000_u64, 1..200)) {
            changes.sort_unstable();
            let (published, longest) = run(&changes);
            prop_assert!(longest <= 250, "{longest}");
            prop_assert!(published.last() >= changes.last());
            prop_assert!(published.windows(2).all(|pair| pair[1] - pair[0] >= 25));
        }
    }
}
