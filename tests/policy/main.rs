//! Access policies: the default policy against its description, and the limits of evaluations.

mod default_policy;
