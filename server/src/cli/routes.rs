//! `countersign routes explain`: which route decides about a request, and why.

use std::{io, mem};

use countersign_engine::Verified;

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
        request_path::canonical,
        routes::{RouteMatch, RouteRule, RouteTable, TokenRoute},
    },
    base::{printable::printable, redacted::shown},
    config::{Config, Listener},
    tenancy::{
        identity::TenantIdentity,
        refusal::TenancyRefusal,
        settings::TenancySettings,
        tenant::{TenantAccess, TenantImpersonation},
    },
};

pub(super) fn run(source: &ConfigSource, command: RoutesCommand) -> Result<(), CommandError> {
    let RoutesCommand::Explain(args) = command;
    let mut config = source.load()?;
    // Only the issuers have to be those of a server, which evaluate the conditions of the routes.
    let routes = mem::take(&mut config.settings.auth.authorization.routes);
    describe_request(&routes, &args)?;
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
    let acting = tenancy.map(|tenancy| acting_tenant(tenancy, &verified, &args.tenant));
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
    for (requirement, is_met) in route.explain(&verified, acting.as_ref()) {
        print(format_args!("{}   {requirement}", if is_met { "met    " } else { "not met" }))?;
    }
    let authorized = route.authorize(&verified, acting.as_ref());
    match &authorized {
        Ok(()) => print("allowed: the token meets every requirement")?,
        Err(denial) => print(format_args!("denied: {denial} (403)"))?,
    }
    Ok(authorized.is_ok())
}

/// Returns the tenant that a request acts for with this token, and `asked` as `X-Tenant-ID`.
fn acting_tenant(
    tenancy: &TenancySettings,
    verified: &Verified<'_>,
    asked: &str,
) -> Result<TenantIdentity, TenancyRefusal> {
    let asked = TenantImpersonation { tenant: asked.as_bytes(), user: b"" };
    // The settings are never reloaded here.
    let credential = tenancy.credential(verified).unwrap_or(Err(TenancyRefusal::NoClaim))?;
    Ok(TenantIdentity::new(&TenantAccess::of(credential, asked)?))
}
