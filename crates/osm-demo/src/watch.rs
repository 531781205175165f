//! Asks several servers over and over, and says when what one of them answers changes.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{Connection, Url};
use crate::say;

/// Watches until killed. Each change is one line: which of the URLs, counted from 0, and the status; 0 when there was no
/// answer.
pub(crate) async fn run(urls: &[Url], pause: Duration) -> Result<()> {
    ensure!(!urls.is_empty(), "there is nothing to watch: name a URL");
    let mut watches: JoinSet<Infallible> =
        urls.iter().cloned().enumerate().map(|(index, url)| async move { watch(index, &url, pause).await }).collect();
    match watches.join_next().await {
        Some(Ok(never)) => match never {},
        Some(Err(error)) => Err(error.into()),
        None => Ok(()),
    }
}

/// Over one connection for as long as it lasts, so that what is seen is what the proxy does to connections that are open.
async fn watch(index: usize, url: &Url, pause: Duration) -> Infallible {
    let mut last = None;
    let mut tell = |status: u16| {
        if last.replace(status) != Some(status) {
            say(&format!("{index} {status}"));
        }
    };
    loop {
        let mut connection = Connection::open(url).await.ok();
        while let Some(open) = &mut connection {
            let Ok((status, _)) = open.get(url).await else { break };
            tell(status.as_u16());
            sleep(pause).await;
        }
        if connection.is_none() {
            tell(0);
        }
        sleep(pause).await;
    }
}
