//! What is typed about a mesh on a Kubernetes cluster: `osm install`, `osm mesh`, `osm namespace` and their like.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Subcommand};

use super::{Output, duration};

/// Which cluster, and where its control plane is. May stand before the command or after it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Target {
    /// The namespace of the control plane
    #[arg(long, value_name = "NAMESPACE", env = "OSM_NAMESPACE", hide_env_values = true)]
    osm_namespace: Option<String>,
    /// The kubeconfig file; otherwise that of kubectl
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; otherwise its current one
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

impl Target {
    /// The namespace of the control plane.
    pub(crate) fn osm_namespace(&self) -> &str {
        self.osm_namespace.as_deref().unwrap_or("osm-system")
    }

    /// What was typed after the command counts, then what was typed before it.
    pub(crate) fn or(self, before: Target) -> Target {
        Target {
            osm_namespace: self.osm_namespace.or(before.osm_namespace),
            kubeconfig: self.kubeconfig.or(before.kubeconfig),
            context: self.context.or(before.context),
        }
    }
}

/// The values that the chart is rendered with.
#[derive(Debug, Args)]
pub(crate) struct ChosenValues {
    /// A value of the chart, as in osm.image.tag=v1; may be given more than once
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// A file of values; may be given more than once, and --set counts more
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) values: Vec<PathBuf>,
    /// The folder of another chart than the one in this command
    #[arg(long, value_name = "DIR")]
    pub(crate) osm_chart_path: Option<PathBuf>,
    /// How long to wait until the mesh is ready
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Print the objects and change nothing; needs no cluster
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = INSTALL_HELP)]
pub(crate) struct Install {
    /// The name of the mesh
    #[arg(long, value_name = "NAME", default_value = "osm")]
    pub(crate) mesh_name: String,
    /// Refuse another mesh in this cluster, now and later
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) enforce_single_mesh: bool,
    #[command(flatten)]
    pub(crate) chosen: ChosenValues,
    /// Take everything away again if the mesh does not get ready
    #[arg(long)]
    pub(crate) atomic: bool,
    /// Name every object
    #[arg(short, long)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

const INSTALL_HELP: &str = "\
Examples:
  osm install
  osm install --mesh-name blue --osm-namespace blue-system --set osm.osmController.replicaCount=2
  osm install --set osm.enablePermissiveTrafficPolicy=false --set osm.image.tag=v1
  osm install --dry-run > mesh.yaml";

#[derive(Debug, Args)]
pub(crate) struct MeshName {
    /// The name of the mesh
    #[arg(long, value_name = "NAME", default_value = "osm")]
    pub(crate) mesh_name: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Uninstall {
    /// Take a mesh out of the cluster
    #[command(visible_aliases = ["delete", "del"])]
    Mesh(UninstallMesh),
}

#[derive(Debug, Args)]
pub(crate) struct UninstallMesh {
    /// The mesh; all meshes, each after a question, when absent
    #[arg(long, value_name = "NAME")]
    pub(crate) mesh_name: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Delete CRDs too, and with them every object of their kinds
    #[arg(short = 'a', long)]
    pub(crate) delete_cluster_wide_resources: bool,
    /// Delete the control plane's namespace too
    #[arg(long)]
    pub(crate) delete_namespace: bool,
    /// The Secret with the mesh's authority, which goes too
    #[arg(long, value_name = "NAME", default_value = "osm-ca-bundle")]
    pub(crate) ca_bundle_secret_name: String,
    /// How long to wait until everything is gone
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Mesh {
    /// List the meshes of the cluster
    List(ListMeshes),
    /// Bring a mesh to the version and values given; earlier values do not stay
    Upgrade(Upgrade),
}

#[derive(Debug, Args)]
pub(crate) struct ListMeshes {
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    pub(crate) mesh: MeshName,
    #[command(flatten)]
    pub(crate) chosen: ChosenValues,
    /// Name every object
    #[arg(short, long)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Namespace {
    /// Add namespaces to a mesh: pods that are created there from now on get a sidecar
    Add(AddNamespaces),
    /// Take namespaces out of a mesh
    Remove(RemoveNamespaces),
    /// Keep every mesh out of namespaces
    Ignore(IgnoreNamespaces),
    /// List the namespaces of a mesh, or of all
    List(ListNamespaces),
}

#[derive(Debug, Args)]
pub(crate) struct AddNamespaces {
    /// The namespaces
    #[arg(required = true, value_name = "NAMESPACE")]
    pub(crate) namespaces: Vec<String>,
    #[command(flatten)]
    pub(crate) mesh: MeshName,
    /// Add them without sidecars: for an ingress controller
    #[arg(long)]
    pub(crate) disable_sidecar_injection: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveNamespaces {
    /// The namespaces
    #[arg(required = true, value_name = "NAMESPACE")]
    pub(crate) namespaces: Vec<String>,
    #[command(flatten)]
    pub(crate) mesh: MeshName,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct IgnoreNamespaces {
    /// The namespaces
    #[arg(required = true, value_name = "NAMESPACE")]
    pub(crate) namespaces: Vec<String>,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct ListNamespaces {
    /// The mesh; all when absent
    #[arg(value_name = "MESH")]
    pub(crate) mesh: Option<String>,
    /// The mesh; all when absent
    #[arg(long, value_name = "NAME", conflicts_with = "mesh")]
    pub(crate) mesh_name: Option<String>,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct Env {
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "yaml")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Do not ask the cluster
    #[arg(long)]
    pub(crate) client_only: bool,
    /// Print the bare version of this command
    #[arg(long)]
    pub(crate) version_only: bool,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::arguments::{Arguments, Command};

    fn parsed(words: &str) -> Arguments {
        Arguments::try_parse_from(words.split(' ')).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn osm_scripts_of_users_are_understood() {
        for words in [
            "osm install --mesh-name blue --osm-namespace blue --timeout 90s --atomic --verbose",
            "osm install --set=osm.image.tag=v1 --set osm.enableEgress=false --enforce-single-mesh=false",
            "osm --osm-namespace blue uninstall mesh -f --mesh-name blue -a --delete-namespace",
            "osm uninstall delete -f",
            "osm mesh list",
            "osm mesh upgrade --mesh-name blue --set osm.image.tag=v2",
            "osm namespace add a b --mesh-name blue --disable-sidecar-injection",
            "osm ns remove a --mesh-name blue",
            "osm namespace ignore a",
            "osm namespace list blue",
            "osm version --client-only",
            "osm env",
        ] {
            parsed(words);
        }
    }

    #[test]
    fn the_cluster_may_be_said_before_the_command_or_after_it() {
        for (words, expected) in [
            ("osm install", "osm-system"),
            ("osm --osm-namespace a install", "a"),
            ("osm install --osm-namespace b", "b"),
            ("osm --osm-namespace a install --osm-namespace b", "b"),
        ] {
            let arguments = parsed(words);
            let Command::Install(install) = arguments.command else { panic!("not install") };
            assert_eq!(install.target.or(arguments.target).osm_namespace(), expected, "{words}");
        }
    }

    #[test]
    fn one_mesh_is_enforced_unless_it_is_said_otherwise() {
        for (words, expected) in [
            ("osm install", true),
            ("osm install --enforce-single-mesh", true),
            ("osm install --enforce-single-mesh=false", false),
        ] {
            let Command::Install(install) = parsed(words).command else { panic!("not install") };
            assert_eq!(install.enforce_single_mesh, expected, "{words}");
        }
    }
}
