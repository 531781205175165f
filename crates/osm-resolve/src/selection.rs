//! Which pods a selector selects, without looking at every pod for every service.

use std::collections::{BTreeMap, BTreeSet};

use osm_api::NamespacedName;

/// Pods by namespace and label.
#[derive(Debug, Default)]
pub(crate) struct LabelIndex<'w> {
    pods: BTreeMap<(&'w str, &'w str, &'w str), BTreeSet<&'w NamespacedName>>,
}

impl<'w> LabelIndex<'w> {
    pub(crate) fn insert(&mut self, pod: &'w NamespacedName, labels: Option<&'w BTreeMap<String, String>>) {
        for (key, value) in labels.into_iter().flatten() {
            self.pods.entry((&pod.namespace, key, value)).or_default().insert(pod);
        }
    }

    /// The pods of a namespace that have every label of the selector; an empty selector selects none.
    pub(crate) fn selected(&self, namespace: &str, selector: &BTreeMap<String, String>) -> Vec<&'w NamespacedName> {
        let mut by_pair = Vec::new();
        for (key, value) in selector {
            match self.pods.get(&(namespace, key.as_str(), value.as_str())) {
                Some(pods) => by_pair.push(pods),
                None => return Vec::new(),
            }
        }
        // The rarest label first: the others are only asked about its pods.
        by_pair.sort_by_key(|pods| pods.len());
        let Some((rarest, others)) = by_pair.split_first() else { return Vec::new() };
        rarest.iter().filter(|pod| others.iter().all(|pods| pods.contains(*pod))).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn every_label_of_the_selector_must_be_there() {
        let (a, b) = (NamespacedName::new("shop", "a"), NamespacedName::new("shop", "b"));
        let (blue, green) =
            (labels(&[("app", "web"), ("color", "blue")]), labels(&[("app", "web"), ("color", "green")]));
        let mut index = LabelIndex::default();
        index.insert(&a, Some(&blue));
        index.insert(&b, Some(&green));
        let selected = |namespace: &str, pairs: &[(&str, &str)]| index.selected(namespace, &labels(pairs));
        assert_eq!(selected("shop", &[("app", "web")]), [&a, &b]);
        assert_eq!(selected("shop", &[("app", "web"), ("color", "green")]), [&b]);
        assert!(selected("shop", &[("app", "web"), ("color", "red")]).is_empty());
        assert!(selected("bank", &[("app", "web")]).is_empty());
        assert!(selected("shop", &[]).is_empty());
    }
}
