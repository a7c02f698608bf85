use super::*;
use crate::trust::tests::pki::{Ca, NOW, at};
use std::fmt::Write as _;
use tempfile::TempDir;

/// A directory with a configuration, the trust file `ca.pem`, and the chain `client.pem` of a client of it.
struct World {
    dir: TempDir,
    root: Ca,
}

impl World {
    fn new(sites: &str) -> World {
        let world = World { dir: tempfile::tempdir().unwrap(), root: Ca::root("Root") };
        let listener = "[[listener]]\nname = \"public\"\naddress = [\"127.0.0.1:0\"]\n";
        let backend = "[[backend]]\nname = \"b\"\nservers = [\"127.0.0.1:9000\"]\n";
        std::fs::write(world.path("c.toml"), format!("{listener}{sites}{backend}")).unwrap();
        std::fs::write(world.path("ca.pem"), pem(&[&world.root.der])).unwrap();
        std::fs::write(world.path("client.pem"), pem(&[&world.root.client("acme")])).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn args(&self) -> ExplainArgs {
        ExplainArgs {
            config: self.path("c.toml"),
            listener: None,
            sni: None,
            at: Some(at(NOW)),
            json: false,
            chain: self.path("client.pem"),
        }
    }

    fn report(&self, sni: Option<&str>) -> (String, Value) {
        let config = Config::from_file(&self.path("c.toml")).unwrap();
        let chain = read_chain(&self.path("client.pem")).unwrap();
        let report = match choose(&config, None, sni) {
            Ok(chosen) => judge(&config, &chosen, &chain, at(NOW)).unwrap(),
            Err(Unchosen::NoSite(listener)) => Report::of_no_site(listener, sni, at(NOW)),
            Err(Unchosen::Ambiguous(message)) => panic!("{message}"),
        };
        (report.in_text(), report.in_json())
    }
}

use serde_json::Value;

fn pem(ders: &[&[u8]]) -> String {
    use base64::Engine;
    ders.iter().fold(String::new(), |mut text, der| {
        let base64 = base64::engine::general_purpose::STANDARD.encode(der);
        let _ = write!(text, "-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
        text
    })
}

fn site(name: &str, names: &str, client: &str) -> String {
    format!(
        "[[site]]\nname = \"{name}\"\n{names}\ncertificate = [{{ chain = \"s.pem\", key = \"s.key\" }}]\n\
         [site.client]\ntrust = [\"ca.pem\"]\n{client}\n"
    )
}

#[test]
fn a_client_that_is_let_in_exits_0_and_one_that_is_not_1() {
    let world = World::new(&site("s", "", "allow = [{ name = \"acme inc\", cn = \"acme\" }]"));
    assert_eq!(explain(world.args()), exit::OK);
    assert_eq!(explain(ExplainArgs { at: Some(at(NOW + 400 * 86_400)), ..world.args() }), exit::REFUSED);
    let world = World::new(&site("s", "", "allow = [{ cn = \"somebody else\" }]"));
    assert_eq!(explain(ExplainArgs { json: true, ..world.args() }), exit::REFUSED);
}

#[test]
fn the_text_tells_the_steps_the_identity_and_the_rule() {
    let world = World::new(&site("s", "", "allow = [{ name = \"acme inc\", cn = \"acme\" }]"));
    let (text, json) = world.report(None);
    for part in [
        "client  CN=acme",
        "pass  path",
        "leaf < anchor CN=Root",
        "skip  crl",
        "let in as name:acme inc",
        "allow[0] acme inc (cn=acme)",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert_eq!(json["admitted"], true);
    assert_eq!(json["identity"], "name:acme inc");
    assert_eq!(json["reason"], "ok");
    assert_eq!(json["alert"], Value::Null);
    assert!(json["steps"].as_array().unwrap().iter().any(|step| step["step"] == "allow" && step["outcome"] == "pass"));
}

#[test]
fn a_refusal_tells_its_reason_number_alert_and_what_to_do() {
    let world = World::new(&site("s", "", "allow = [{ cn = \"somebody else\" }]"));
    let (text, json) = world.report(None);
    assert!(text.contains("fail  allow") && text.contains("refused: policy_denied (X509_V 50, alert 49)"), "{text}");
    assert_eq!((&json["reason"], &json["verify"], &json["alert"]), (&"policy_denied".into(), &50.into(), &49.into()));
    assert!(json["reason_detail"].as_str().unwrap().contains("add one for this client"));
    assert_eq!(json["cert"]["subject"], "CN=acme");
}

#[test]
fn the_name_chooses_the_site_as_in_a_run() {
    let sites = site("exact", "names = [\"api.bank.example\"]", "allow = [{ cn = \"acme\" }]")
        + &site("wild", "names = [\"*.bank.example\"]", "allow = [{ cn = \"x\" }]");
    let world = World::new(&sites);
    let site_of = |sni| world.report(sni).1["site"].clone();
    assert_eq!(site_of(Some("API.bank.example.")), "exact");
    assert_eq!(site_of(Some("other.bank.example")), "wild");
    for (sni, part) in [(Some("a.b.bank.example"), "answers to"), (None, "gives no name")] {
        let (text, json) = world.report(sni);
        assert_eq!((&json["site"], &json["reason"]), (&Value::Null, &"sni_unknown".into()));
        assert!(text.contains(part) && json["alert"] == 112, "{text}");
    }
    let world = World::new(&(sites + &site("rest", "", "allow = [{ cn = \"x\" }]")));
    assert_eq!(world.report(Some("a.b.bank.example")).1["site"], "rest");
    assert_eq!(world.report(None).1["site"], "rest");
}

#[test]
fn a_listeners_only_site_is_taken_without_a_name_and_that_is_said() {
    let world = World::new(&site("s", "names = [\"api.bank.example\"]", ""));
    assert!(world.report(None).0.contains("note: without --sni"));
    assert!(!world.report(Some("api.bank.example")).0.contains("note:"));
}

#[test]
fn request_mode_lets_in_and_says_what_verification_would_have_said() {
    let world = World::new(&site("s", "", "auth = \"request\""));
    std::fs::write(world.path("client.pem"), pem(&[&Ca::root("Stranger").client("acme")])).unwrap();
    let (text, json) = world.report(None);
    assert!(text.contains("although verification says unknown_issuer"), "{text}");
    assert_eq!((&json["admitted"], &json["reason"]), (&true.into(), &"unknown_issuer".into()));
    assert!(json["identity"].as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn files_and_arguments_at_fault_have_their_exit_codes() {
    let world = World::new(&site("s", "", ""));
    let code = |change: &dyn Fn(&mut ExplainArgs)| {
        let mut args = world.args();
        change(&mut args);
        explain(args)
    };
    assert_eq!(code(&|_| {}), exit::OK);
    assert_eq!(code(&|args| args.chain = world.path("none.pem")), exit::CONFIG);
    assert_eq!(code(&|args| args.chain = world.path("c.toml")), exit::CONFIG);
    assert_eq!(code(&|args| args.config = world.path("none.toml")), exit::CONFIG);
    assert_eq!(code(&|args| args.listener = Some("other".into())), exit::USAGE);
    std::fs::remove_file(world.path("ca.pem")).unwrap();
    assert_eq!(code(&|_| {}), exit::CONFIG);
    assert!(parse_moment("yesterday").is_err() && parse_moment("1969-01-01T00:00:00Z").is_err());
    assert_eq!(parse_moment("2027-01-15T08:00:00Z"), Ok(at(NOW)));
    assert_eq!(parse_moment("2027-01-15T09:00:00+01:00"), Ok(at(NOW)));
}
