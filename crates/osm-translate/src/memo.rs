//! Results that are kept while their whole argument stays the same.

use std::collections::BTreeMap;

/// Results by slot. A slot only says where to look; whether the result still holds is decided by the whole argument,
/// because a key that somebody wrote by hand forgets a field one day.
#[derive(Debug)]
pub(crate) struct Memo<K, A, R> {
    slots: BTreeMap<K, Slot<A, R>>,
    /// How often a result was asked for.
    asked: u64,
}

#[derive(Debug)]
struct Slot<A, R> {
    argument: A,
    result: R,
    /// The value of `asked` when it was used last.
    used: u64,
}

impl<K, A, R> Default for Memo<K, A, R> {
    fn default() -> Memo<K, A, R> {
        Memo { slots: BTreeMap::new(), asked: 0 }
    }
}

impl<K: Ord, A: PartialEq, R: Clone> Memo<K, A, R> {
    /// The result for the argument, from the slot if its argument was the same. `make` is given what the slot held
    /// before, so that parts that come out equal can stay the same values.
    pub(crate) fn get(&mut self, slot: K, argument: A, make: impl FnOnce(&A, Option<&R>) -> R) -> R {
        self.asked += 1;
        let used = self.asked;
        let held = self.slots.get_mut(&slot);
        if let Some(held) = held {
            if held.argument != argument {
                held.result = make(&argument, Some(&held.result));
            }
            // The newer argument: its parts are those that the next caller holds too, and equal pointers compare fast.
            held.argument = argument;
            held.used = used;
            return held.result.clone();
        }
        let result = make(&argument, None);
        self.slots.insert(slot, Slot { argument, result: result.clone(), used });
        result
    }

    /// Keeps no more than twice `limit` results: above, those that were not among the last `limit` that were asked for
    /// are forgotten. Half of them at least, so that it is seldom done.
    pub(crate) fn trim(&mut self, limit: usize) {
        if self.slots.len() > 2 * limit {
            let oldest = self.asked.saturating_sub(limit as u64);
            self.slots.retain(|_, slot| slot.used > oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_made_again_when_any_part_of_its_argument_changes() {
        let mut memo: Memo<&str, (u8, u8), u8> = Memo::default();
        let mut made = Vec::new();
        let mut get = |argument: (u8, u8)| {
            memo.get("sum", argument, |(a, b), before| {
                made.push(before.copied());
                a + b
            })
        };
        assert_eq!((get((1, 2)), get((1, 2)), get((1, 3))), (3, 3, 4));
        assert_eq!(made, [None, Some(3)]);
    }

    #[test]
    fn above_the_limit_what_was_asked_for_last_is_kept() {
        let mut memo: Memo<u8, u8, u8> = Memo::default();
        let mut ask = |slots: std::ops::Range<u8>| {
            for slot in slots {
                memo.get(slot, slot, |argument, _| *argument);
            }
            memo.trim(2);
            memo.slots.keys().copied().collect::<Vec<_>>()
        };
        assert_eq!(ask(0..4), [0, 1, 2, 3]);
        assert_eq!(ask(0..1), [0, 1, 2, 3]);
        assert_eq!(ask(4..5), [0, 4]);
    }
}
