//! The OCSP response that a site staples.

use super::outcome::Scene;
use crate::world::peers::{openssl, s_client};
use crate::world::process::needs;

#[test]
fn a_stapled_response_reaches_the_clients_that_ask_for_it() {
    if !needs("openssl") {
        return;
    }
    let scene = Scene::new();
    let world = &scene.world;
    world.pki.server_ca.as_client().write(world.path(), "signer");
    world.write("index.txt", "");
    let sign = ["ocsp", "-index", "index.txt", "-CA", "server-ca.pem", "-rsigner", "signer.pem", "-rkey", "signer.key"];
    let of = ["-issuer", "server-ca.pem", "-cert", "server.pem", "-ndays", "2", "-respout", "server.ocsp"];
    openssl(world.path(), &[&sign[..], &of].concat());
    let mut stapling = scene.config("trust = [\"clients-ca.pem\"]");
    let plain = stapling.clone();
    let lines = &mut stapling.sites[0].lines;
    *lines = lines.replace("key = \"server.key\"", "key = \"server.key\", ocsp = \"server.ocsp\"");
    for (config, wanted) in [(stapling, "OCSP Response Status: successful"), (plain, "OCSP response: no response sent")]
    {
        let server = world.serve(&config);
        for version in ["-tls1_2", "-tls1_3"] {
            let client = [version, "-status", "-cert", "client.pem", "-key", "client.key"];
            let mut input = b"Q\n".to_vec();
            input.extend_from_slice(b"x\n");
            let said = s_client(world.path(), server.address(), &[&client[..], &["-no_ign_eof"]].concat(), &input);
            assert!(said.stdout.contains(wanted), "{version}: {wanted} in {}", said.text());
        }
    }
}
