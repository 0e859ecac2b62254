//! Candidate paths from a client certificate to the authority, by the names of issuers.
//!
//! Anyone can present a chain to the login route. `rustls-webpki` limits its search to 200,000
//! steps, which takes seconds with certificates of the same name. So it receives one candidate at
//! a time, and the search for candidates compares names only, within a small budget.

use super::certificate_fields::CertificateFields;

/// Maximum number of candidate paths.
const MAX_PATHS: usize = 8;
/// Maximum number of comparisons of names.
const MAX_STEPS: usize = 2_000;
/// Maximum number of intermediate authorities in a path, as of `rustls-webpki`.
const MAX_INTERMEDIATES: usize = 6;
/// Maximum number of authorities with the same name in a path. An authority with a new key may be
/// certified by its old one.
const MAX_SAME_NAME: usize = 2;

/// A candidate path: the intermediate authorities, the issuer of the client certificate first.
pub(super) type CandidatePath<'p, 'd> = Vec<&'p CertificateFields<'d>>;

/// Returns the candidate paths from a certificate with this issuer to the authority.
pub(super) fn find<'p, 'd>(
    issuer: &[u8],
    intermediates: &'p [CertificateFields<'d>],
    authority: &[u8],
) -> Vec<CandidatePath<'p, 'd>> {
    let mut search = PathSearch { intermediates, authority, steps: MAX_STEPS, found: Vec::new() };
    search.extend(issuer, &mut Vec::new());
    search.found
}

struct PathSearch<'s, 'p, 'd> {
    intermediates: &'p [CertificateFields<'d>],
    authority: &'s [u8],
    /// Comparisons left.
    steps: usize,
    found: Vec<CandidatePath<'p, 'd>>,
}

impl<'p, 'd> PathSearch<'_, 'p, 'd> {
    /// Searches the paths that begin with `path`, whose last certificate has this issuer. Its depth
    /// is at most [`MAX_INTERMEDIATES`].
    fn extend(&mut self, issuer: &[u8], path: &mut CandidatePath<'p, 'd>) {
        if issuer == self.authority && self.found.len() < MAX_PATHS {
            self.found.push(path.clone());
        }
        if path.len() == MAX_INTERMEDIATES {
            return;
        }
        for next in self.intermediates {
            if self.steps == 0 || self.found.len() == MAX_PATHS {
                return;
            }
            self.steps -= 1;
            if next.subject() == issuer && may_follow(next, path) {
                path.push(next);
                self.extend(next.issuer(), path);
                path.pop();
            }
        }
    }
}

/// Whether a certificate may continue a path: it is not in it, and neither is another one of the
/// same name and key (RFC 4158 section 5.2).
fn may_follow(next: &CertificateFields<'_>, path: &[&CertificateFields<'_>]) -> bool {
    let mut same_name = path.iter().filter(|earlier| earlier.subject() == next.subject());
    same_name.clone().count() < MAX_SAME_NAME
        && same_name.all(|earlier| earlier.public_key() != next.public_key())
}
