//! A tracker in trouble never holds up or fails an evaluation. A real MLflow server is tried by `.ci/mlflow`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::workplace::{Workplace, run};

/// A server on loopback that gives every request the same answer, or none. Returns its address.
pub(crate) fn server(status: Option<&'static str>, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream, status, body));
        }
    });
    address
}

fn serve(mut stream: TcpStream, status: Option<&str>, body: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut length = 0;
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
            let header = line.to_ascii_lowercase();
            length = header.strip_prefix("content-length:").map_or(length, |value| value.trim().parse().unwrap());
            line.clear();
        }
        if line.is_empty() || reader.by_ref().take(length).read_to_end(&mut Vec::new()).is_err() {
            return;
        }
        let Some(status) = status else { return thread::sleep(Duration::from_secs(60)) };
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nContent-Type: application/json\r\n\r\n{body}"
        );
    }
}

const EVALUATE: [&str; 4] = ["evaluate", "--dataset", "micro", "--samples"];

#[test]
fn an_evaluation_waits_for_no_tracker() {
    let place = Workplace::new();
    let evaluate = [&EVALUATE[..], &["canonical"]].concat();
    run(place.passk(&evaluate).env("MLFLOW_TRACKING_URI", "")).with_code(0).saying(&["kept here alone"]);
    // The best of three: the machine has other things to do.
    let timed = |address: &str, more: &[&str]| {
        let once = |_| {
            let begun = Instant::now();
            let command = &mut place.passk(&[&evaluate[..], more].concat());
            let ran = run(command.env("MLFLOW_TRACKING_URI", address)).with_code(0);
            (begun.elapsed(), ran)
        };
        (0..3).map(once).min_by_key(|(took, _)| *took).unwrap()
    };
    let (alone, _) = timed("http://127.0.0.1:9", &["--no-mlflow"]);
    for address in [server(None, ""), server(Some("500 Internal Server Error"), "{}"), "http://127.0.0.1:9".into()] {
        let (with, ran) = timed(&address, &[]);
        drop(ran.saying(&["mlflow    not ", "1 of 1 runs wait here: `passk sync` sends them"]));
        assert!(with < alone + Duration::from_secs(1), "{address}: {with:?}, {alone:?} without");
    }
    // A filtered run is no run to be told of.
    let place = Workplace::new();
    let one = [&evaluate[..], &["micro/1"]].concat();
    let ran = run(place.passk(&one).env("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")).with_code(0);
    assert!(!ran.stderr.contains("mlflow") && !place.run_folder().join("mlflow.json").exists(), "{}", ran.stderr);
}

#[test]
fn a_sync_that_cannot_be_says_why() {
    let place = Workplace::new();
    let sync = |address: &str, code: i32, words: &[&str]| {
        let mut command = place.passk(&["sync"]);
        command.env("MLFLOW_TRACKING_URI", address).env("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0");
        run(&mut command).with_code(code).saying(words);
    };
    sync("", 2, &["MLFLOW_TRACKING_URI"]);
    sync("http://127.0.0.1:9", 0, &["0 sent"]);
    run(&mut place.passk(&[&EVALUATE[..], &["canonical"]].concat())).with_code(0);
    sync("sqlite:///mlflow.db", 2, &["`sqlite:///mlflow.db`", "mlflow server --backend-store-uri"]);
    sync("http://127.0.0.1:9", 2, &["http://127.0.0.1:9 cannot be used", "refused"]);
    sync("http://me:secret@127.0.0.1:9", 2, &["http://127.0.0.1:9 cannot be used"]);
    sync(
        &server(Some("401 Unauthorized"), "who are you"),
        2,
        &["refuses these credentials (401)", "MLFLOW_TRACKING_PASSWORD"],
    );
    sync(&server(Some("200 OK"), "<html>a shop</html>"), 2, &["not as an MLflow server does"]);
    sync(&server(Some("503 Service Unavailable"), "{}"), 2, &["answers 503"]);
    let deleted = r#"{"experiment": {"experiment_id": "7", "lifecycle_stage": "deleted"}}"#;
    sync(
        &server(Some("200 OK"), deleted),
        2,
        &["experiment `weighted-mtp`", "is deleted", "restore --experiment-id 7"],
    );
}
