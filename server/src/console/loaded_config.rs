//! The configuration as it was loaded, without its secrets.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    auth::profile::Profile,
    authorization::ListenerAccess,
    config::{problem::Problem, setting::Section},
};

/// The configuration as written, for people who look at it.
#[derive(Clone, Debug, Default)]
pub struct LoadedConfig {
    /// Its sections. Values that are secrets, or may be, are replaced.
    pub sections: Arc<BTreeMap<String, Section>>,
    /// Notes and warnings about it.
    pub remarks: Vec<Problem>,
    /// The listeners that answer checks of requests.
    pub listeners: Vec<DecidingListener>,
}

/// A listener, as far as it decides about requests.
#[derive(Clone, Debug)]
pub struct DecidingListener {
    /// Its name.
    pub name: String,
    /// The system that it imitates.
    pub profile: Profile,
    /// How it authorizes requests.
    pub access: ListenerAccess,
}
