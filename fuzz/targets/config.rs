//! Any text is answered with a configuration that holds together, or with faults that can be printed on a line each.
#![no_main]

use countersign::config::{Config, Examined, FaultKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Examined { config, found } = Examined::of_text(text, None);
    for fault in &found {
        let printed = fault.to_string();
        assert!(!printed.contains(['\n', '\r', '\x1b', '\0']), "{printed:?}");
        assert!(!fault.help.is_empty() || fault.kind == FaultKind::Warning, "no help: {printed:?}");
    }
    let faults = found.iter().filter(|fault| fault.kind != FaultKind::Warning).count();
    assert_eq!(config.is_none(), faults > 0, "{found:?}");
    let answer = Config::from_text(text, None);
    assert_eq!(answer.is_ok(), config.is_some());
    let Some(config) = config else { return };
    check(&config);
    // A comment changes the digest of the file and nothing else.
    let longer = Config::from_text(&format!("{text}\n# comment"), None).expect("still good");
    assert_ne!(longer.digest, config.digest);
    assert_eq!((&longer.listeners, &longer.sites), (&config.listeners, &config.sites));
    assert_eq!((&longer.backends, &longer.tickets), (&config.backends, &config.tickets));
});

fn check(config: &Config) {
    assert!(!config.listeners.is_empty() && !config.sites.is_empty());
    for listener in &config.listeners {
        assert!(!listener.addresses.is_empty());
        assert!(listener.limits.client_chain_bytes <= 64 << 10);
    }
    for site in &config.sites {
        assert!(site.listener < config.listeners.len() && site.backend < config.backends.len());
        assert!(!site.certificates.is_empty());
        assert!(site.client.max_depth <= 6);
        let rules = site.client.authorities.iter().flat_map(|a| a.allow.iter().flatten().chain(&a.deny));
        rules.for_each(|rule| assert!(!rule.conditions.is_empty(), "a rule that matches everybody"));
    }
    config.backends.iter().for_each(|backend| assert!(!backend.servers.is_empty()));
}
