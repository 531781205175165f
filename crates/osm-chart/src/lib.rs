//! The Helm chart of the mesh (`charts/osm`), and what makes objects of it without Helm.
//!
//! The chart is the only place that says what an installed mesh is made of. Helm reads it, and so does this crate: it
//! knows the part of Go's template language that the chart uses and refuses the rest. Tests hold both against Helm.
//! Pure: no input or output.

mod chart;
mod evaluate;
mod functions;
mod schema;
mod set;
mod template;
mod values;

pub use chart::{Chart, Release, Rendered};
pub use schema::violations;
pub use set::apply_set;
pub use values::merge;

/// What is wrong with a chart, its values or a `--set`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChartError {
    /// A file of the chart that cannot be read as what it should be.
    #[error("{file} of the chart: {message}")]
    File {
        /// Its path in the chart.
        file: String,
        /// What is wrong.
        message: String,
    },
    /// A template that cannot be carried out.
    #[error("{file} of the chart, line {line}: {message}")]
    Template {
        /// Its path in the chart.
        file: String,
        /// The line in it.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// Values that the chart's schema refuses.
    #[error("{}", .0.join("\n"))]
    Values(Vec<String>),
    /// A `--set` that cannot be read.
    #[error("--set {text}: {message}")]
    Set {
        /// As it was written.
        text: String,
        /// What is wrong.
        message: String,
    },
}
