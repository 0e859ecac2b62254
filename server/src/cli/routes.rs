//! `countersign routes explain`: which route decides about a request, and why.

use std::{io, mem};

use super::{
    CommandError, ConfigSource,
    arguments::{ExplainRouteArgs, RoutesCommand},
    print,
    token::{CommandVerifier, inspect},
};
use crate::{
    auth::profile::Profile,
    authorization::{
        AuthorizationProvider, ListenerAccess,
        explanation::{DecidingFact, request_facts, requirement_facts, route_facts, rule_facts},
        routes::{RouteMatch, TokenRoute},
    },
    base::{printable::printable, redacted::shown},
    config::{Config, Listener},
};

pub(super) fn run(source: &ConfigSource, command: RoutesCommand) -> Result<(), CommandError> {
    let RoutesCommand::Explain(args) = command;
    let mut config = source.load()?;
    // Only the issuers have to be those of a server, which evaluate the conditions of the routes.
    let routes = mem::take(&mut config.settings.auth.authorization.routes);
    print_facts(&request_facts(&routes, &args.method, &args.path))?;
    let surface = surface_at(&config.settings.listeners, &args);
    if let Some(listener) = open_at(&config.settings.listeners, &args)? {
        print(format_args!(
            "allowed: open_paths of the listener {listener} have it, and no token is looked at"
        ))?;
        return Ok(());
    }
    let is_allowed = match routes.find(&args.method, &args.path) {
        RouteMatch::Denied(denial) => {
            if let Some(rule) = denial.rule {
                print_facts(&rule_facts(&routes, rule))?;
            }
            print(format_args!("denied, with any token: {denial}"))?;
            false
        }
        RouteMatch::Public(rule) => {
            print_facts(&rule_facts(&routes, rule))?;
            print("allowed: the route is public, and no token is looked at")?;
            true
        }
        RouteMatch::Token(route) => {
            print_facts(&route_facts(&routes, &route))?;
            explain_token(source, config, (route, surface), args)?
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

/// Returns the surface of the listeners that are asked; `None` if they differ.
fn surface_at(listeners: &[Listener], args: &ExplainRouteArgs) -> Option<Profile> {
    let is_asked = |listener: &&Listener| match &args.listener {
        Some(name) => listener.name == *name,
        None => listener.access.as_ref().is_some_and(asks_routes),
    };
    let mut surfaces = listeners.iter().filter(is_asked).map(|listener| listener.profile);
    let first = surfaces.next().unwrap_or(args.how.surface);
    surfaces.all(|surface| surface == first).then_some(first)
}

fn asks_routes(access: &ListenerAccess) -> bool {
    access.provider == AuthorizationProvider::Routes
}

fn print_facts(facts: &[DecidingFact]) -> io::Result<()> {
    facts
        .iter()
        .try_for_each(|DecidingFact { label, text }| print(format_args!("{label:10}{text}")))
}

/// Prints what the token changes, and returns whether the request is allowed.
fn explain_token(
    source: &ConfigSource,
    config: Config,
    (route, surface): (TokenRoute<'_>, Option<Profile>),
    mut args: ExplainRouteArgs,
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
    let text = "the surfaces of the listeners differ: choose one with --listener";
    let surface = surface.ok_or_else(|| CommandError::failed(text))?;
    if surface == Profile::Orchestrate {
        args.how.surface = surface;
    }
    let verifier = CommandVerifier::new(source, config, &args.how)?;
    let verified = match verifier.verify(token.as_bytes()) {
        Ok(verified) => verified,
        Err(reject) => {
            print(format_args!("denied: the token is refused ({}): {reject}", reject.code()))?;
            return Ok(false);
        }
    };
    print(format_args!("token     of [{}]", verified.issuer().section))?;
    let settings = verifier.settings();
    let tenancy = settings.auth.tenancy.as_ref().filter(|_| surface == Profile::Orchestrate);
    let acting = tenancy.map(|tenancy| tenancy.acting(&verified, &args.tenant));
    let acting = match acting.transpose() {
        Ok(acting) => acting,
        Err(refusal) => {
            print(format_args!("denied: {refusal} (401)"))?;
            return Ok(false);
        }
    };
    if let Some(acting) = &acting {
        print(format_args!("tenant    {}", printable(acting.names().tenant)))?;
    }
    print_facts(&requirement_facts(&route, &verified, acting.as_ref()))?;
    let authorized = route.authorize(&verified, acting.as_ref());
    match &authorized {
        Ok(()) => print("allowed: the token meets every requirement")?,
        Err(denial) => print(format_args!("denied: {denial} (403)"))?,
    }
    Ok(authorized.is_ok())
}
