//! Which namespaces belong to the mesh.

use std::collections::BTreeSet;

use osm_api::{IGNORE, Kind, MONITORED_BY, ObjectKey, Reason, SYSTEM_NAMESPACES, World};

use crate::ResolveOptions;
use crate::report::{Finding, Report};

/// The namespaces that are labelled as this mesh's. Ignored ones are not, nor are the control plane's and the
/// cluster's own: a sidecar there could take away what the mesh itself stands on.
pub(crate) fn of_mesh<'w>(world: &'w World, options: &ResolveOptions, report: &mut Report<'_>) -> BTreeSet<&'w str> {
    let mut found = BTreeSet::new();
    for (name, namespace) in &world.namespaces {
        let labels = namespace.metadata.labels.as_ref();
        let label = |key: &str| labels.and_then(|labels| labels.get(key));
        if label(MONITORED_BY) != Some(&options.mesh_name) {
            continue;
        }
        if label(IGNORE).is_some() {
            let message = format!("labelled {MONITORED_BY} and {IGNORE}: its pods stay outside of the mesh");
            report.add(
                &ObjectKey::new(Kind::Namespace, "", name),
                Finding::new("metadata.labels", Reason::Conflict, message).hint("take away one of the two labels"),
            );
            continue;
        }
        if *name == options.osm_namespace || SYSTEM_NAMESPACES.contains(&name.as_str()) {
            let message = format!("{name} never belongs to a mesh; the label counts for nothing");
            report.add(
                &ObjectKey::new(Kind::Namespace, "", name),
                Finding::new("metadata.labels", Reason::Refused, message)
                    .hint(format!("take away the label {MONITORED_BY}")),
            );
            continue;
        }
        found.insert(name.as_str());
    }
    found
}

/// Whether a namespace is another mesh's business.
pub(crate) fn is_of_another_mesh(world: &World, name: &str, options: &ResolveOptions) -> bool {
    let labels = world.namespaces.get(name).and_then(|namespace| namespace.metadata.labels.as_ref());
    labels.and_then(|labels| labels.get(MONITORED_BY)).is_some_and(|mesh| *mesh != options.mesh_name)
}
