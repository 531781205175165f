//! What the mesh makes of objects that the runner has taken in: what is wrong with their meaning, not with their text.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use osm_api::{ManifestSet, Problem, Reason, World};
use osm_local::{Changes, Local, ManifestText, POLICY_KINDS, Status};
use osm_resolve::{ResolveOptions, resolve};

/// The objects of these texts, and what is wrong with the others.
pub(crate) fn read(texts: &[ManifestText]) -> (World, Vec<Problem>) {
    let (mut set, mut world, mut problems) = (ManifestSet::default(), World::default(), Vec::new());
    for ManifestText { name, text } in texts {
        let update = set.put(name, text);
        problems.extend(update.problems);
        for change in update.changes {
            world.apply(change);
        }
    }
    (world, problems)
}

/// Everything that runs in a runner, as its controller sees it.
pub(crate) async fn running(local: &Local) -> anyhow::Result<(World, Vec<Problem>)> {
    Ok(read(&local.published_objects().await.context("asking the runner for its objects")?))
}

/// Adds what the mesh says of the policies and settings in these texts. Of Services it is said by the status: their pods
/// are only now being started.
pub(crate) async fn add_to_changes(local: &Local, texts: &[ManifestText], changes: &mut Changes) -> anyhow::Result<()> {
    let (applied, _) = read(texts);
    let keys = applied.keys().into_iter().filter(|key| POLICY_KINDS.contains(&key.kind));
    let origins: BTreeMap<_, _> = keys.map(|key| (key.to_string(), applied.origin(&key).cloned())).collect();
    if origins.is_empty() {
        return Ok(());
    }
    let (world, _) = running(local).await?;
    for problem in resolve(&world, &ResolveOptions::default()).1 {
        let Some(origin) = origins.get(&problem.subject) else { continue };
        let problem = problem.with_origin(origin.clone());
        // What is missing may be in the next file.
        let list = if problem.reason == Reason::Missing { &mut changes.warnings } else { &mut changes.problems };
        list.push(problem);
    }
    Ok(())
}

/// Adds what the mesh says of all policies and settings that are in force. Without any there is nothing to say, and ten
/// thousand other objects need not be read.
pub(crate) async fn add_to_status(local: &Local, status: &mut Status) -> anyhow::Result<()> {
    if !local.publishes_policies()? {
        return Ok(());
    }
    let (world, _) = running(local).await?;
    let (_, problems) = resolve(&world, &ResolveOptions::default());
    let meant: BTreeSet<String> =
        world.keys().iter().filter(|key| POLICY_KINDS.contains(&key.kind)).map(ToString::to_string).collect();
    // The files are the runner's own, which nobody wrote.
    let found = problems.into_iter().filter(|it| meant.contains(&it.subject)).map(|it| it.with_origin(None));
    let is_said = |status: &Status, found: &Problem| {
        let mut said = status.problems.iter().chain(&status.warnings);
        said.any(|said| (&said.subject, &said.field, &said.message) == (&found.subject, &found.field, &found.message))
    };
    for problem in found {
        if !is_said(status, &problem) {
            status.warnings.push(problem);
        }
    }
    Ok(())
}
