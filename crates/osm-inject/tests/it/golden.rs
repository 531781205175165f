//! Manifests in: a Namespace, a Pod and, where the case needs one, a MeshConfig. Out: what becomes of the Pod.
//!
//! `# keep: a.b, c` pins these fields of the Pod instead of all; `# native sidecars: no` is an older cluster.

use osm_api::{Change, ManifestSet, MeshConfigSpec, Object, Problem, k8s};
use osm_inject::{InjectPolicy, Injection, NativeSidecars, inject};
use osm_testkit::Case;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};

use super::policy;

#[test]
fn pods_become_what_is_written() {
    osm_testkit::golden(env!("CARGO_MANIFEST_DIR"), "inject", |case| {
        let mut policy = policy();
        if case.option("native sidecars") == Some("no") {
            policy.native_sidecars = NativeSidecars::by_server("1.28".parse().ok());
        }
        let found = Manifests::read(case);
        let (policy, mut problems) = InjectPolicy::from_mesh_config(&found.mesh_config, policy);
        let injection = inject(&found.pod, &found.namespace, &policy, &mut StdRng::seed_from_u64(1));
        yaml(match injection {
            Ok(Injection::Injected { pod, shape, why, warnings }) => {
                problems.extend(warnings);
                let pod = kept(case, serde_json::to_value(pod).unwrap());
                json!({"injected": format!("{shape}: {why}"), "pod": pod, "problems": texts(&problems)})
            }
            Ok(Injection::Skipped { why, is_unmet: false }) => json!({"skipped": why}),
            Ok(Injection::Skipped { why, is_unmet: true }) => json!({"skipped": why, "unmet": true}),
            Err(refusals) => json!({"refused": texts(&refusals), "problems": texts(&problems)}),
        })
    });
}

#[derive(Default)]
struct Manifests {
    namespace: k8s::Namespace,
    pod: k8s::Pod,
    mesh_config: MeshConfigSpec,
}

impl Manifests {
    fn read(case: &Case) -> Manifests {
        let update = ManifestSet::default().put(&case.name, &case.input);
        assert_eq!(texts(&update.problems), Vec::<String>::new(), "{}", case.name);
        let mut found = Manifests::default();
        for change in update.changes {
            match change {
                Change::Apply(object, _) => match *object {
                    Object::Namespace(namespace) => found.namespace = namespace,
                    Object::Pod(pod) => found.pod = pod,
                    Object::MeshConfig(config) => found.mesh_config = config.spec,
                    other => panic!("{}: {} does not belong here", case.name, other.key()),
                },
                other => panic!("{}: {other:?} does not belong here", case.name),
            }
        }
        found
    }
}

fn kept(case: &Case, pod: Value) -> Value {
    let Some(paths) = case.option("keep") else { return pod };
    let pointer = |path: &str| format!("/{}", path.replace('.', "/"));
    let fields = paths.split(',').map(str::trim);
    let kept = fields.map(|path| (path.to_owned(), pod.pointer(&pointer(path)).cloned().unwrap_or(Value::Null)));
    Value::Object(kept.collect::<Map<_, _>>())
}

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}

/// Without empty lists of problems, which are the rule.
fn yaml(mut value: Value) -> String {
    let fields = value.as_object_mut().unwrap();
    fields.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
    serde_saphyr::to_string(&value).unwrap()
}
