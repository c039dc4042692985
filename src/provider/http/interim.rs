//! A bound on interim replies: a server may send as many `1xx` as it likes before the answer
//! (RFC 9110, 15.2), and an HTTP client reads them all, for as long as it has time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// How many interim replies a request may get. Servers send one or two.
pub(crate) const MAX_INTERIM: usize = 20;

/// Counts the interim replies to one request.
#[derive(Debug, Default)]
pub(crate) struct Interim(Arc<Notify>);

impl Interim {
    /// Counts those to this request from now on.
    pub(crate) fn of<B>(request: &mut http::Request<B>) -> Self {
        let this = Self::default();
        let (too_many, seen) = (Arc::clone(&this.0), AtomicUsize::new(0));
        hyper::ext::on_informational(request, move |_| {
            if seen.fetch_add(1, Ordering::Relaxed) == MAX_INTERIM {
                too_many.notify_one();
            }
        });
        this
    }

    /// Waits until there were too many: then the request is given up, and its connection with it.
    pub(crate) async fn too_many(&self) {
        self.0.notified().await;
    }
}
