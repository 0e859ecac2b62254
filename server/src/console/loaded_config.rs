//! The configuration as it was loaded, without its secrets.

use std::{collections::BTreeMap, sync::Arc};

use crate::config::{problem::Problem, setting::Section};

/// The configuration as written, for people who look at it.
#[derive(Clone, Debug, Default)]
pub struct LoadedConfig {
    /// Its sections. Values that are secrets, or may be, are replaced.
    pub sections: Arc<BTreeMap<String, Section>>,
    /// Notes and warnings about it.
    pub remarks: Vec<Problem>,
}
