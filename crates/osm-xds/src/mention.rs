//! Which resources a client's message is about: xDS has no field for that, but clients name them in the text.

use std::ops::Range;

/// Whether the message names this resource.
pub(crate) fn mentions(message: &str, name: &str) -> bool {
    places(message, name).next().is_some()
}

/// The message without this name.
pub(crate) fn without(message: &str, name: &str) -> String {
    let mut text = String::new();
    let mut rest = 0;
    for place in places(message, name) {
        text.push_str(&message[rest..place.start]);
        text.push('…');
        rest = place.end;
    }
    text.push_str(&message[rest..]);
    text
}

/// Where the name stands by itself: `web|80` is not in `web|8080`, nor in `my-web|80`.
fn places<'a>(message: &'a str, name: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '|' | '/');
    let goes_on = move |text: &str| {
        let mut following = text.chars();
        // A full stop is part of a name only if something follows.
        following.next().is_some_and(|c| is_part(c) || (c == '.' && following.next().is_some_and(is_part)))
    };
    let begins_before = move |text: &str| text.chars().next_back().is_some_and(|c| is_part(c) || c == '.');
    message
        .match_indices(name)
        .map(|(start, found)| start..start + found.len())
        .filter(move |place| !begins_before(&message[..place.start]) && !goes_on(&message[place.end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_itself_only() {
        let message = "Error adding/updating cluster(s) shop/web|8080: no such filter, rds-outbound.80. The end";
        for (name, is_there) in [
            ("shop/web|8080", true),
            ("shop/web|80", false),
            ("web|8080", false),
            ("rds-outbound.80", true),
            ("rds-outbound", false),
            ("end", true),
        ] {
            assert_eq!(mentions(message, name), is_there, "{name}");
        }
        assert_eq!(without("cannot use c1, c11 or c1", "c1"), "cannot use …, c11 or …");
    }
}
