//! Keys and signatures by the `openssl` command line, as an independent signer.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

/// Runs `openssl` and returns its standard output.
pub fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is missing: apt-get install openssl");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Private key in a file, for one algorithm.
pub struct SigningKey {
    directory: TempDir,
    algorithm: &'static str,
    kid: String,
}

impl SigningKey {
    /// Generates a key for an asymmetric algorithm.
    pub fn generate(algorithm: &'static str, kid: &str) -> Self {
        let key = Self { directory: tempfile::tempdir().unwrap(), algorithm, kid: kid.into() };
        let kind: &[&str] = match algorithm {
            "ES256" => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            "ES384" => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            "ES512" => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
            "EdDSA" => &["-algorithm", "ED25519"],
            _ => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        };
        openssl(&[&["genpkey", "-out", key.file("key.pem").to_str().unwrap()], kind].concat(), b"");
        key
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the file of the private key, in PEM.
    pub fn path(&self) -> PathBuf {
        self.file("key.pem")
    }

    /// Signs a JWT with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.token_with_header(
            &json!({ "alg": self.algorithm, "typ": "JWT", "kid": self.kid }),
            claims,
        )
    }

    /// Signs a JWT with this header.
    pub fn token_with_header(&self, header: &Value, claims: &Value) -> String {
        let signing_input = signing_input(header, claims);
        let signature = URL_SAFE_NO_PAD.encode(self.sign(signing_input.as_bytes()));
        format!("{signing_input}.{signature}")
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        // A file of its own, because threads may share a key.
        let mut input = NamedTempFile::new_in(&self.directory).unwrap();
        input.write_all(message).unwrap();
        let (key, input) = (self.path(), input.into_temp_path());
        let (key, input) = (key.to_str().unwrap(), input.to_str().unwrap());
        let hash = format!("-sha{}", &self.algorithm[self.algorithm.len() - 3..]);
        match self.algorithm {
            "EdDSA" => openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", input], b""),
            name if name.starts_with("PS") => openssl(
                &[
                    "dgst",
                    &hash,
                    "-sigopt",
                    "rsa_padding_mode:pss",
                    "-sigopt",
                    "rsa_pss_saltlen:digest",
                    "-sign",
                    key,
                    input,
                ],
                b"",
            ),
            name if name.starts_with("ES") => fixed_length(
                &openssl(&["dgst", &hash, "-sign", key, input], b""),
                self.coordinate_length(),
            ),
            _ => openssl(&["dgst", &hash, "-sign", key, input], b""),
        }
    }

    fn coordinate_length(&self) -> usize {
        match self.algorithm {
            "ES256" => 32,
            "ES384" => 48,
            _ => 66,
        }
    }

    /// Returns the public key as a JWK.
    pub fn jwk(&self) -> Value {
        let der = openssl(
            &["pkey", "-in", self.path().to_str().unwrap(), "-pubout", "-outform", "DER"],
            b"",
        );
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match self.algorithm {
            "EdDSA" => json!({ "kty": "OKP", "crv": "Ed25519", "x": text(&der[der.len() - 32..]) }),
            name if name.starts_with("ES") => {
                let length = self.coordinate_length();
                let point = &der[der.len() - 2 * length..];
                let curve = format!("P-{}", if name == "ES512" { "521" } else { &name[2..] });
                json!({ "kty": "EC", "crv": curve, "x": text(&point[..length]), "y": text(&point[length..]) })
            }
            _ => json!({ "kty": "RSA", "n": text(&modulus(&self.path())), "e": "AQAB" }),
        };
        jwk["alg"] = json!(self.algorithm);
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }
}

/// Encodes and joins a header and a payload.
pub fn signing_input(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

/// Signs a JWT with a shared secret.
pub fn hs256(secret: &[u8], header: &Value, claims: &Value) -> String {
    let signing_input = signing_input(header, claims);
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let option = format!("hexkey:{hex}");
    let tag = openssl(
        &["dgst", "-sha256", "-mac", "HMAC", "-macopt", &option, "-binary"],
        signing_input.as_bytes(),
    );
    format!("{signing_input}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Creates a self-signed certificate for localhost. Returns its file and that of its key.
pub fn certificate(directory: &Path) -> (PathBuf, PathBuf) {
    self_signed(directory, "tls", "DNS:localhost,IP:127.0.0.1")
}

/// Creates a self-signed certificate with these subject alternative names. Returns its file and
/// that of its key.
pub fn self_signed(directory: &Path, file: &str, names: &str) -> (PathBuf, PathBuf) {
    let [certificate, key] = ["crt", "key"].map(|end| directory.join(format!("{file}.{end}")));
    let names = format!("subjectAltName={names}");
    let options = [
        "-subj",
        "/CN=localhost",
        "-addext",
        &names,
        "-keyout",
        text(&key),
        "-out",
        text(&certificate),
    ];
    openssl(&[&CERTIFICATE[..], &options].concat(), b"");
    (certificate, key)
}

/// Creates a new authority, `ca.crt`, and a certificate for localhost issued by it, `tls.crt`
/// with `tls.key`.
pub fn certificate_with_ca(directory: &Path) {
    let file = |name| directory.join(name);
    let (authority, authority_key, certificate, key) =
        (file("ca.crt"), file("ca.key"), file("tls.crt"), file("tls.key"));
    let subject =
        ["-subj", "/CN=authority", "-keyout", text(&authority_key), "-out", text(&authority)];
    openssl(&[&CERTIFICATE[..], &subject].concat(), b"");
    let by = [
        "-CA",
        text(&authority),
        "-CAkey",
        text(&authority_key),
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ];
    openssl(
        &[&CERTIFICATE[..], &LOCALHOST, &by, &["-keyout", text(&key), "-out", text(&certificate)]]
            .concat(),
        b"",
    );
}

const CERTIFICATE: [&str; 9] = [
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-days",
    "30",
];
const LOCALHOST: [&str; 4] =
    ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn modulus(key: &Path) -> Vec<u8> {
    let text = String::from_utf8(openssl(
        &["rsa", "-in", key.to_str().unwrap(), "-noout", "-modulus"],
        b"",
    ))
    .unwrap();
    let digits = text.trim().strip_prefix("Modulus=").unwrap().as_bytes();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Converts the DER of an ECDSA signature to `r || s` (RFC 7518 section 3.4).
fn fixed_length(der: &[u8], length: usize) -> Vec<u8> {
    // SEQUENCE, a length of one or two bytes, then two INTEGERs.
    let mut rest = if der[1] == 0x81 { &der[3..] } else { &der[2..] };
    let mut signature = Vec::new();
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let digits = &number[number.iter().position(|byte| *byte != 0).unwrap_or(number.len())..];
        signature.extend(std::iter::repeat_n(0, length - digits.len()));
        signature.extend(digits);
        rest = after;
    }
    signature
}
