//! One request to a tracking server: authentication, patience, and errors that say what to do.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::Duration;

use reqwest::blocking::{Body, Client, Response};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use super::TrackError;
use crate::http;

/// How long a pause between two attempts may grow.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Who we are to the server.
#[derive(Clone)]
pub(super) enum Credentials {
    Nobody,
    Password { username: String, password: String },
    Token(String),
}

/// What a request carries.
enum Payload<'a> {
    Nothing,
    Json(&'a Value),
    File(&'a Path),
}

/// A server, reached by REST.
pub(super) struct Rest {
    client: Client,
    base: Url,
    credentials: Credentials,
    retries: u32,
}

/// Why one attempt failed.
enum Failure {
    /// Another attempt may go better; what the server said about when.
    Passing(TrackError, Option<Duration>),
    Lasting(TrackError),
}

impl Rest {
    pub(super) fn new(
        base: Url,
        credentials: Credentials,
        timeout: Duration,
        retries: u32,
    ) -> Result<Rest, TrackError> {
        let client = http::client(timeout)
            .map_err(|error| TrackError::Unreachable { server: shown(&base), cause: http::causes(error) })?;
        Ok(Rest { client, base, credentials, retries })
    }

    /// The server's address, without a password.
    pub(super) fn server(&self) -> String {
        shown(&self.base)
    }

    /// Sends a request whose repetition does no harm, again and again while the server is only busy or away.
    fn call(&self, method: Method, url: Url, payload: &Payload) -> Result<Value, TrackError> {
        self.retry(|| self.attempt(&method, &url, payload).and_then(|response| self.json(response)))
    }

    /// GETs `/api/2.0/mlflow/…`.
    pub(super) fn get(&self, what: &str, query: &[(&str, &str)]) -> Result<Value, TrackError> {
        let mut url = self.url(&api(what));
        url.query_pairs_mut().extend_pairs(query);
        self.call(Method::GET, url, &Payload::Nothing)
    }

    /// POSTs JSON to `/api/2.0/mlflow/…`.
    pub(super) fn post(&self, what: &str, body: &Value) -> Result<Value, TrackError> {
        self.call(Method::POST, self.url(&api(what)), &Payload::Json(body))
    }

    /// PUTs a file into the server's artifact store.
    pub(super) fn put(&self, path: &str, file: &Path) -> Result<(), TrackError> {
        self.call(Method::PUT, self.url(&artifact(path)), &Payload::File(file)).map(drop)
    }

    /// Looks for a thing and makes it where it is not there. Each attempt looks first: one that failed may have made
    /// it all the same.
    pub(super) fn find_or_make(
        &self,
        find: (&str, &Value),
        found: impl Fn(&Value) -> Option<Value>,
        make: (&str, &Value),
    ) -> Result<Value, TrackError> {
        let post = |(what, body): (&str, &Value)| {
            let response = self.attempt(&Method::POST, &self.url(&api(what)), &Payload::Json(body))?;
            self.json(response)
        };
        self.retry(|| match found(&post(find)?) {
            Some(thing) => Ok(thing),
            None => post(make),
        })
    }

    /// The bytes of a file in the server's artifact store.
    pub(super) fn download(&self, path: &str) -> Result<Vec<u8>, TrackError> {
        let url = self.url(&artifact(path));
        self.retry(|| {
            let response = self.attempt(&Method::GET, &url, &Payload::Nothing)?;
            response.bytes().map(|bytes| bytes.to_vec()).map_err(|error| self.unreachable(error))
        })
    }

    fn retry<T>(&self, attempt: impl Fn() -> Result<T, Failure>) -> Result<T, TrackError> {
        let mut pause = Duration::from_millis(250);
        for _ in 0..self.retries {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(_, asked)) => thread::sleep(asked.unwrap_or(pause).min(LONGEST_PAUSE)),
            }
            pause *= 2;
        }
        attempt().map_err(|failure| match failure {
            Failure::Passing(error, _) | Failure::Lasting(error) => error,
        })
    }

    /// `path` under the server's address, which may have a path of its own.
    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    fn attempt(&self, method: &Method, url: &Url, payload: &Payload) -> Result<Response, Failure> {
        let lasting = |cause: String| Failure::Lasting(TrackError::Unreachable { server: self.server(), cause });
        let mut request = self.client.request(method.clone(), url.clone());
        request = match &self.credentials {
            Credentials::Nobody => request,
            Credentials::Password { username, password } => request.basic_auth(username, Some(password)),
            Credentials::Token(token) => request.bearer_auth(token),
        };
        request = match payload {
            Payload::Nothing => request,
            Payload::Json(value) => request.header("content-type", "application/json").body(value.to_string()),
            Payload::File(path) => {
                let open = || File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
                let (size, file) = open().map_err(|error| lasting(format!("`{}`: {error}", path.display())))?;
                request.body(Body::sized(file, size))
            }
        };
        let response = request.send().map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let error = self.refusal(status, &response.text().unwrap_or_default());
        let passing =
            status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        Err(match passing {
            true => Failure::Passing(error, wait.map(Duration::from_secs)),
            false => Failure::Lasting(error),
        })
    }

    fn json(&self, response: Response) -> Result<Value, Failure> {
        let bytes = response.bytes().map_err(|error| self.unreachable(error))?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|_| {
            let cause = "it answers, but not as an MLflow server does".to_owned();
            Failure::Lasting(TrackError::Unreachable { server: self.server(), cause })
        })
    }

    fn unreachable(&self, error: reqwest::Error) -> Failure {
        let cause = match error.is_timeout() {
            true => "no answer in time (MLFLOW_HTTP_REQUEST_TIMEOUT)".to_owned(),
            false => http::causes(error),
        };
        Failure::Passing(TrackError::Unreachable { server: self.server(), cause }, None)
    }

    fn refusal(&self, status: StatusCode, text: &str) -> TrackError {
        let server = self.server();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return TrackError::Unauthorized { server, status: status.as_u16() };
        }
        let json: Value = serde_json::from_str(text).unwrap_or_default();
        let code = json["error_code"].as_str().unwrap_or_default().to_owned();
        let said = json["message"].as_str().unwrap_or_default();
        let said: String = said.lines().next().unwrap_or_default().chars().take(300).collect();
        TrackError::Refused { server, status: status.as_u16(), code, said }
    }
}

fn api(what: &str) -> String {
    format!("/api/2.0/mlflow/{what}")
}

fn artifact(path: &str) -> String {
    format!("/api/2.0/mlflow-artifacts/artifacts/{path}")
}

/// An address without user name and password.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.as_str().trim_end_matches('/').to_owned()
}
