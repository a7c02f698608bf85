//! Which path gets which answer.

use super::health;
use crate::control::exposition;
use crate::control::state::State;
use crate::control::status::Status;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
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
        _ => page(StatusCode::OK, "application/json", Status::of(state, &state.generation(), Instant::now()).to_json()),
    }
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
