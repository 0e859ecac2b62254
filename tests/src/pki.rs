//! Authorities and client certificates by the `openssl` command line, with any extensions.

use std::{fs, path::PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use tempfile::TempDir;

use crate::openssl::openssl;

/// Directory with keys and certificates. Certificates are known by name, and each has the key of
/// its [`CertificateSpec::key`].
pub struct OpensslPki {
    directory: TempDir,
}

/// Description of a certificate.
#[derive(Clone, Copy)]
pub struct CertificateSpec<'s> {
    /// Name of its issuer; `None` for its own.
    pub issuer: Option<&'s str>,
    /// Name of its key, created if it does not exist; `None` for its own name.
    pub key: Option<&'s str>,
    /// Subject, as of `openssl req -subj`.
    pub subject: &'s str,
    /// Extensions, as lines of an OpenSSL configuration, and sections that they refer to.
    pub extensions: &'s str,
    /// Mask of the types of strings in the subject.
    pub strings: &'s str,
    /// Days of validity, from now on.
    pub days: u32,
}

/// Extensions of an authority.
pub const AUTHORITY: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";

impl Default for CertificateSpec<'_> {
    fn default() -> Self {
        let (subject, extensions, strings) = ("/CN=client", "", "utf8only");
        Self { issuer: None, key: None, subject, extensions, strings, days: 30 }
    }
}

impl Default for OpensslPki {
    fn default() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }
}

impl OpensslPki {
    /// Creates a certificate and returns it in PEM.
    pub fn issue(&self, name: &str, spec: &CertificateSpec<'_>) -> String {
        let key = spec.key.unwrap_or(name);
        if !self.file(key, "key").exists() {
            let curve = ["-pkeyopt", "ec_paramgen_curve:P-256"];
            let out = self.path(key, "key");
            openssl(&[&["genpkey", "-algorithm", "EC", "-out", &out], &curve[..]].concat(), b"");
        }
        // Version 3 needs an extension.
        let CertificateSpec { strings, extensions, .. } = spec;
        let text = format!(
            "[req]\ndistinguished_name=none\nstring_mask={strings}\n[none]\n[extensions]\n\
             subjectKeyIdentifier=hash\n{extensions}\n"
        );
        fs::write(self.file(name, "cnf"), text).unwrap();
        let [configuration, out, key] =
            [(name, "cnf"), (name, "crt"), (key, "key")].map(|(name, end)| self.path(name, end));
        let days = spec.days.to_string();
        let mut arguments = vec![
            "req",
            "-x509",
            "-new",
            "-utf8",
            "-sha256",
            "-extensions",
            "extensions",
            "-config",
            &configuration,
            "-key",
            &key,
            "-subj",
            spec.subject,
            "-days",
            &days,
            "-out",
            &out,
        ];
        let issuer = spec.issuer.map(|issuer| [self.path(issuer, "crt"), self.path(issuer, "key")]);
        if let Some([certificate, key]) = &issuer {
            arguments.extend(["-CA", certificate, "-CAkey", key]);
        }
        openssl(&arguments, b"");
        fs::read_to_string(out).unwrap()
    }

    /// Creates an authority with a key by these arguments of `openssl genpkey`.
    pub fn authority_with_key(&self, name: &str, key: &[&str]) -> String {
        let out = self.path(name, "key");
        openssl(&[&["genpkey", "-out", &out], key].concat(), b"");
        self.authority(name, None, "")
    }

    /// Creates an authority, signed by another one or itself, with extensions in addition to
    /// [`AUTHORITY`].
    pub fn authority(&self, name: &str, issuer: Option<&str>, more: &str) -> String {
        let (subject, extensions) = (format!("/CN={name}"), format!("{AUTHORITY}{more}"));
        let (subject, extensions) = (subject.as_str(), extensions.as_str());
        self.issue(name, &CertificateSpec { issuer, subject, extensions, ..Default::default() })
    }

    /// Creates a client certificate with these extensions.
    pub fn client(&self, issuer: &str, subject: &str, extensions: &str) -> String {
        let issuer = Some(issuer);
        let spec = CertificateSpec { issuer, subject, extensions, ..Default::default() };
        self.issue("client", &spec)
    }

    /// Returns the file of a certificate (`crt`) or key (`key`).
    pub fn file(&self, name: &str, end: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.{end}"))
    }

    fn path(&self, name: &str, end: &str) -> String {
        self.file(name, end).to_str().unwrap().into()
    }
}

/// Escapes PEM as nginx does.
pub fn escaped(pem: &str) -> String {
    percent_encode(pem.as_bytes(), NON_ALPHANUMERIC).to_string()
}
