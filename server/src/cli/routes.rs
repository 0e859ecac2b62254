//! `countersign routes explain`: which route decides about a request, and why.

use std::{io, mem};

use super::{
    CommandError, ConfigSource,
    arguments::{ExplainRouteArgs, RoutesCommand},
    print,
    token::{CommandVerifier, inspect},
};
use crate::{
    authorization::{
        AuthorizationProvider, ListenerAccess,
        request_path::canonical,
        routes::{RouteMatch, RouteRule, RouteTable, TokenRoute},
    },
    base::{printable::printable, redacted::shown},
    config::{Config, Listener},
};

pub(super) fn run(source: &ConfigSource, command: RoutesCommand) -> Result<(), CommandError> {
    let RoutesCommand::Explain(args) = command;
    let mut config = source.load()?;
    // Only the issuers have to be those of a server, which evaluate the conditions of the routes.
    let routes = mem::take(&mut config.settings.auth.authorization.routes);
    describe_request(&routes, &args)?;
    if let Some(listener) = open_at(&config.settings.listeners, &args)? {
        print(format_args!(
            "allowed: open_paths of the listener {listener} have it, and no token is looked at"
        ))?;
        return Ok(());
    }
    let is_allowed = match routes.find(&args.method, &args.path) {
        RouteMatch::Denied(denial) => {
            if let Some(rule) = denial.rule {
                describe_rule(&routes, rule)?;
            }
            print(format_args!("denied, with any token: {denial}"))?;
            false
        }
        RouteMatch::Public(rule) => {
            describe_rule(&routes, rule)?;
            print("allowed: the route is public, and no token is looked at")?;
            true
        }
        RouteMatch::Token(route) => {
            match route.rule() {
                Some(rule) => describe_rule(&routes, rule)?,
                None => print("route     none: default = allow in [routes] takes any valid token")?,
            }
            explain_token(source, config, route, args)?
        }
    };
    if is_allowed { Ok(()) } else { Err(CommandError::failed("the request is denied")) }
}

/// Returns the name of a listener whose open paths have the path of the request, if they are asked.
fn open_at<'l>(
    listeners: &'l [Listener],
    args: &ExplainRouteArgs,
) -> Result<Option<&'l str>, CommandError> {
    let ExplainRouteArgs { method, path, listener, .. } = args;
    let asks_routes = |access: &ListenerAccess| access.provider == AuthorizationProvider::Routes;
    let is_open = |access: &ListenerAccess| access.open_paths.contains(method, path);
    if let Some(name) = listener {
        let found = listeners.iter().find(|listener| listener.name == *name);
        let text = || format!("no listener is named {}", shown(name));
        let found = found.ok_or_else(|| CommandError::failed(text()))?;
        return match &found.access {
            Some(access) if is_open(access) => Ok(Some(&found.name)),
            Some(access) if asks_routes(access) => Ok(None),
            _ => {
                let text = format!("the listener {name} does not ask the routes");
                Err(CommandError::failed(text))
            }
        };
    }
    let asked = listeners.iter().filter_map(|listener| {
        let access = listener.access.as_ref().filter(|access| asks_routes(access))?;
        Some((&*listener.name, is_open(access)))
    });
    let open = asked.clone().find(|(_, is_open)| *is_open).map(|(name, _)| name);
    if open.is_some() && asked.clone().any(|(_, is_open)| !is_open) {
        let names: Vec<_> = asked.map(|(name, _)| name).collect();
        let text = format!(
            "the open_paths of the listeners differ: choose one with --listener: {}",
            names.join(", ")
        );
        return Err(CommandError::failed(text));
    }
    Ok(open)
}

/// Prints the request, with its canonical path.
fn describe_request(routes: &RouteTable, args: &ExplainRouteArgs) -> io::Result<()> {
    let ExplainRouteArgs { method, path, .. } = args;
    print(format_args!("request   {} {}", printable(method), printable(path)))?;
    if let Ok(canonical) = canonical(path, routes.encoded_slash())
        && *canonical != **path
    {
        print(format_args!("path      {}", printable(&canonical)))?;
    }
    Ok(())
}

fn describe_rule(routes: &RouteTable, rule: &RouteRule) -> io::Result<()> {
    let number = routes.rules().iter().take_while(|one| one.name != rule.name).count() + 1;
    let count = routes.rules().len();
    let name = &rule.name;
    print(format_args!("route     [{name}], {number} of {count}: {}", rule.pattern_list()))?;
    print(format_args!("allows    {}", rule.access()))
}

/// Prints what the token changes, and returns whether the request is allowed.
fn explain_token(
    source: &ConfigSource,
    config: Config,
    route: TokenRoute<'_>,
    args: ExplainRouteArgs,
) -> Result<bool, CommandError> {
    let token = match args.token.as_deref() {
        Some("-") => inspect::read_input()?,
        Some(token) => token.to_owned(),
        None if route.is_anonymous() => {
            print("allowed: the route needs no token")?;
            return Ok(true);
        }
        None => {
            print("denied: the request has no token (401)")?;
            return Ok(false);
        }
    };
    let verifier = CommandVerifier::new(source, config, &args.how)?;
    let verified = match verifier.verify(token.as_bytes()) {
        Ok(verified) => verified,
        Err(reject) => {
            print(format_args!("denied: the token is refused ({}): {reject}", reject.code()))?;
            return Ok(false);
        }
    };
    print(format_args!("token     of [{}]", verified.issuer().section))?;
    for (requirement, is_met) in route.explain(&verified) {
        print(format_args!("{}   {requirement}", if is_met { "met    " } else { "not met" }))?;
    }
    let authorized = route.authorize(&verified);
    match &authorized {
        Ok(()) => print("allowed: the token meets every requirement")?,
        Err(denial) => print(format_args!("denied: {denial} (403)"))?,
    }
    Ok(authorized.is_ok())
}
