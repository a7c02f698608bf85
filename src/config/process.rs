//! The tables that are about the process: `[runtime]`, `[admin]`, `[log]`, `[audit]`, `[tickets]`.

use super::model::*;
use super::report::Problem;
use super::walk::{Table, Value, Zero};
use super::{forms, keys, limits, net};
use std::net::SocketAddr;
use std::time::Duration;

pub(super) fn read_runtime(root: &Table<'_>) -> Runtime {
    let mut runtime = Runtime::default();
    let Some(table) = root.get("runtime").and_then(|value| value.table(keys::RUNTIME)) else { return runtime };
    table.set(&mut runtime.cpus, "cpus", |value| {
        value.parse("\"auto\" or a list in quotes such as \"0,2-5\"", |text| match text {
            "auto" => Ok(Cpus::Auto),
            _ => forms::cpus(text).map(Cpus::List),
        })
    });
    table.set(&mut runtime.pin, "pin", read_pin);
    table.set(&mut runtime.engine, "engine", |value| {
        value.word(&[("auto", Engine::Auto), ("io_uring", Engine::IoUring), ("epoll", Engine::Epoll)])
    });
    table.set(&mut runtime.steering, "steering", |value| {
        value.word(&[("hash", Steering::Hash), ("cpu", Steering::Cpu)])
    });
    table.set(&mut runtime.ktls, "ktls", |value| {
        value.word(&[("auto", Ktls::Auto), ("off", Ktls::Off), ("require", Ktls::Require)])
    });
    table.set(&mut runtime.drain_delay, "drain_delay", |value| value.duration(Zero::Allowed));
    table.set(&mut runtime.drain_timeout, "drain_timeout", |value| value.duration(Zero::Allowed));
    table.set(&mut runtime.state_dir, "state_dir", |value| value.path().map(Some));
    table.set(&mut runtime.watch, "watch", read_watch);
    runtime
}

fn read_watch(value: Value<'_>) -> Option<Duration> {
    let every = value.duration(Zero::Allowed)?;
    if !every.is_zero() && every < limits::WATCH_MIN {
        value.place.fault("is too often", "write at least \"100ms\", such as \"5s\"");
        return None;
    }
    Some(every)
}

fn read_pin(value: Value<'_>) -> Option<Pin> {
    if value.is_boolean() {
        return value.boolean().map(|pin| if pin { Pin::Always } else { Pin::Never });
    }
    value.parse("true, false or \"auto\"", |text| match text {
        "auto" => Ok(Pin::Auto),
        _ => Err(format!("{text:?} is not known").into()),
    })
}

pub(super) fn read_admin(root: &Table<'_>) -> Option<Admin> {
    let table = root.get("admin")?.table(keys::ADMIN)?;
    let mut admin = Admin::default();
    table.set(&mut admin.allow_remote, "allow_remote", |value| value.boolean());
    table.set(&mut admin.http, "http", read_address);
    table.set(&mut admin.probe, "probe", read_address);
    table.set(&mut admin.socket, "socket", |value| {
        value.parse("the path of a socket in quotes", |text| match text {
            "" => Ok(None),
            _ => net::unix_path(text, value.place.base()).map(Some),
        })
    });
    if let Some(http) = admin.http.filter(|http| !admin.allow_remote && !net::is_loopback(http.ip())) {
        table.place_of("http").fault(
            format!("{http} can be reached from other hosts, and the interface asks nobody who they are"),
            "write 127.0.0.1, use `probe` for a kubelet, or write allow_remote = true beside it",
        );
    }
    Some(admin)
}

/// An address, or the empty string for none.
fn read_address(value: Value<'_>) -> Option<Option<SocketAddr>> {
    value.parse("IP:port in quotes, such as \"127.0.0.1:9180\", or \"\" for none", |text| match text {
        "" => Ok(None),
        _ => net::own(text).map(Some),
    })
}

pub(super) fn read_log(root: &Table<'_>) -> Log {
    let mut log = Log::default();
    let Some(table) = root.get("log").and_then(|value| value.table(keys::LOG)) else { return log };
    const LEVELS: [(&str, &str); 5] =
        [("error", "error"), ("warn", "warn"), ("info", "info"), ("debug", "debug"), ("trace", "trace")];
    table.set(&mut log.level, "level", |value| value.word(&LEVELS).map(str::to_owned));
    table.set(&mut log.format, "format", |value| value.word(&[("text", LogFormat::Text), ("json", LogFormat::Json)]));
    log
}

pub(super) fn read_audit(root: &Table<'_>) -> Option<Audit> {
    let table = root.get("audit")?.table(keys::AUDIT)?;
    let mut audit = Audit::default();
    table.set(&mut audit.target, "path", |value| {
        value.parse("the path of a file, \"-\" for stdout, or \"journald\"", |text| match text {
            "" => Err(Problem::new("is empty", "leave the table [audit] out for no audit")),
            "-" => Ok(AuditTarget::Stdout),
            "journald" => Ok(AuditTarget::Journald),
            _ => Ok(AuditTarget::File(value.place.resolve(text))),
        })
    });
    table.set(&mut audit.on_full, "on_full", |value| value.word(&[("drop", OnFull::Drop), ("refuse", OnFull::Refuse)]));
    Some(audit)
}

pub(super) fn read_tickets(root: &Table<'_>) -> Tickets {
    let mut tickets = Tickets::default();
    let Some(table) = root.get("tickets").and_then(|value| value.table(keys::TICKETS)) else { return tickets };
    table.set(&mut tickets.enabled, "enabled", |value| value.boolean());
    table.set(&mut tickets.rotate, "rotate", |value| value.duration(Zero::Refused));
    table.set(&mut tickets.keep, "keep", |value| value.number(0, limits::TICKET_KEYS_KEPT_MAX));
    table.set(&mut tickets.lifetime, "lifetime", |value| {
        let lifetime = value.duration(Zero::Refused)?;
        if lifetime > limits::TICKET_LIFETIME_MAX {
            value.place.fault("is longer than TLS allows a ticket to live", "write at most \"7d\"");
            return None;
        }
        Some(lifetime)
    });
    table.set(&mut tickets.max_auth_age, "max_auth_age", |value| value.duration(Zero::Refused));
    table.set(&mut tickets.secret_files, "secret_files", |value| value.paths());
    if tickets.lifetime > tickets.rotate * (tickets.keep + 1) {
        table.place_of("lifetime").warn(
            "tickets outlive their keys: later ones are declined, and the client does a full handshake",
            "write a `lifetime` of at most `rotate` times (`keep` + 1)",
        );
    }
    tickets
}
