//! What runs, and what policies say about it, without I/O: Pods by what made them (`workload`, `pods`), whom a policy binds
//! (`binding`), which images it therefore wants looked at (`questions`), how each of them stands (`standing`), and what
//! that comes to for a policy (`assessment`) and for a namespace (`report`). The operator asks for its status, the kubectl
//! plugin before a policy is applied; both ask the same questions.

mod assessment;
mod binding;
mod pods;
mod questions;
mod report;
mod standing;
mod workload;

use std::collections::BTreeMap;

pub use assessment::{Assessment, named};
pub use binding::Binding;
pub use pods::Pods;
pub use questions::{Question, Which, questions};
pub use report::{PolicyReport, REPORT, reports};
pub use standing::Standing;
pub use workload::{Digests, Template, Workload};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;
