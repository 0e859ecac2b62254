//! `countersign policy explain`: the rule that decided about an input, or what each rule lacks.

use std::sync::Arc;

use super::{PolicyFile, endpoints, eval::for_each_input};
use crate::{
    authorization::policy::explainer::PolicyExplainer,
    cli::{CommandError, arguments::PolicyInputArgs, print},
};

pub(super) fn run(args: &PolicyInputArgs) -> Result<(), CommandError> {
    let (file, endpoints) = (PolicyFile::read(args.policy.as_deref())?, endpoints(args)?);
    let policy = Arc::new(file.compile(&endpoints)?);
    let explainer = PolicyExplainer::new(policy, endpoints).map_err(CommandError::failed)?;
    let mut failure = None;
    for_each_input(|input, _| {
        match input.and_then(|input| explainer.explain(&input, usize::MAX)) {
            Ok(explanation) => print(explanation)?,
            Err(error) => {
                failure.get_or_insert_with(|| error.clone());
                print(format_args!("error: {error}"))?;
            }
        }
        Ok(())
    })?;
    failure.map_or(Ok(()), |error| Err(CommandError::failed(error)))
}
