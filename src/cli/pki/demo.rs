//! The PKI of `countersign demo`: made on the first run, found again on the next.

use super::authority::{self, Authority, NewAuthority};
use super::failure::PkiError;
use super::files::{self, Overwrite};
use super::keys::KeyType;
use super::leaf::{self, LeafRequest, Role};
use super::registry;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::io;
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

/// Files that a demonstration needs.
#[derive(Debug, Clone)]
pub struct DemoPki {
    /// What client and server trust: the root.
    pub ca: PathBuf,
    /// For localhost, 127.0.0.1 and ::1, with its intermediate.
    pub server_chain: PathBuf,
    pub server_key: PathBuf,
    /// For a client called `demo-client`, with its intermediate.
    pub client_chain: PathBuf,
    pub client_key: PathBuf,
}

/// Makes a CA with a server and a client certificate in `dir`, or takes those that an earlier run made there.
pub fn demo(dir: &Path) -> io::Result<DemoPki> {
    Ok(demo_at(dir, OffsetDateTime::now_utc())?)
}

pub(super) fn demo_at(dir: &Path, now: OffsetDateTime) -> Result<DemoPki, PkiError> {
    let mut authority = if dir.join(registry::FILE).exists() {
        Authority::open(dir)?
    } else {
        let new = NewAuthority {
            name: "Countersign Demo",
            key_type: KeyType::P256,
            validity: Duration::days(3650),
            overwrite: Overwrite::No,
        };
        Authority::init(dir, &new, now)?
    };
    let request = LeafRequest {
        role: Role::Server,
        cn: "localhost".into(),
        ou: None,
        o: None,
        alternative_names: leaf::server_names(&["localhost".into(), "127.0.0.1".into(), "::1".into()])?,
        key_type: KeyType::P256,
        validity: Duration::days(365),
        broken: None,
    };
    let uri = "spiffe://countersign.example/demo-client".to_owned();
    let client = LeafRequest {
        role: Role::Client,
        cn: "demo-client".into(),
        alternative_names: leaf::client_names(&[uri], &[], &[], &[])?,
        ..request.clone()
    };
    let (server_chain, server_key) = present(&mut authority, &request, "server", now)?;
    let (client_chain, client_key) = present(&mut authority, &client, "client", now)?;
    Ok(DemoPki { ca: dir.join(authority::TRUST), server_chain, server_key, client_chain, client_key })
}

/// The certificate of that name, made anew where it is missing or about to run out.
fn present(
    authority: &mut Authority,
    request: &LeafRequest,
    name: &str,
    now: OffsetDateTime,
) -> Result<(PathBuf, PathBuf), PkiError> {
    let stem = authority.dir.join(name);
    let (chain, key) = (stem.with_extension("pem"), stem.with_extension("key"));
    if key.exists() && lasts(&chain, now + Duration::DAY) {
        return Ok((chain, key));
    }
    let files = leaf::issue(authority, request, &stem, Overwrite::Yes, now)?;
    Ok((files.chain, files.key))
}

fn lasts(chain: &Path, until: OffsetDateTime) -> bool {
    let Ok(bytes) = files::read(chain) else { return false };
    let Ok(der) = CertificateDer::from_pem_slice(&bytes) else { return false };
    authority::parse(&der).is_ok_and(|parsed| parsed.validity().not_after.to_datetime() > until)
}
