//! The core of the loop, without tasks or time: changes in, what every class of proxies is told out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use osm_api::{Change, Changed, Problem, World};
use osm_model::{Mesh, ProxyClass, ProxyView};
use osm_resolve::{ResolveOptions, resolve};
use osm_translate::Translator;
use osm_xds::{ResourceType, Resources};

/// Everything that is true at one moment, each value after its arrow. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What the objects say.
    pub world: Arc<World>,
    /// What they mean.
    pub mesh: Arc<Mesh>,
    /// What is wrong, in order.
    pub problems: Arc<BTreeSet<Problem>>,
    /// What each class of proxies is told. A class whose configuration did not change keeps its pointer.
    pub classes: Arc<BTreeMap<ProxyClass, Arc<Resources>>>,
}

/// The World and what was made of it last.
#[derive(Debug)]
pub struct Core {
    options: ResolveOptions,
    world: Arc<World>,
    problems_of_files: BTreeMap<String, Vec<Problem>>,
    resolved: Option<(Arc<Mesh>, Vec<Problem>)>,
    is_resolved_stale: bool,
    views: BTreeMap<ProxyClass, (ProxyView, Arc<Resources>)>,
    translator: Translator,
}

impl Core {
    /// An empty World.
    pub fn new(options: ResolveOptions) -> Core {
        Core {
            options,
            world: Arc::default(),
            problems_of_files: BTreeMap::new(),
            resolved: None,
            is_resolved_stale: true,
            views: BTreeMap::new(),
            translator: Translator::default(),
        }
    }

    /// Takes in what happened to objects.
    pub fn apply(&mut self, changes: Vec<Change>) -> Changed {
        let world = Arc::make_mut(&mut self.world);
        let mut changed = Changed::Nothing;
        for change in changes {
            if world.apply(change) == Changed::Something {
                changed = Changed::Something;
            }
        }
        self.is_resolved_stale |= changed == Changed::Something;
        changed
    }

    /// Takes in all that is wrong in one file now.
    pub fn set_problems(&mut self, file: String, problems: Vec<Problem>) {
        if problems.is_empty() {
            self.problems_of_files.remove(&file);
        } else {
            self.problems_of_files.insert(file, problems);
        }
    }

    /// World to Mesh, if the World changed.
    pub fn resolve(&mut self) -> Arc<Mesh> {
        if let Some((mesh, _)) = &self.resolved
            && !self.is_resolved_stale
        {
            return mesh.clone();
        }
        let (mut mesh, problems) = resolve(&self.world, &self.options);
        if let Some((before, _)) = &self.resolved {
            share_services(&mut mesh, before);
        }
        let mesh = Arc::new(mesh);
        self.resolved = Some((mesh.clone(), problems));
        self.is_resolved_stale = false;
        mesh
    }

    /// Mesh to the Resources of every class. A class whose view is what it was is not translated again.
    pub fn publish(&mut self) -> Snapshot {
        let mesh = self.resolve();
        let mut views = BTreeMap::new();
        for class in mesh.classes() {
            let view = mesh.view(class);
            let resources = match self.views.get(class) {
                Some((before, resources)) if *before == view => resources.clone(),
                before => {
                    let resources = self.translator.translate(&view);
                    keep_what_is_equal(resources, before.map(|(_, resources)| resources))
                }
            };
            views.insert(class.clone(), (view, resources));
        }
        self.views = views;
        let classes = self.views.iter().map(|(class, (_, resources))| (class.clone(), resources.clone()));
        let resolved = self.resolved.iter().flat_map(|(_, problems)| problems);
        let problems = self.problems_of_files.values().flatten().chain(resolved).cloned().collect();
        Snapshot { world: self.world.clone(), mesh, problems: Arc::new(problems), classes: Arc::new(classes.collect()) }
    }
}

/// Services that did not change keep their pointers, so that comparing views is comparing pointers.
fn share_services(mesh: &mut Mesh, before: &Mesh) {
    for (name, service) in &mut mesh.services {
        if let Some(old) = before.services.get(name).filter(|old| *old == service) {
            *service = old.clone();
        }
    }
}

/// The old pointer if nothing changed, and else the old map of each type that did not: a session then knows at a
/// glance what it need not compare.
fn keep_what_is_equal(resources: Arc<Resources>, before: Option<&Arc<Resources>>) -> Arc<Resources> {
    let Some(before) = before else {
        return resources;
    };
    if *before == resources {
        return before.clone();
    }
    let mut resources = Arc::unwrap_or_clone(resources);
    for ty in ResourceType::ALL {
        if before.version_of(ty) == resources.version_of(ty) {
            resources.take_type_from(ty, before);
        }
    }
    Arc::new(resources)
}
