//! The admin port: metrics, health and readiness over HTTP/1.1, read-only.

use core::convert::Infallible;
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::{NodeView, metrics_text};

/// Connections served at once; more wait in the kernel.
const CONNECTIONS_MAX: usize = 64;
/// How long a peer may take to send the head of a request, and how long a connection may last.
const HEAD_TIME: Duration = Duration::from_secs(5);
const CONNECTION_TIME: Duration = Duration::from_secs(300);
/// How long nothing is accepted after the kernel refused.
const REFUSED_TIME: Duration = Duration::from_millis(100);

/// Serves until the runtime ends.
pub(super) async fn serve(listener: TcpListener, view: Arc<NodeView>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(REFUSED_TIME).await;
            continue;
        };
        let view = view.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(&request, &view);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            // A peer that goes away or is too slow is its own concern.
            let _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
            drop(place);
        });
    }
}

fn answer<B>(request: &Request<B>, view: &NodeView) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n".into());
    }
    match request.uri().path() {
        "/metrics" => {
            let mut response = text(StatusCode::OK, metrics_text::render(view));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        "/health" => verdict(view.ills()),
        "/ready" => {
            let mut ills = view.ills();
            if !view.is_serving() {
                ills.push("the node is starting or stopping".to_owned());
            }
            verdict(ills)
        }
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /health and /ready\n".into()),
    }
}

fn verdict(ills: Vec<String>) -> Response<Full<Bytes>> {
    if ills.is_empty() {
        text(StatusCode::OK, "ok\n".into())
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, ills.join("\n") + "\n")
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::NodeState;
    use crate::meters::ShardMeters;

    fn get(path: &str, view: &NodeView) -> StatusCode {
        answer(&Request::builder().uri(path).body(()).unwrap(), view).status()
    }

    #[test]
    fn a_node_is_ready_only_while_it_serves_and_is_healthy() {
        let view = NodeView::new(vec![Arc::new(ShardMeters::default())]);
        assert_eq!(get("/health", &view), StatusCode::OK);
        assert_eq!(get("/ready", &view), StatusCode::SERVICE_UNAVAILABLE);
        view.set_state(NodeState::Serving);
        assert_eq!(get("/ready", &view), StatusCode::OK);
        view.shards()[0].set_fenced();
        assert_eq!(get("/ready", &view), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get("/health", &view), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get("/metrics", &view), StatusCode::OK);
        assert_eq!(get("/../etc/passwd", &view), StatusCode::NOT_FOUND);
    }

    #[test]
    fn nothing_can_be_changed_here() {
        let view = NodeView::new(Vec::new());
        let request = Request::builder().method(Method::POST).uri("/metrics").body(()).unwrap();
        assert_eq!(answer(&request, &view).status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
