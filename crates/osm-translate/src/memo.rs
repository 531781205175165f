//! Results that are kept while their whole argument stays the same.

use std::collections::BTreeMap;

/// Results by slot. A slot only says where to look; whether the result still holds is decided by the whole argument,
/// because a key that somebody wrote by hand forgets a field one day.
#[derive(Debug)]
pub(crate) struct Memo<K, A, R> {
    slots: BTreeMap<K, Slot<A, R>>,
    round: u64,
}

#[derive(Debug)]
struct Slot<A, R> {
    argument: A,
    result: R,
    /// The round in which it was used last.
    used: u64,
}

impl<K, A, R> Default for Memo<K, A, R> {
    fn default() -> Memo<K, A, R> {
        Memo { slots: BTreeMap::new(), round: 0 }
    }
}

impl<K: Ord, A: PartialEq, R: Clone> Memo<K, A, R> {
    /// The result of `make(&argument)`, from the slot if its argument was the same.
    pub(crate) fn get(&mut self, slot: K, argument: A, make: impl FnOnce(&A) -> R) -> R {
        let round = self.round;
        if let Some(slot) = self.slots.get_mut(&slot)
            && slot.argument == argument
        {
            // The newer argument: its parts are those that the next caller holds too, and equal pointers compare fast.
            slot.argument = argument;
            slot.used = round;
            return slot.result.clone();
        }
        let result = make(&argument);
        self.slots.insert(slot, Slot { argument, result: result.clone(), used: round });
        result
    }

    /// Ends a round. When there are more than `limit` slots, those that the round did not use are forgotten.
    pub(crate) fn end_round(&mut self, limit: usize) {
        if self.slots.len() > limit {
            let round = self.round;
            self.slots.retain(|_, slot| slot.used == round);
        }
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_made_again_when_any_part_of_its_argument_changes() {
        let mut memo: Memo<&str, (u8, u8), u8> = Memo::default();
        let mut made = 0;
        let mut get = |argument: (u8, u8)| {
            memo.get("sum", argument, |(a, b)| {
                made += 1;
                a + b
            })
        };
        assert_eq!((get((1, 2)), get((1, 2)), get((1, 3))), (3, 3, 4));
        assert_eq!(made, 2);
    }

    #[test]
    fn above_the_limit_what_a_round_did_not_use_is_forgotten() {
        let mut memo: Memo<u8, u8, u8> = Memo::default();
        for slot in 0..4 {
            memo.get(slot, slot, |argument| *argument);
        }
        memo.end_round(4);
        assert_eq!(memo.slots.len(), 4);
        memo.get(3, 3, |argument| *argument);
        memo.end_round(3);
        assert_eq!(memo.slots.keys().copied().collect::<Vec<_>>(), [3]);
    }
}
