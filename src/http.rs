//! The one HTTP client: reqwest with ring's TLS.

use std::time::Duration;

use reqwest::blocking::Client;

/// A client whose requests end after `timeout`, whatever the other side does.
pub(crate) fn client(timeout: Duration) -> Result<Client, reqwest::Error> {
    // reqwest is built without a TLS provider of its own choice; a second call finds this one already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().timeout(timeout).connect_timeout(timeout.min(Duration::from_secs(10))).build()
}

/// An error with all its causes, without the address: that may hold a password.
pub(crate) fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut causes = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        causes = format!("{causes}: {cause}");
        source = cause.source();
    }
    causes
}
