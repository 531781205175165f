//! A pod's volumes: empty directories, and files that say who the pod is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use osm_api::k8s;

use crate::addresses::PodIps;
use crate::config_maps::{self, ConfigMaps};
use crate::environment::downward;
use crate::pod::containers;

/// Kubernetes gives tokens an hour unless asked for another time, and never less than ten minutes.
const TOKEN_LIFE_DEFAULT: SignedDuration = SignedDuration::from_secs(3600);
const TOKEN_LIFE_MIN: SignedDuration = SignedDuration::from_secs(600);

/// What is in each volume of a pod, by the volume's name.
pub(crate) type Volumes = BTreeMap<String, Content>;

/// What is in one volume.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// Nothing at first; the pod may write.
    Empty {
        /// The group that it belongs to, if the pod asks for one.
        group: Option<u32>,
    },
    /// Files that the runner writes, and that the pod may only read.
    Files {
        /// By path within the volume.
        files: BTreeMap<PathBuf, Text>,
        /// Who may read them.
        readers: Readers,
    },
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Text {
    /// Always this.
    Fixed(String),
    /// A token for this audience that lasts so long; written anew before it ends.
    Token { audience: String, life: SignedDuration },
}

/// Who may read a volume's files: what the kubelet says of tokens. Everybody in the pod, if neither is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readers {
    /// The one user that every container of the pod runs as, by its own words.
    user: Option<u32>,
    /// The group that the pod's volumes belong to.
    group: Option<u32>,
}

/// The volumes of a pod; those that are not supported are empty.
pub(crate) fn volumes(pod: &k8s::Pod, ips: PodIps, maps: &ConfigMaps) -> Volumes {
    let spec = pod.spec.clone().unwrap_or_default();
    let fs_group = spec.security_context.as_ref().and_then(|s| s.fs_group).and_then(|g| u32::try_from(g).ok());
    let volumes = spec.volumes.iter().flatten().map(|volume| {
        let of_map = |source: &k8s::ConfigMapVolumeSource| map_files(&source.name, source.items.as_ref(), maps);
        let content = match (&volume.projected, &volume.downward_api) {
            (Some(projected), _) => {
                let sources = projected.sources.iter().flatten();
                let files = sources.flat_map(|source| projection_files(source, pod, ips, maps));
                Content::Files { files: files.collect(), readers: Readers::of(&spec) }
            }
            (None, Some(source)) => {
                let files = downward_files(source.items.iter().flatten(), pod, ips);
                Content::Files { files: files.collect(), readers: Readers::of(&spec) }
            }
            (None, None) => match &volume.config_map {
                Some(source) => Content::Files { files: of_map(source).collect(), readers: Readers::of(&spec) },
                None => Content::Empty { group: fs_group },
            },
        };
        (volume.name.clone(), content)
    });
    volumes.collect()
}

/// Makes the volumes below `directory` and gives back where each is. `mint` signs a token for an audience and a time
/// at which it ends.
pub(crate) fn create(
    directory: &Path,
    volumes: &Volumes,
    now: Timestamp,
    mint: &dyn Fn(&str, Timestamp) -> String,
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut places = BTreeMap::new();
    for (name, content) in volumes {
        let place = directory.join(name);
        fs::create_dir_all(&place).with_context(|| format!("creating the volume {name}"))?;
        if let Content::Empty { group } = content {
            // Anybody in the pod may write, as with the kubelet; with a group, what is created belongs to it.
            let mode = if group.is_some() { 0o2777 } else { 0o777 };
            chown(&place, None, *group).with_context(|| format!("giving away the volume {name}"))?;
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).context("opening a volume to the pod")?;
        }
        places.insert(name.clone(), place);
    }
    write_files(directory, volumes, now, mint)?;
    Ok(places)
}

/// Writes the files of all volumes, tokens anew.
pub(crate) fn write_files(
    directory: &Path,
    volumes: &Volumes,
    now: Timestamp,
    mint: &dyn Fn(&str, Timestamp) -> String,
) -> anyhow::Result<()> {
    for (name, content) in volumes {
        let Content::Files { files, readers } = content else { continue };
        for (path, text) in files {
            let text = match text {
                Text::Fixed(text) => text.clone(),
                Text::Token { audience, life } => mint(audience, now + *life),
            };
            let place = directory.join(name).join(path);
            replace(&place, &text, *readers).with_context(|| format!("writing {} of volume {name}", path.display()))?;
        }
    }
    Ok(())
}

/// When the tokens are to be written anew: at four fifths of the shortest life, as the kubelet does.
pub(crate) fn renewal(volumes: &Volumes, now: Timestamp) -> Option<Timestamp> {
    let files = volumes.values().flat_map(|content| match content {
        Content::Files { files, .. } => files.values().collect::<Vec<_>>(),
        Content::Empty { .. } => Vec::new(),
    });
    let lives = files.filter_map(|text| match text {
        Text::Token { life, .. } => Some(*life),
        Text::Fixed(_) => None,
    });
    lives.min().map(|life| now + life * 4 / 5)
}

/// At once for every reader: written beside, then put in place.
fn replace(path: &Path, text: &str, readers: Readers) -> anyhow::Result<()> {
    let mode = match readers {
        Readers { group: Some(_), .. } => 0o440,
        Readers { user: Some(_), group: None } => 0o400,
        Readers { user: None, group: None } => 0o444,
    };
    let directory = path.parent().context("a file is in a volume")?;
    fs::create_dir_all(directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = directory.join(format!(".{name}.new"));
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(text.as_bytes())?;
    chown(&beside, Some(readers.user.unwrap_or(0)), readers.group)?;
    fs::rename(&beside, path)?;
    Ok(())
}

impl Readers {
    fn of(spec: &k8s::PodSpec) -> Readers {
        let id = |number: i64| u32::try_from(number).ok();
        let whole = spec.security_context.clone().unwrap_or_default();
        let user_of = |container: &k8s::Container| {
            let own = container.security_context.as_ref().and_then(|security| security.run_as_user);
            own.or(whole.run_as_user).and_then(id)
        };
        let users: BTreeSet<Option<u32>> = containers(spec).map(|(_, container)| user_of(container)).collect();
        let user = users.first().copied().flatten().filter(|_| users.len() == 1);
        Readers { user, group: whole.fs_group.and_then(id) }
    }
}

fn projection_files(
    source: &k8s::VolumeProjection,
    pod: &k8s::Pod,
    ips: PodIps,
    maps: &ConfigMaps,
) -> Vec<(PathBuf, Text)> {
    let mut files = Vec::new();
    if let Some(map) = &source.config_map {
        files.extend(map_files(&map.name, map.items.as_ref(), maps));
    }
    if let Some(token) = &source.service_account_token {
        let life = token.expiration_seconds.map_or(TOKEN_LIFE_DEFAULT, SignedDuration::from_secs).max(TOKEN_LIFE_MIN);
        let audience = token.audience.clone().unwrap_or_default();
        files.extend(within(&token.path).map(|path| (path, Text::Token { audience, life })));
    }
    files.extend(downward_files(source.downward_api.iter().flat_map(|d| d.items.iter().flatten()), pod, ips));
    files
}

fn map_files(
    name: &str,
    items: Option<&Vec<k8s::KeyToPath>>,
    maps: &ConfigMaps,
) -> impl Iterator<Item = (PathBuf, Text)> + use<> {
    let files = config_maps::files(name, items, maps).into_iter();
    files.filter_map(|(path, text)| Some((within(&path.to_string_lossy())?, Text::Fixed(text))))
}

fn downward_files<'a>(
    items: impl Iterator<Item = &'a k8s::DownwardAPIVolumeFile>,
    pod: &k8s::Pod,
    ips: PodIps,
) -> impl Iterator<Item = (PathBuf, Text)> {
    items.filter_map(move |item| {
        let text = downward(pod, ips, &item.field_ref.as_ref()?.field_path)?;
        Some((within(&item.path)?, Text::Fixed(text)))
    })
}

/// The path, unless it leads out of its volume.
fn within(path: &str) -> Option<PathBuf> {
    let path = PathBuf::from(path);
    let is_within = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    (is_within && path.file_name().is_some()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> k8s::Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}},
            "spec": {
                "containers": [
                    {"name": "one", "securityContext": {"runAsUser": 1500},
                     "volumeMounts": [{"name": "token", "mountPath": "/t"}, {"name": "both", "mountPath": "/b"}]},
                    {"name": "two", "volumeMounts": [{"name": "both", "mountPath": "/b"}]}],
                "volumes": [
                    {"name": "token", "projected": {"sources": [
                        {"serviceAccountToken": {"audience": "osm", "path": "token", "expirationSeconds": 1000}},
                        {"serviceAccountToken": {"path": "../out"}}]}},
                    {"name": "both", "downwardAPI": {"items": [
                        {"path": "in/labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                    {"name": "map", "configMap": {"name": "settings", "items": [
                        {"key": "colour", "path": "in/c"}, {"key": "x", "path": "../out"}]}},
                    {"name": "empty", "emptyDir": {"medium": "Memory"}},
                    {"name": "host", "hostPath": {"path": "/etc"}}]}}))
        .unwrap()
    }

    #[test]
    fn files_say_who_the_pod_is() {
        let settings = serde_json::from_value(json!({"data": {"colour": "red", "x": "y"}})).unwrap();
        let maps = ConfigMaps::from([("settings".to_owned(), std::sync::Arc::new(settings))]);
        let volumes = volumes(&pod(), PodIps::NONE, &maps);
        let colour = Text::Fixed("red".into());
        let expected = Content::Files { files: [("in/c".into(), colour)].into(), readers: Readers::default() };
        assert_eq!(volumes["map"], expected);
        let token = Text::Token { audience: "osm".into(), life: SignedDuration::from_secs(1000) };
        let expected = Content::Files { files: [("token".into(), token)].into(), readers: Readers::default() };
        assert_eq!(volumes["token"], expected);
        let labels = Text::Fixed("a=\"b\"".into());
        let expected = Content::Files { files: [("in/labels".into(), labels)].into(), readers: Readers::default() };
        assert_eq!(volumes["both"], expected);
        assert_eq!(volumes["empty"], Content::Empty { group: None });
        assert_eq!(volumes["host"], Content::Empty { group: None });
    }

    #[test]
    fn a_token_is_for_the_one_user_of_all_containers_or_for_the_group_of_the_volumes() {
        let check = |spec: serde_json::Value, user, group| {
            assert_eq!(Readers::of(&serde_json::from_value(spec).unwrap()), Readers { user, group });
        };
        let as_user = |user: u32| json!({"name": "a", "securityContext": {"runAsUser": user}});
        check(json!({"containers": [as_user(7), as_user(7)]}), Some(7), None);
        check(json!({"containers": [as_user(7), as_user(8)]}), None, None);
        check(json!({"containers": [as_user(7), {"name": "b"}]}), None, None);
        check(json!({"securityContext": {"runAsUser": 7}, "containers": [as_user(7), {"name": "b"}]}), Some(7), None);
        check(json!({"securityContext": {"fsGroup": 9}, "containers": [{"name": "b"}]}), None, Some(9));
    }

    #[test]
    fn tokens_are_written_anew_well_before_they_end() {
        let now = Timestamp::from_second(0).unwrap();
        assert_eq!(
            renewal(&volumes(&pod(), PodIps::NONE, &ConfigMaps::new()), now),
            Some(Timestamp::from_second(800).unwrap())
        );
        assert_eq!(renewal(&Volumes::new(), now), None);
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let directory = std::env::temp_dir().join(format!("osm-local-volumes-{}", std::process::id()));
        let files =
            [("token".into(), Text::Token { audience: "a".into(), life: SignedDuration::from_secs(60) })].into();
        let volumes = Volumes::from([("v".into(), Content::Files { files, readers: Readers::default() })]);
        let mint = |audience: &str, ends: Timestamp| format!("{audience} {}", ends.as_second());
        let at = |second| Timestamp::from_second(second).unwrap();
        let places = create(&directory, &volumes, at(0), &mint).unwrap();
        assert_eq!(fs::read_to_string(places["v"].join("token")).unwrap(), "a 60");
        write_files(&directory, &volumes, at(5), &mint).unwrap();
        assert_eq!(fs::read_to_string(places["v"].join("token")).unwrap(), "a 65");
        assert_eq!(fs::read_dir(&places["v"]).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }
}
