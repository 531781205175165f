//! What is asked for about a pod's start, and who asks: the pod counts before its namespace, and that before the mesh.

use std::fmt;

use osm_api::Reason;

use crate::Shape;

/// What waits while the proxy cannot carry connections yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hold {
    /// Nothing: connections are refused.
    None,
    /// Connections, in the kernel.
    Kernel,
    /// The application itself, and connections as well: the proxy may also fail later.
    Container,
}

/// Who asks, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asker {
    /// The settings of the whole mesh.
    MeshConfig,
    /// An annotation of the pod's namespace.
    Namespace,
    /// An annotation of the pod.
    Pod,
}

/// Something that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish<T> {
    pub(crate) what: T,
    pub(crate) asker: Asker,
    /// Where, in words for people.
    pub(crate) place: String,
}

/// A text that asks for nothing that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotAWish {
    pub(crate) reason: Reason,
    pub(crate) message: String,
    pub(crate) hint: &'static str,
}

impl<T> Wish<T> {
    /// What an annotation asks for, of the pod or of its namespace.
    pub(crate) fn of_annotation(what: T, key: &str, asker: Asker) -> Wish<T> {
        let whose = match asker {
            Asker::MeshConfig | Asker::Pod => "",
            Asker::Namespace => " of the namespace",
        };
        Wish { what, asker, place: format!("the annotation {key}{whose}") }
    }

    /// What a field of the MeshConfig asks for.
    pub(crate) fn of_mesh_config(what: T, field: &str) -> Wish<T> {
        Wish { what, asker: Asker::MeshConfig, place: format!("{field} of the MeshConfig") }
    }
}

/// Reads a shape.
pub(crate) fn read_shape(text: &str) -> Result<Shape, NotAWish> {
    match text {
        "init" => Ok(Shape::Init),
        "native" => Ok(Shape::Native),
        "merged" => Ok(Shape::Merged),
        "cni" => Err(NotAWish {
            reason: Reason::Unsupported,
            message: "this version does not have the shape \"cni\"".to_owned(),
            hint: "write init, native or merged",
        }),
        other => Err(NotAWish {
            reason: Reason::InvalidField,
            message: format!("{other:?} is no shape"),
            hint: "write init, native or merged, or leave it out",
        }),
    }
}

/// Reads what waits.
pub(crate) fn read_hold(text: &str) -> Result<Hold, NotAWish> {
    match text {
        "none" => Ok(Hold::None),
        "kernel" => Ok(Hold::Kernel),
        "container" => Ok(Hold::Container),
        other => Err(NotAWish {
            reason: Reason::InvalidField,
            message: format!("{other:?} is nothing that could wait"),
            hint: "write kernel, container or none, or leave it out",
        }),
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hold::None => "none",
            Hold::Kernel => "kernel",
            Hold::Container => "container",
        })
    }
}
