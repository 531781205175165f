//! When a certificate holds, and when to ask for the next one.

use jiff::{SignedDuration, Timestamp};
use rand::{Rng, RngExt};
use time::OffsetDateTime;
use x509_parser::prelude::X509Certificate;

/// How far certificates are dated back, so that a machine whose clock is slow by less accepts a fresh one.
pub const CLOCK_SKEW_ALLOWANCE: SignedDuration = SignedDuration::from_mins(5);

/// From when to when a certificate holds, in whole seconds as X.509 has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: Timestamp,
    /// The last moment.
    pub not_after: Timestamp,
}

/// A period for which no certificate can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidityError {
    /// Nothing would be valid.
    #[error("a certificate needs a lifetime of at least one second, not {0}")]
    NoLifetime(SignedDuration),
    /// The issuer is not valid now.
    #[error("the authority is valid from {} to {}, and it is {now}", issuer.not_before, issuer.not_after)]
    IssuerNotValid {
        /// The issuer's period.
        issuer: Validity,
        /// The time of the attempt.
        now: Timestamp,
    },
    /// X.509 has no such time.
    #[error("the time {0} cannot be written into a certificate (years 1970 to 9999 can)")]
    OutOfRange(Timestamp),
}

/// A random point of the last third of a certificate's life, early enough that a twelfth of the life is
/// left for retries. Random, so that workloads started together do not all ask at once.
///
/// A period of no length is to be renewed at once, at `not_before`.
pub fn renew_at(not_before: Timestamp, not_after: Timestamp, rng: &mut impl Rng) -> Timestamp {
    let life_ms = not_after.as_millisecond().saturating_sub(not_before.as_millisecond());
    if life_ms <= 0 {
        return not_before;
    }
    // Rounded up, so that the earliest point is never before two thirds.
    let earliest_ms = life_ms - life_ms / 3;
    let latest_ms = (life_ms - life_ms / 12).max(earliest_ms);
    let offset_ms = rng.random_range(earliest_ms..=latest_ms).min(life_ms - 1);
    not_before.checked_add(SignedDuration::from_millis(offset_ms)).unwrap_or(not_before)
}

impl Validity {
    /// The period of a certificate made now for `lifetime`: dated back by [`CLOCK_SKEW_ALLOWANCE`].
    pub(crate) fn starting(now: Timestamp, lifetime: SignedDuration) -> Result<Validity, ValidityError> {
        if lifetime < SignedDuration::from_secs(1) {
            return Err(ValidityError::NoLifetime(lifetime));
        }
        let not_before = whole_seconds(now.saturating_sub(CLOCK_SKEW_ALLOWANCE).unwrap_or(Timestamp::MIN))?;
        let not_after = whole_seconds(now.saturating_add(lifetime).unwrap_or(Timestamp::MAX))?;
        Ok(Validity { not_before, not_after })
    }

    /// The part of [`Validity::starting`] that lies within the issuer's own period.
    pub(crate) fn within(
        issuer: Validity,
        now: Timestamp,
        lifetime: SignedDuration,
    ) -> Result<Validity, ValidityError> {
        if now < issuer.not_before || now >= issuer.not_after {
            return Err(ValidityError::IssuerNotValid { issuer, now });
        }
        let wanted = Validity::starting(now, lifetime)?;
        Ok(Validity {
            not_before: wanted.not_before.max(issuer.not_before),
            not_after: wanted.not_after.min(issuer.not_after),
        })
    }

    /// The period written in a certificate.
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Option<Validity> {
        let validity = certificate.validity();
        Some(Validity {
            not_before: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
            not_after: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
        })
    }
}

/// The same moment in the type that the certificate writer takes.
pub(crate) fn x509_time(moment: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(moment.as_second()).expect("periods are checked to lie in years 1970 to 9999")
}

fn whole_seconds(moment: Timestamp) -> Result<Timestamp, ValidityError> {
    let second = moment.as_second();
    if second < 0 {
        return Err(ValidityError::OutOfRange(moment));
    }
    Timestamp::from_second(second).map_err(|_| ValidityError::OutOfRange(moment))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    proptest! {
        #[test]
        fn renewal_is_in_the_last_third_and_before_expiry(
            start in 0i64..4_000_000_000,
            life_s in 1i64..400_000_000,
            seed: u64,
        ) {
            let not_before = Timestamp::from_second(start).unwrap();
            let not_after = Timestamp::from_second(start + life_s).unwrap();
            let at = renew_at(not_before, not_after, &mut StdRng::seed_from_u64(seed));
            prop_assert!(at < not_after, "{at} is not before {not_after}");
            let into_life_ms = at.as_millisecond() - not_before.as_millisecond();
            prop_assert!(into_life_ms * 3 >= life_s * 2000, "{at} is before the last third");
        }
    }

    #[test]
    fn renewals_are_spread() {
        let day = SignedDuration::from_hours(24);
        let (from, to) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + day);
        let mut rng = StdRng::seed_from_u64(1);
        let mut points: Vec<_> = (0..100).map(|_| renew_at(from, to, &mut rng)).collect();
        points.sort();
        points.dedup();
        assert!(points.len() > 90, "only {} different points", points.len());
        let spread = points[points.len() - 1].duration_since(points[0]);
        assert!(spread > SignedDuration::from_hours(4), "spread only over {spread}");
        assert!(to.duration_since(points[points.len() - 1]) >= SignedDuration::from_hours(2));
    }

    #[test]
    fn an_empty_period_is_renewed_at_once() {
        let now = Timestamp::from_second(100).unwrap();
        assert_eq!(renew_at(now, now, &mut StdRng::seed_from_u64(1)), now);
        assert_eq!(renew_at(now, Timestamp::UNIX_EPOCH, &mut StdRng::seed_from_u64(1)), now);
        let (from, to) = (Timestamp::MIN, Timestamp::MAX);
        assert!(renew_at(from, to, &mut StdRng::seed_from_u64(1)) < to);
    }

    #[test]
    fn periods_that_x509_cannot_write_are_refused() {
        let second = SignedDuration::from_secs(1);
        assert!(matches!(Validity::starting(Timestamp::MIN, second), Err(ValidityError::OutOfRange(_))));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        assert!(matches!(Validity::starting(now, SignedDuration::from_millis(999)), Err(ValidityError::NoLifetime(_))));
        let forever = Validity::starting(now, SignedDuration::MAX).unwrap();
        x509_time(forever.not_after);
    }
}
