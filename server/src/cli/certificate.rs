//! `countersign cert`: server certificates for trials and for networks without an authority.

use std::{
    io,
    path::{Path, absolute},
};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use time::{Duration, OffsetDateTime};

use super::{
    CommandError,
    arguments::{CertCommand, SelfSignedArgs},
    atomic_file, print,
};
use crate::base::clock;

pub(super) fn run(command: CertCommand) -> Result<(), CommandError> {
    match command {
        CertCommand::SelfSigned(args) => self_signed(args),
    }
}

fn self_signed(args: SelfSignedArgs) -> Result<(), CommandError> {
    let directory = absolute(&args.out)?;
    let files = [directory.join("tls.crt"), directory.join("tls.key")];
    if !args.force
        && let Some(file) = files.iter().find(|file| file.symlink_metadata().is_ok())
    {
        return Err(CommandError::failed(format_args!(
            "{} already exists\n  help: choose another directory with --out, or replace it with \
             --force",
            file.display()
        )));
    }
    let [host, ..] = &args.hosts[..] else {
        return Err(CommandError::failed("the certificate needs a host"));
    };
    let (certificate, key) = generate(&args.hosts, args.days).map_err(CommandError::failed)?;
    let [certificate_file, key_file] = &files;
    #[expect(clippy::disallowed_methods, reason = "the server may be another user")]
    std::fs::create_dir_all(&directory).map_err(|error| at(&directory, &error))?;
    let write = if args.force { atomic_file::replace } else { atomic_file::create };
    // The key comes first: a certificate without its key would be of no use.
    for (file, text, mode) in [
        (key_file, key, atomic_file::PRIVATE),
        (certificate_file, certificate, atomic_file::PUBLIC),
    ] {
        write(file, &text, mode).map_err(|error| at(file, &error))?;
    }
    explain(host, args.days, certificate_file, key_file)?;
    Ok(())
}

/// Prints how to use the files.
fn explain(host: &str, days: u16, certificate: &Path, key: &Path) -> io::Result<()> {
    let (certificate, key) = (certificate.display(), key.display());
    let authority = if host.contains(':') { format!("[{host}]") } else { host.into() };
    print(format_args!(
        "A certificate for {days} days, and its key, which only you can read: if the server runs \
         as another user, give it the file.\n\n  {certificate}\n  {key}\n\nFor the \
         configuration (.cfg; in TOML, the paths have quotation marks):\n\n[server]\n\
         ssl_cert_file={certificate}\nssl_key_file={key}\n"
    ))?;
    print(format_args!(
        "Commands with this configuration trust it. For other clients:\n\ncurl --cacert \
         {certificate} https://{authority}:8888/auth"
    ))
}

fn at(path: &Path, error: &io::Error) -> CommandError {
    CommandError::failed(format_args!("{}: {error}", path.display()))
}

/// Generates a certificate and its key, in PEM.
///
/// The certificate is for TLS servers only, and not of an authority: rustls accepts no other at
/// the end of a chain. Clients accept it as a trusted root for itself.
fn generate(hosts: &[String], days: u16) -> Result<(String, String), rcgen::Error> {
    /// The clocks of clients may be behind.
    const MARGIN: Duration = Duration::HOUR;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    // Addresses among the hosts become addresses in the certificate.
    let mut parameters = CertificateParams::new(hosts)?;
    let now = i64::try_from(clock::now().0).unwrap_or_default();
    let now = OffsetDateTime::from_unix_timestamp(now).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    parameters.not_before = now - MARGIN;
    parameters.not_after = now + Duration::days(days.into());
    parameters.distinguished_name.push(DnType::CommonName, &*hosts[0]);
    // Systems may trust another certificate of localhost. Equal names would be confused.
    parameters.distinguished_name.push(DnType::OrganizationName, "countersign self-signed");
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok((parameters.self_signed(&key)?.pem(), key.serialize_pem()))
}
