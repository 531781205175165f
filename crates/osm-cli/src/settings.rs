//! `osm env` and `osm version`: what this command is, and where it goes.

use std::process::ExitCode;

use osm_runtime::Version;
use serde::Serialize;

use crate::arguments::{Env, Output, Target, Version as Wanted};
use crate::cluster::{Cluster, kubeconfig_path};
use crate::meshes::{self, Mesh};
use crate::render;

/// What `osm env` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    install: Install,
    cluster: Option<To>,
}

/// In the words of OSM's configuration file.
#[derive(Debug, Serialize)]
struct Install {
    kind: &'static str,
    distribution: &'static str,
    namespace: String,
}

#[derive(Debug, Serialize)]
struct To {
    kubeconfig: String,
    context: String,
    server: String,
}

/// What `osm version` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Versions {
    /// Of this command.
    pub(crate) client: Version,
    /// Of the meshes of the cluster, if it was asked and answered.
    pub(crate) meshes: Option<Vec<Mesh>>,
}

/// Prints which cluster and namespace commands go to.
pub(crate) async fn env(arguments: Env, before: Target) -> anyhow::Result<ExitCode> {
    let target = arguments.target.or(before);
    let cluster = match Cluster::of(&target).await {
        Ok(cluster) => {
            let kubeconfig = kubeconfig_path(&target).map(|path| path.display().to_string()).unwrap_or_default();
            Some(To { kubeconfig, context: cluster.place.context, server: cluster.place.server })
        }
        Err(error) => {
            render::warning(&format!("{error:#}"));
            None
        }
    };
    let install = Install { kind: "self-hosted", distribution: "", namespace: target.osm_namespace().to_owned() };
    let output = if arguments.output == Output::Json { Output::Json } else { Output::Yaml };
    render::serialized(&Settings { install, cluster }, output)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the versions of this command and of the meshes. A cluster that cannot be asked is no error: there may be none.
pub(crate) async fn version(arguments: Wanted, before: Target) -> anyhow::Result<ExitCode> {
    let client = Version::of_this_build();
    if arguments.version_only {
        render::line(client.version);
        return Ok(ExitCode::SUCCESS);
    }
    let asked = async { meshes::list(&Cluster::of(&arguments.target.or(before)).await?).await };
    let meshes = if arguments.client_only {
        None
    } else {
        match asked.await {
            Ok(meshes) => Some(meshes),
            Err(error) => {
                render::say(&format!("the versions of meshes are not known: {error:#}"));
                None
            }
        }
    };
    render::versions(&Versions { client, meshes }, arguments.output)?;
    Ok(ExitCode::SUCCESS)
}
