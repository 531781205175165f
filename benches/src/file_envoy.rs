//! The baseline: Envoys that have no control plane at all. Each reads its routes from one file, which is replaced; what
//! that takes no mesh can do in less.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::mesh::program;
use crate::policy::pause_ms;
use crate::watcher::Watcher;

/// Envoys with one file of routes, and who watches them.
pub(crate) struct FileEnvoys {
    folder: PathBuf,
    envoys: Vec<Child>,
    watcher: Watcher,
    version: u32,
}

impl FileEnvoys {
    pub(crate) fn start(count: usize) -> Result<FileEnvoys> {
        let folder = std::env::temp_dir().join(format!("osm-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        write_routes(&folder, 0, 403)?;
        let binary = osm_testkit::find_envoy().context("Envoy is missing; ./test fetches it")?;
        let mut urls = Vec::new();
        let mut envoys = Vec::new();
        for index in 0..count {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).context("finding a port")?.port();
            urls.push(format!("http://127.0.0.1:{port}/gated"));
            let file = folder.join(format!("envoy-{index}.json"));
            fs::write(&file, bootstrap(&folder, port).to_string()).context("writing a bootstrap")?;
            let envoy = Command::new(&binary)
                .args(["--disable-hot-restart", "--concurrency", "1", "-l", "error", "-c"])
                .arg(&file)
                .stdin(Stdio::null())
                .spawn()
                .context("starting Envoy")?;
            envoys.push(envoy);
        }
        let mut command = Command::new(program("osm-demo")?);
        command.args(["watch", "--pause-ms", &pause_ms(count)]).args(&urls);
        let mut watcher = Watcher::start(command, count)?;
        watcher.wait_until_all(403).context("Envoys that read a file")?;
        Ok(FileEnvoys { folder, envoys, watcher, version: 0 })
    }

    /// Has all of them answer with this status, and gives back from when to when that took.
    pub(crate) fn change(&mut self, status: u16) -> Result<(Instant, Instant)> {
        self.version += 1;
        let begun = Instant::now();
        write_routes(&self.folder, self.version, status)?;
        Ok((begun, self.watcher.wait_until_all(status)?))
    }
}

impl Drop for FileEnvoys {
    fn drop(&mut self) {
        for envoy in &mut self.envoys {
            // Already ended is as good.
            envoy.kill().ok();
            envoy.wait().ok();
        }
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// Envoy only looks at files that are moved to their place.
fn write_routes(folder: &Path, version: u32, status: u16) -> Result<()> {
    let routes = json!({
        "version_info": version.to_string(),
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            "name": "routes",
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": status}}],
            }],
        }],
    });
    let draft = folder.join("routes.draft");
    fs::write(&draft, routes.to_string()).context("writing the routes")?;
    fs::rename(&draft, folder.join("routes.json")).context("moving the routes to their place")
}

fn bootstrap(folder: &Path, port: u16) -> Value {
    let connection_manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "all",
        "rds": {
            "route_config_name": "routes",
            "config_source": {"path_config_source": {"path": folder.join("routes.json")}, "resource_api_version": "V3"},
        },
        "http_filters": [{
            "name": "router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    });
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {"listeners": [{
            "name": "all",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{"name": "http", "typed_config": connection_manager}]}],
        }]},
    })
}
