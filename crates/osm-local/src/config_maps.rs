//! ConfigMaps in a pod: as variables and as files, as they are when the pod starts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use osm_api::{NamespacedName, World, k8s};

use crate::admission::fields;

/// The ConfigMaps of a pod's namespace, by name.
pub(crate) type ConfigMaps = BTreeMap<String, Arc<k8s::ConfigMap>>;

/// Those of one namespace.
pub(crate) fn of_namespace(world: &World, namespace: &str) -> ConfigMaps {
    let theirs = world.config_maps.iter().filter(|(name, _)| name.namespace == namespace);
    theirs.map(|(name, map)| (name.name.clone(), map.clone())).collect()
}

/// What a pod needs of ConfigMaps and does not find: where it asks, and what is missing. `prefix` is where its spec is.
pub(crate) fn missing(world: &World, namespace: &str, spec: &k8s::PodSpec, prefix: &str) -> Vec<(String, String)> {
    let mut missing = Vec::new();
    for need in needs(spec, prefix).into_iter().filter(|need| !need.is_optional) {
        let name = NamespacedName::new(namespace, &need.map);
        let what = match (world.config_maps.get(&name), &need.key) {
            (None, _) => format!("ConfigMap {name} does not exist"),
            (Some(map), Some(key)) if value(map, key).is_none() => format!("ConfigMap {name} has no key {key:?}"),
            (Some(_), _) => continue,
        };
        missing.push((need.field, what));
    }
    missing
}

/// The pod with each variable that comes from a ConfigMap written out, so that nobody after this needs to look it up.
pub(crate) fn inlined(mut pod: k8s::Pod, maps: &ConfigMaps) -> k8s::Pod {
    if let Some(spec) = pod.spec.as_mut() {
        let init = spec.init_containers.iter_mut().flatten();
        init.chain(spec.containers.iter_mut()).for_each(|container| inline(container, maps));
    }
    pod
}

/// The files of a volume: all keys, or the items that it names.
pub(crate) fn files(name: &str, items: Option<&Vec<k8s::KeyToPath>>, maps: &ConfigMaps) -> Vec<(PathBuf, String)> {
    let Some(map) = maps.get(name) else { return Vec::new() };
    match items {
        None => map.data.iter().flatten().map(|(key, text)| (PathBuf::from(key), text.clone())).collect(),
        Some(items) => {
            items.iter().filter_map(|item| Some((PathBuf::from(&item.path), value(map, &item.key)?.clone()))).collect()
        }
    }
}

/// One thing that a pod asks of a ConfigMap.
struct Need {
    field: String,
    map: String,
    key: Option<String>,
    is_optional: bool,
}

fn needs(spec: &k8s::PodSpec, prefix: &str) -> Vec<Need> {
    let mut needs = Vec::new();
    let mut need = |field: String, map: &str, key: Option<&str>, optional: Option<bool>| {
        let is_optional = optional == Some(true);
        needs.push(Need { field, map: map.to_owned(), key: key.map(str::to_owned), is_optional });
    };
    for (field, container) in fields(spec) {
        // It is said within `spec`, and a template's is elsewhere.
        let field = field.replacen("spec", prefix, 1);
        for (index, source) in container.env_from.iter().flatten().enumerate() {
            if let Some(map) = &source.config_map_ref {
                need(format!("{field}.envFrom[{index}].configMapRef.name"), &map.name, None, map.optional);
            }
        }
        for (index, variable) in container.env.iter().flatten().enumerate() {
            if let Some(from) = variable.value_from.as_ref().and_then(|from| from.config_map_key_ref.as_ref()) {
                let field = format!("{field}.env[{index}].valueFrom.configMapKeyRef");
                need(field, &from.name, Some(&from.key), from.optional);
            }
        }
    }
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let mut volume_needs = |field: &str, map: &str, items: &Option<Vec<k8s::KeyToPath>>, optional| {
            let field = format!("{prefix}.volumes[{index}].{field}");
            need(field.clone(), map, None, optional);
            items.iter().flatten().for_each(|item| need(field.clone(), map, Some(&item.key), optional));
        };
        if let Some(source) = &volume.config_map {
            volume_needs("configMap", &source.name, &source.items, source.optional);
        }
        let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        for source in sources.filter_map(|source| source.config_map.as_ref()) {
            volume_needs("projected", &source.name, &source.items, source.optional);
        }
    }
    needs
}

fn inline(container: &mut k8s::Container, maps: &ConfigMaps) {
    let mut env = Vec::new();
    for source in container.env_from.iter().flatten() {
        let map = source.config_map_ref.as_ref().and_then(|from| maps.get(&from.name));
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let data = map.iter().flat_map(|map| map.data.iter().flatten());
        env.extend(data.map(|(key, text)| variable(format!("{prefix}{key}"), text)));
    }
    for own in container.env.take().into_iter().flatten() {
        match own.value_from.as_ref().and_then(|from| from.config_map_key_ref.as_ref()) {
            None => env.push(own),
            Some(from) => {
                let found = maps.get(&from.name).and_then(|map| value(map, &from.key));
                env.extend(found.map(|text| variable(own.name.clone(), text)));
            }
        }
    }
    container.env = (!env.is_empty()).then_some(env);
    container.env_from = None;
}

/// What stands in a ConfigMap is taken as it is: no name in it is replaced by what it stands for.
fn variable(name: String, text: &str) -> k8s::EnvVar {
    k8s::EnvVar { name, value: Some(text.replace('$', "$$")), value_from: None }
}

fn value<'m>(map: &'m k8s::ConfigMap, key: &str) -> Option<&'m String> {
    map.data.as_ref()?.get(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::variables;
    use serde_json::json;

    fn pod() -> k8s::Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": {
            "volumes": [
                {"name": "all", "configMap": {"name": "settings"}},
                {"name": "some", "projected": {"sources": [
                    {"configMap": {"name": "settings", "items": [{"key": "COLOUR", "path": "in/colour"}]}}]}}],
            "containers": [{"name": "c",
                "envFrom": [{"prefix": "P_", "configMapRef": {"name": "settings"}},
                            {"configMapRef": {"name": "other", "optional": true}}],
                "env": [{"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "COLOUR"}}},
                        {"name": "BOTH", "value": "$(COLOUR) $(P_PRICE)"}]}]}}))
        .unwrap()
    }

    fn settings() -> k8s::ConfigMap {
        serde_json::from_value(json!({"metadata": {"name": "settings", "namespace": "shop"},
            "data": {"COLOUR": "red", "PRICE": "$(COLOUR)"}}))
        .unwrap()
    }

    #[test]
    fn variables_are_what_the_map_holds_word_for_word() {
        let maps = ConfigMaps::from([("settings".to_owned(), Arc::new(settings()))]);
        let pod = inlined(pod(), &maps);
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let found = variables(container, &BTreeMap::new(), &pod, crate::addresses::PodIps::NONE);
        let expected = [("BOTH", "red $(COLOUR)"), ("COLOUR", "red"), ("P_COLOUR", "red"), ("P_PRICE", "$(COLOUR)")];
        assert_eq!(found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_missing_is_named_by_field_and_what_is_optional_is_not() {
        let spec = pod().spec.unwrap();
        let mut world = World::default();
        let said = |world: &World| {
            let missing = missing(world, "shop", &spec, "spec.template.spec").into_iter();
            missing.map(|(field, what)| format!("{field}: {what}")).collect::<Vec<_>>()
        };
        let first =
            "spec.template.spec.containers[0].envFrom[0].configMapRef.name: ConfigMap shop/settings does not exist";
        assert_eq!((said(&world).len(), said(&world)[0].as_str()), (5, first));
        let mut map = settings();
        map.data.as_mut().unwrap().remove("COLOUR");
        world.config_maps.insert(NamespacedName::new("shop", "settings"), Arc::new(map));
        let has_no_key = "ConfigMap shop/settings has no key \"COLOUR\"";
        assert!(said(&world).len() == 2 && said(&world).iter().all(|line| line.ends_with(has_no_key)));
    }

    #[test]
    fn files_are_the_keys_or_the_items() {
        let maps = ConfigMaps::from([("settings".to_owned(), Arc::new(settings()))]);
        let all = [("COLOUR".into(), "red".into()), ("PRICE".into(), "$(COLOUR)".into())];
        assert_eq!(files("settings", None, &maps), all);
        let items = vec![k8s::KeyToPath { key: "COLOUR".into(), path: "in/colour".into(), ..Default::default() }];
        assert_eq!(files("settings", Some(&items), &maps), [("in/colour".into(), "red".into())]);
        assert_eq!(files("other", None, &maps), []);
    }
}
