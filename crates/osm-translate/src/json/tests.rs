//! Holds `descriptors.bin` against the locked envoy-types, and writes it with `UPDATE_GOLDEN=1`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use envoy_types::pb::google::protobuf::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FieldOptions, FileDescriptorProto, FileDescriptorSet,
    MessageOptions,
};
use prost::Message;

use super::*;

/// What is reached from these is kept: the resources, and what translate packs into them.
const ROOTS: [&str; 16] = [
    ".envoy.config.cluster.v3.Cluster",
    ".envoy.config.endpoint.v3.ClusterLoadAssignment",
    ".envoy.config.listener.v3.Listener",
    ".envoy.config.route.v3.RouteConfiguration",
    ".envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    ".envoy.extensions.filters.http.rbac.v3.RBAC",
    ".envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
    ".envoy.extensions.filters.http.router.v3.Router",
    ".envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
    ".envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    ".envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    ".envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    ".envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
    ".envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    ".envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    ".envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
];

#[test]
fn descriptors_are_those_of_the_locked_envoy_types() {
    let all = fs::read(envoy_types_folder().join("src/generated/types.bin")).expect("envoy-types ships descriptors");
    let all = FileDescriptorSet::decode(all.as_slice()).expect("they are a FileDescriptorSet");
    let trimmed = trim(all).encode_to_vec();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/descriptors.bin");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &trimmed).expect("the source folder can be written");
    }
    let committed = fs::read(&path).expect("descriptors are committed");
    assert!(committed == trimmed, "descriptors.bin is old; run UPDATE_GOLDEN=1 cargo test -p osm-translate, twice");
    for root in ROOTS {
        let found =
            DescriptorPool::decode(trimmed.as_slice()).expect("they fit together").get_message_by_name(&root[1..]);
        assert!(found.is_some(), "{root}");
    }
}

fn envoy_types_folder() -> PathBuf {
    // Without a platform, cargo would want crates of platforms that nobody has downloaded.
    let platform = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let output = Command::new(env::var_os("CARGO").expect("cargo runs this test"))
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let package = packages.iter().find(|package| package["name"] == "envoy-types").expect("a dependency");
    let manifest = package["manifest_path"].as_str().expect("a path");
    Path::new(manifest).parent().expect("a file is in a folder").to_owned()
}

/// A message or enum at the top of a file: what is kept or left out as one.
enum Item<'f> {
    Message(&'f DescriptorProto),
    Enum,
}

/// Keeps what [`ROOTS`] reach, without comments and options that JSON does not need.
fn trim(all: FileDescriptorSet) -> FileDescriptorSet {
    let mut items: BTreeMap<String, (&FileDescriptorProto, Item<'_>)> = BTreeMap::new();
    for file in &all.file {
        let path = |name: &str| format!(".{}.{name}", file.package());
        items.extend(file.message_type.iter().map(|m| (path(m.name()), (file, Item::Message(m)))));
        items.extend(file.enum_type.iter().map(|e| (path(e.name()), (file, Item::Enum))));
    }
    let mut kept: BTreeSet<String> = BTreeSet::new();
    // Files by the files that they need.
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut open: Vec<String> = ROOTS.map(str::to_owned).to_vec();
    while let Some(path) = open.pop() {
        let (file, item) = items.get(&path).unwrap_or_else(|| panic!("{path} is not described"));
        if !kept.insert(path) {
            continue;
        }
        let needed = needs.entry(file.name().to_owned()).or_default();
        let Item::Message(message) = item else { continue };
        for reference in references(message) {
            let top = top_level(&reference, &items);
            let other = items[&top].0.name();
            if other != file.name() {
                needed.insert(other.to_owned());
            }
            open.push(top);
        }
    }
    let files = all.file.iter().filter_map(|file| Some(trim_file(file, needs.get(file.name())?, &kept)));
    FileDescriptorSet { file: files.collect() }
}

/// The types that a message's fields name.
fn references(message: &DescriptorProto) -> Vec<String> {
    let own = message.field.iter().map(|field| field.type_name().to_owned()).filter(|name| !name.is_empty());
    own.chain(message.nested_type.iter().flat_map(references)).collect()
}

/// The item that a type is, or is nested in.
fn top_level(path: &str, items: &BTreeMap<String, (&FileDescriptorProto, Item<'_>)>) -> String {
    let mut path = path;
    while !items.contains_key(path) {
        path = path.rsplit_once('.').expect("every type is in some item").0;
    }
    path.to_owned()
}

fn trim_file(file: &FileDescriptorProto, needs: &BTreeSet<String>, kept: &BTreeSet<String>) -> FileDescriptorProto {
    let is_kept = |name: &str| kept.contains(&format!(".{}.{name}", file.package()));
    FileDescriptorProto {
        name: file.name.clone(),
        package: file.package.clone(),
        syntax: file.syntax.clone(),
        dependency: needs.iter().cloned().collect(),
        message_type: file.message_type.iter().filter(|m| is_kept(m.name())).map(trim_message).collect(),
        enum_type: file.enum_type.iter().filter(|e| is_kept(e.name())).map(trim_enum).collect(),
        ..Default::default()
    }
}

fn trim_message(message: &DescriptorProto) -> DescriptorProto {
    let map_entry = message.options.as_ref().and_then(|options| options.map_entry);
    let mut trimmed = message.clone();
    trimmed.options = map_entry.map(|_| MessageOptions { map_entry, ..Default::default() });
    trimmed.extension.clear();
    trimmed.field = message.field.iter().map(trim_field).collect();
    trimmed.nested_type = message.nested_type.iter().map(trim_message).collect();
    trimmed.enum_type = message.enum_type.iter().map(trim_enum).collect();
    trimmed.oneof_decl.iter_mut().for_each(|oneof| oneof.options = None);
    trimmed
}

fn trim_field(field: &FieldDescriptorProto) -> FieldDescriptorProto {
    let packed = field.options.as_ref().and_then(|options| options.packed);
    let options = packed.map(|_| FieldOptions { packed, ..Default::default() });
    FieldDescriptorProto { options, ..field.clone() }
}

fn trim_enum(declared: &EnumDescriptorProto) -> EnumDescriptorProto {
    let mut trimmed = declared.clone();
    if let Some(options) = &mut trimmed.options {
        options.deprecated = None;
        options.uninterpreted_option.clear();
    }
    trimmed.value.iter_mut().for_each(|value| value.options = None);
    trimmed
}
