//! The TLS clients: rustls configurations, one for each identity, with or without a memory for session tickets.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::load::args::{TargetArgs, TlsVersion};
use crate::load::pki::{self, Identity, Pki};
use crate::load::{Refusal, exit};

/// The clients of a run.
#[derive(Clone, Debug)]
pub struct Clients {
    configs: Vec<Arc<ClientConfig>>,
}

impl Clients {
    /// Builds what the flags ask for. `pki` is opened only where a flag does not name the files.
    pub fn build(args: &TargetArgs) -> Result<(Clients, Option<Pki>), Refusal> {
        let needs_pki = (args.ca.is_none() && !args.insecure) || (args.certificate.is_none() && !args.anonymous);
        let pki = if needs_pki { Some(Pki::open(args.pki.as_deref())?) } else { None };
        let provider = Arc::new(provider(args)?);
        let verifier = verifier(args, pki.as_ref(), &provider)?;
        let identities = identities(args, pki.as_ref())?;
        let mut configs = Vec::with_capacity(identities.len());
        for identity in identities {
            configs.push(Arc::new(config(args, &provider, &verifier, identity)?));
        }
        Ok((Clients { configs }, pki))
    }

    /// A client as the flags say, but with a certificate that nobody trusts.
    pub fn stranger(args: &TargetArgs, pki: Option<&Pki>) -> Result<Arc<ClientConfig>, Refusal> {
        let provider = Arc::new(provider(args)?);
        let verifier = verifier(args, pki, &provider)?;
        Ok(Arc::new(config(args, &provider, &verifier, Some(pki::stranger()?))?))
    }

    /// Clients made elsewhere.
    #[cfg(test)]
    pub fn from_config(config: ClientConfig) -> Clients {
        Clients { configs: vec![Arc::new(config)] }
    }

    /// How many different clients there are.
    pub fn count(&self) -> usize {
        self.configs.len()
    }

    /// The `n`th client, counted round and round; remembers no session.
    pub fn forgetful(&self, n: usize) -> Arc<ClientConfig> {
        self.configs[n % self.configs.len()].clone()
    }

    /// The `n`th client with a session memory of its own, so that no other lane takes its tickets.
    pub fn remembering(&self, n: usize) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.configs[n % self.configs.len()]);
        // One server's worth: TLS 1.3 tickets (rustls keeps eight) or one TLS 1.2 session.
        config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(8)));
        Arc::new(config)
    }
}

fn identities(args: &TargetArgs, pki: Option<&Pki>) -> Result<Vec<Option<Identity>>, Refusal> {
    match (&args.certificate, &args.key, pki) {
        _ if args.anonymous => Ok(vec![None]),
        (Some(_), Some(_), _) if args.identities > 1 => Err(Refusal::usage(
            "--identities issues certificates by the PKI directory; leave out --certificate and --key",
        )),
        (Some(certificate), Some(key), _) => Ok(vec![Some(pki::read_identity(certificate, key)?)]),
        (_, _, Some(pki)) => Ok(pki.identities(args.identities)?.into_iter().map(Some).collect()),
        _ => Ok(vec![None]),
    }
}

fn config(
    args: &TargetArgs,
    provider: &Arc<CryptoProvider>,
    verifier: &Arc<dyn ServerCertVerifier>,
    identity: Option<Identity>,
) -> Result<ClientConfig, Refusal> {
    let versions: &[&rustls::SupportedProtocolVersion] = match args.tls {
        Some(TlsVersion::V12) => &[&rustls::version::TLS12],
        Some(TlsVersion::V13) => &[&rustls::version::TLS13],
        None => rustls::ALL_VERSIONS,
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|e| Refusal::usage(format!("{e}; --cipher-suites and --tls do not fit together")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone());
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain, identity.key)
            .map_err(|e| Refusal::new(exit::CONFIG, format!("the client's certificate and key do not fit: {e}")))?,
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = args.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    Ok(config)
}

/// aws-lc-rs with the suites and groups that were asked for, in that order.
fn provider(args: &TargetArgs) -> Result<CryptoProvider, Refusal> {
    let mut provider = aws_lc_rs::default_provider();
    if !args.cipher_suites.is_empty() {
        provider.cipher_suites =
            chosen(&args.cipher_suites, aws_lc_rs::ALL_CIPHER_SUITES, |s| iana_name(s.suite()), "cipher suite")?;
    }
    if !args.groups.is_empty() {
        provider.kx_groups =
            chosen(&args.groups, aws_lc_rs::ALL_KX_GROUPS, |g| format!("{:?}", g.name()), "key exchange group")?;
    }
    Ok(provider)
}

fn chosen<T: Copy>(names: &[String], all: &[T], name_of: impl Fn(&T) -> String, what: &str) -> Result<Vec<T>, Refusal> {
    let find = |name: &String| {
        all.iter().find(|one| name_of(one).eq_ignore_ascii_case(name)).copied().ok_or_else(|| {
            let known: Vec<String> = all.iter().map(&name_of).collect();
            Refusal::usage(format!("{name:?} is no {what} of this program; there are {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

/// The IANA name: rustls's own names say TLS13_ where the registry says TLS_.
pub fn iana_name(suite: rustls::CipherSuite) -> String {
    suite.as_str().map_or_else(|| format!("{suite:?}"), |name| name.replacen("TLS13_", "TLS_", 1))
}

fn verifier(
    args: &TargetArgs,
    pki: Option<&Pki>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Refusal> {
    if args.insecure {
        return Ok(Arc::new(AnyCertificate(provider.signature_verification_algorithms)));
    }
    let anchors = match (&args.ca, pki) {
        (Some(path), _) => pki::read_chain(path)?,
        (None, Some(pki)) => pki.anchors()?,
        (None, None) => return Err(Refusal::usage("nothing says whom to trust; give --ca FILE or --insecure")),
    };
    let mut roots = RootCertStore::empty();
    for anchor in anchors {
        roots.add(anchor).map_err(|e| Refusal::new(exit::CONFIG, format!("a certificate to trust is bad: {e}")))?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    verifier
        .map(|v| v as Arc<dyn ServerCertVerifier>)
        .map_err(|e| Refusal::new(exit::CONFIG, format!("the certificates to trust cannot be used: {e}")))
}

/// `--insecure`: any certificate will do, but the server still has to hold its key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_and_groups_are_chosen_by_name_in_the_order_given() {
        let names = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let picked = |list: &[&str]| {
            chosen(&names(list), aws_lc_rs::ALL_CIPHER_SUITES, |s| iana_name(s.suite()), "cipher suite")
                .map(|suites| suites.iter().map(|s| iana_name(s.suite())).collect::<Vec<_>>())
        };
        let two = ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"];
        assert_eq!(picked(&two).unwrap(), names(&two));
        assert!(picked(&["TLS_RSA_WITH_NULL_MD5"]).unwrap_err().message.contains("TLS_AES_128_GCM_SHA256"));
        let groups = chosen(&names(&["x25519"]), aws_lc_rs::ALL_KX_GROUPS, |g| format!("{:?}", g.name()), "group");
        assert_eq!(groups.unwrap().len(), 1);
    }
}
