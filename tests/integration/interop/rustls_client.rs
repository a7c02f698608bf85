//! rustls, on its buffered interface.

use super::{Bed, Case};
use crate::world::backend::echo;
use crate::world::client::{Client, ClientSpec, Ending, TLS12, TLS13, Tickets};
use crate::world::pki::KeyKind;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

#[test]
fn rustls_comes_in_every_pairing_and_resumes() {
    let bed = Bed::new(echo());
    let said: Vec<u8> = (0..100_000u32).map(|byte| (byte * 31 % 251) as u8).collect();
    for case in Case::all() {
        let credential = if case.client == KeyKind::Rsa { &bed.rsa } else { &bed.ecdsa };
        let mut spec = ClientSpec::with(&bed.world.pki, credential);
        spec.roots =
            CertificateDer::pem_file_iter(bed.path().join("server-ca.pem")).unwrap().map(Result::unwrap).collect();
        let versions = if case.version == "1.2" { TLS12 } else { TLS13 };
        let config = spec.versions(versions).tickets(&Tickets::new()).build();
        for resumed in [false, true] {
            let mut client = Client::connect(&config, case.host(), bed.server.address());
            client.echo(&said).unwrap();
            client.close_notify();
            assert_eq!(client.read_to_end(), (Vec::new(), Ending::CloseNotify), "{case:?}");
            assert_eq!(client.resumed(), resumed, "{case:?}");
            let line = bed.server.audit_of(client.address, "closed");
            bed.assert_visit(&line, case, resumed, said.len() as u64);
        }
    }
    assert_eq!(bed.server.stop(), 0);
}
