//! A container's variables, and what the downward API says of its pod.

use std::collections::BTreeMap;

use osm_api::k8s;

use crate::addresses::{GATEWAY, PodIps};
use crate::desired::service_account;

/// The name of the one node.
pub(crate) const NODE: &str = "local";

/// The variables of a container in the order in which they were written, those of its image first; `$(NAME)` is
/// replaced by what was set before, as in Kubernetes. Variables whose source is not supported are left out.
pub(crate) fn variables(
    container: &k8s::Container,
    image: &BTreeMap<String, String>,
    pod: &k8s::Pod,
    ips: PodIps,
) -> BTreeMap<String, String> {
    let mut written: BTreeMap<String, String> = BTreeMap::new();
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Some(expand(value, &written)),
            (None, Some(source)) => source.field_ref.as_ref().and_then(|field| downward(pod, ips, &field.field_path)),
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            written.insert(variable.name.clone(), value);
        }
    }
    let mut all = image.clone();
    all.extend(written);
    all
}

/// `text` with each `$(NAME)` replaced; unknown names stay as they are, and `$$` is one `$`.
pub(crate) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('$') {
        expanded.push_str(&rest[..position]);
        rest = &rest[position + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match name.and_then(|(name, after)| variables.get(name).map(|value| (value, after))) {
            Some((value, after)) => {
                expanded.push_str(value);
                rest = after;
            }
            None => expanded.push('$'),
        }
    }
    expanded.push_str(rest);
    expanded
}

/// What a `fieldRef` stands for; none for a path that the runner does not know.
pub(crate) fn downward(pod: &k8s::Pod, ips: PodIps, path: &str) -> Option<String> {
    let metadata = &pod.metadata;
    let text = |value: &Option<String>| Some(value.clone().unwrap_or_default());
    match path {
        "metadata.name" => text(&metadata.name),
        "metadata.namespace" => text(&metadata.namespace),
        "metadata.uid" => text(&metadata.uid),
        "metadata.labels" => Some(listed(&metadata.labels)),
        "metadata.annotations" => Some(listed(&metadata.annotations)),
        "spec.nodeName" => Some(NODE.to_owned()),
        "spec.serviceAccountName" => Some(service_account(pod.spec.as_ref()?).to_owned()),
        "status.podIP" => Some(ips.v4.to_string()),
        "status.podIPs" => Some(ips.to_string()),
        "status.hostIP" | "status.hostIPs" => Some(GATEWAY.to_string()),
        _ => {
            let (field, key) = path.strip_suffix("']")?.split_once("['")?;
            let map = match field {
                "metadata.labels" => &metadata.labels,
                "metadata.annotations" => &metadata.annotations,
                _ => return None,
            };
            Some(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default())
        }
    }
}

/// One `name="value"` a line, as the downward API writes it.
fn listed(map: &Option<BTreeMap<String, String>>) -> String {
    let lines = map.iter().flatten().map(|(name, value)| format!("{name}={value:?}"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addresses::IpFamilies;

    #[test]
    fn names_in_parentheses_are_replaced_by_what_was_set_before() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let check = |text: &str, expected: &str| assert_eq!(expand(text, &variables), expected);
        check("x$(A)y$(A)", "x1y1");
        check("$(B) $A ${A} $", "$(B) $A ${A} $");
        check("$$(A) $$$(A)", "$(A) $1");
        check("$(A", "$(A");
    }

    #[test]
    fn variables_come_from_the_image_the_container_and_the_pod() {
        let container: k8s::Container = serde_json::from_value(serde_json::json!({"name": "c", "env": [
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
            {"name": "URL", "value": "http://$(IP)/$(LATER)"},
            {"name": "LATER", "value": "x"},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "EMPTY"}]}))
        .unwrap();
        let pod: k8s::Pod =
            serde_json::from_value(serde_json::json!({"metadata": {"labels": {"app": "shop"}}})).unwrap();
        let image = BTreeMap::from([("URL".to_owned(), "image".to_owned()), ("HOME".to_owned(), "/h".to_owned())]);
        let ips = PodIps::of([10, 244, 0, 9].into(), IpFamilies::DualStack);
        let variables = variables(&container, &image, &pod, ips);
        let expected = [
            ("APP", "shop"),
            ("EMPTY", ""),
            ("HOME", "/h"),
            ("IP", "10.244.0.9"),
            ("IPS", "10.244.0.9,fd00:10:244::af4:9"),
            ("LATER", "x"),
            ("URL", "http://10.244.0.9/$(LATER)"),
        ];
        assert_eq!(variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
    }
}
