//! Which path gets which answer.

use super::health;
use crate::control::exposition;
use crate::control::state::State;
use crate::control::status::Status;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use std::time::{Instant, SystemTime};

/// Which pages an address has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// All.
    Full,
    /// `/healthz` and `/readyz`.
    Probe,
}

impl Surface {
    fn paths(self) -> &'static [&'static str] {
        const ALL: &[&str] = &["/healthz", "/readyz", "/metrics", "/status"];
        match self {
            Surface::Full => ALL,
            Surface::Probe => &ALL[..2],
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

/// The answer to one request, whose body is not looked at.
pub async fn respond<B>(surface: Surface, state: &State, request: &Request<B>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let path = request.uri().path();
    if !surface.paths().contains(&path) {
        let list = surface.paths().join("\n");
        return page(StatusCode::NOT_FOUND, TEXT, format!("no such page; there are:\n{list}\n"));
    }
    match path {
        "/healthz" => match health::still_worker(state).await {
            None => page(StatusCode::OK, TEXT, "ok\n".into()),
            Some(worker) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("worker {worker} does not turn\n")),
        },
        "/readyz" => match state.unready() {
            None => page(StatusCode::OK, TEXT, "ready\n".into()),
            Some(why) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
        },
        "/metrics" => {
            state.ask_for_clients().await;
            let text = exposition::render(state, Instant::now(), SystemTime::now());
            page(StatusCode::OK, exposition::CONTENT_TYPE, text)
        }
        _ => status(state, wants_html(request)).await,
    }
}

/// What a browser shows of us needs no script, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

/// JSON, or a page for whoever asks for one.
async fn status(state: &State, html: bool) -> Response<Full<Bytes>> {
    state.ask_for_clients().await;
    let generation = state.generation();
    let status = Status::of(state, &generation, Instant::now(), SystemTime::now());
    let mut response = match html {
        true => page(StatusCode::OK, "text/html; charset=utf-8", status.to_html()),
        false => page(StatusCode::OK, "application/json", status.to_json()),
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// Browsers name the type; programs that take anything get JSON.
fn wants_html<B>(request: &Request<B>) -> bool {
    let accepted = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = accepted.flat_map(|value| value.split(',')).map(|one| one.split(';').next().unwrap_or(one).trim());
    types.any(|one| one.eq_ignore_ascii_case("text/html"))
}

fn page(status: StatusCode, media_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
