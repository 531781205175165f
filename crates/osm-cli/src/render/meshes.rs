//! Tables of meshes and their namespaces, with OSM's columns.

use super::{print, serialized, table};
use crate::arguments::Output;
use crate::meshes::Mesh;
use crate::namespaces::Member;
use crate::settings::Versions;

/// What the controller reads of SMI, in the words of `osm mesh list`.
const SMI_SUPPORTED: &str = "HTTPRouteGroup:v1alpha4,TCPRoute:v1alpha4,TrafficSplit:v1alpha2,TrafficTarget:v1alpha3";

/// The meshes of the cluster in the form asked for.
pub(crate) fn meshes(meshes: &[Mesh], output: Output) -> anyhow::Result<()> {
    match output {
        Output::Table => {
            print(&mesh_tables(meshes));
            Ok(())
        }
        Output::Json | Output::Yaml => serialized(&meshes, output),
    }
}

/// The namespaces of meshes in the form asked for.
pub(crate) fn members(members: &[Member], output: Output) -> anyhow::Result<()> {
    match output {
        Output::Table => {
            print(&member_table(members));
            Ok(())
        }
        Output::Json | Output::Yaml => serialized(&members, output),
    }
}

/// Versions in the form asked for.
pub(crate) fn versions(versions: &Versions, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Table => {
            print(&version_tables(versions));
            Ok(())
        }
        Output::Json | Output::Yaml => serialized(versions, output),
    }
}

fn mesh_tables(meshes: &[Mesh]) -> String {
    if meshes.is_empty() {
        return "No osm mesh control planes found\n".into();
    }
    let rows = meshes.iter().map(|mesh| {
        let ready = format!("{}/{}", mesh.ready, mesh.replicas);
        vec![mesh.name.clone(), mesh.namespace.clone(), mesh.version.clone(), mesh.namespaces.join(","), ready]
    });
    let first = table(&["MESH NAME", "MESH NAMESPACE", "VERSION", "ADDED NAMESPACES", "READY"], rows);
    let rows = meshes.iter().map(|mesh| vec![mesh.name.clone(), mesh.namespace.clone(), SMI_SUPPORTED.into()]);
    let second = table(&["MESH NAME", "MESH NAMESPACE", "SMI SUPPORTED"], rows);
    format!(
        "\n{first}\n{second}\nTo list the OSM controller pods for a mesh, please run the following command passing in the mesh's namespace\n\tkubectl get pods -n <osm-mesh-namespace> -l app=osm-controller\n"
    )
}

fn member_table(members: &[Member]) -> String {
    if members.is_empty() {
        return "No namespaces in mesh\n".into();
    }
    let rows = members
        .iter()
        .map(|member| vec![member.namespace.clone(), member.mesh.clone(), member.sidecar_injection.clone()]);
    table(&["NAMESPACE", "MESH", "SIDECAR-INJECTION"], rows)
}

fn version_tables(versions: &Versions) -> String {
    let client = &versions.client;
    let mut text =
        format!("CLI Version: {}; Commit: {}; Date: {}\n", client.version, client.git_commit, client.build_date);
    match versions.meshes.as_deref() {
        None => {}
        Some([]) => text.push_str("\nno mesh in this cluster\n"),
        Some(meshes) => {
            let rows = meshes.iter().map(|mesh| vec![mesh.name.clone(), mesh.namespace.clone(), mesh.version.clone()]);
            text.push_str(&format!("\n{}", table(&["MESH NAME", "MESH NAMESPACE", "VERSION"], rows)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use osm_runtime::Version;

    use super::*;
    use crate::meshes::example;

    #[test]
    fn tables_have_the_columns_of_osm() {
        let two = [example("blue"), Mesh { namespaces: Vec::new(), ready: 0, ..example("red") }];
        let text = mesh_tables(&two);
        let expected = "
MESH NAME  MESH NAMESPACE  VERSION  ADDED NAMESPACES  READY
blue       blue-system     v1       shop              1/1
red        red-system      v1                         0/1

MESH NAME  MESH NAMESPACE  SMI SUPPORTED
blue       blue-system     HTTPRouteGroup:v1alpha4,TCPRoute:v1alpha4,TrafficSplit:v1alpha2,TrafficTarget:v1alpha3
red        red-system      HTTPRouteGroup:v1alpha4,TCPRoute:v1alpha4,TrafficSplit:v1alpha2,TrafficTarget:v1alpha3
";
        assert!(text.starts_with(expected), "{text}");
        assert_eq!(mesh_tables(&[]), "No osm mesh control planes found\n");
        let member = Member { namespace: "shop".into(), mesh: "osm".into(), sidecar_injection: "-".into() };
        assert_eq!(member_table(&[member]), "NAMESPACE  MESH  SIDECAR-INJECTION\nshop       osm   -\n");
    }

    #[test]
    fn versions_without_a_cluster_are_those_of_the_command() {
        let client = Version { version: "dev", git_commit: "unknown", build_date: "unknown" };
        let alone = Versions { client: client.clone(), meshes: None };
        assert_eq!(version_tables(&alone), "CLI Version: dev; Commit: unknown; Date: unknown\n");
        let text = version_tables(&Versions { client, meshes: Some(vec![example("blue")]) });
        assert!(text.ends_with("\nMESH NAME  MESH NAMESPACE  VERSION\nblue       blue-system     v1\n"), "{text}");
    }
}
