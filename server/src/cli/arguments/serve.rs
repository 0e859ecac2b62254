//! Arguments of `serve`.

use std::net::SocketAddr;

use clap::{ArgGroup, Args};
use http::Uri;

use super::{LoadTestArgs, ServeArgs};

/// Arguments of `serve`.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("tokens_of").args(["issuer", "profile"]))]
pub struct ServeCommandArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub options: ServeArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub issuer: Option<IssuerArgs>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the help text")]
    pub load_test: LoadTestArgs,
    /// Address and port to listen on, with --issuer or --profile (default: 127.0.0.1:8888).
    #[arg(long, value_name = "ADDRESS:PORT", requires = "tokens_of")]
    pub listen: Option<SocketAddr>,
}

/// The issuer of a server without a configuration file.
#[derive(Args, Clone, Debug)]
pub struct IssuerArgs {
    /// Verify tokens of this issuer (iss), an OpenID provider, instead of reading a
    /// configuration.
    #[arg(long, value_name = "URL", required = false, requires = "audience", value_parser = issuer_url)]
    pub issuer: String,
    /// Required audience (aud) of the tokens: the name of your service at the issuer.
    #[arg(long, value_name = "AUDIENCE", required = false, requires = "issuer", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub audience: String,
}

fn issuer_url(text: &str) -> Result<String, String> {
    // OpenID Connect Discovery 1.0 section 2.
    let is_url = text.parse::<Uri>().is_ok_and(|uri| {
        ["https", "http"].contains(&uri.scheme_str().unwrap_or_default()) && uri.query().is_none()
    });
    if !is_url || text.contains(['#', '@']) {
        return Err("write an https:// or http:// URL without query, exactly as in iss".into());
    }
    Ok(text.into())
}
