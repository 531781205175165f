//! What was said of tokens before. Tokens themselves are not kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use osm_pki::TokenDigest;
use tokio::time::Instant;

use super::Bound;
use crate::caller::Refusal;

/// A pod that is let in is not asked about again within this. A pod that was deleted is noticed at once all the same:
/// it is gone from the World.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// While the API server cannot be reached a review counts for this long. A token of a pod lives an hour.
const LAST_RESORT_FOR: Duration = Duration::from_secs(15 * 60);

/// A token that was refused is not asked about again within this, or one broken pod would keep the API server busy.
const BAD_FOR: Duration = Duration::from_secs(2);

/// Twice the pods that one controller is made for. Beyond, what is oldest goes.
const VERDICTS_MAX: usize = 20_000;

/// What was said of one token.
pub(super) type Verdict = Result<Arc<Bound>, Refusal>;

/// Verdicts by token.
#[derive(Debug, Default)]
pub(super) struct Cache {
    verdicts: BTreeMap<TokenDigest, (Verdict, Instant)>,
}

impl Cache {
    /// What was said of a token before `now`, if it counts still, and whether it is fresh.
    pub(super) fn get(&self, digest: &TokenDigest, now: Instant) -> Option<(Verdict, bool)> {
        let (verdict, said) = self.verdicts.get(digest)?;
        let (fresh, limit) = match verdict {
            Ok(_) => (GOOD_FOR, LAST_RESORT_FOR),
            Err(_) => (BAD_FOR, BAD_FOR),
        };
        let age = now.duration_since(*said);
        (age < limit).then(|| (verdict.clone(), age < fresh))
    }

    /// Keeps what was said at `now`.
    pub(super) fn put(&mut self, digest: TokenDigest, verdict: Verdict, now: Instant) {
        if self.verdicts.len() >= VERDICTS_MAX && !self.verdicts.contains_key(&digest) {
            let kept = |said: &Instant, limit| now.duration_since(*said) < limit;
            self.verdicts
                .retain(|_, (verdict, said)| kept(said, if verdict.is_ok() { LAST_RESORT_FOR } else { BAD_FOR }));
            // All of them count still: half go, so that this is not done each time.
            if self.verdicts.len() >= VERDICTS_MAX {
                let mut times: Vec<Instant> = self.verdicts.values().map(|(_, said)| *said).collect();
                times.sort_unstable();
                let middle = times[times.len() / 2];
                self.verdicts.retain(|_, (_, said)| *said > middle);
            }
        }
        self.verdicts.insert(digest, (verdict, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use osm_pki::digest_token;

    fn refused() -> Verdict {
        Err(Refusal::NoToken)
    }

    #[test]
    fn a_refusal_is_soon_forgotten() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(digest_token("a"), refused(), now);
        assert_eq!(cache.get(&digest_token("a"), now), Some((refused(), true)));
        assert_eq!(cache.get(&digest_token("a"), now + BAD_FOR), None);
        assert_eq!(cache.get(&digest_token("b"), now), None);
    }

    #[test]
    fn the_number_of_verdicts_is_bounded_whatever_comes() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        for index in 0..2 * VERDICTS_MAX {
            cache.put(digest_token(&index.to_string()), refused(), start + Duration::from_nanos(index as u64));
            assert!(cache.verdicts.len() <= VERDICTS_MAX);
        }
        let last = digest_token(&(2 * VERDICTS_MAX - 1).to_string());
        assert!(cache.get(&last, start + Duration::from_millis(1)).is_some());
    }
}
