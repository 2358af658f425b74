//! Fetching, from a real server on loopback that misbehaves in every way that a network does.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use passk::dataset::{DatasetError, Fetched, Fetcher, Processed, Published, Source, folder};
use tempfile::TempDir;

use crate::workplace::{Workplace, run};

/// 300 rows; what was published.
fn body() -> Vec<u8> {
    (0..300).flat_map(|n| format!("{{\"row\": {n}}}\n").into_bytes()).collect()
}

const SOURCE: Source = Source {
    name: "tried",
    files: &[Published {
        url: None,
        file: "rows.jsonl",
        sha256: Some("SHA"),
        unreadable: None,
        process: |bytes, path| Processed::from_rows(bytes, path, |row| Ok(row.to_owned())),
    }],
};

/// What the server does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// All of it, or the rest that was asked for.
    Serves,
    /// Says nothing.
    Stalls,
    /// Sends half of what it announced, and says nothing more.
    StallsHalfWay,
    /// Sends half of what it announced, and hangs up.
    Truncates,
    /// Sends all of it, whatever part was asked for.
    IgnoresRanges,
    /// Sends a part that was not asked for.
    SendsAnotherPart,
    Redirects,
    RedirectsForEver,
    ServesOther,
    NotFound,
    Unavailable,
    HangsUp,
}

/// A server that does one thing after the other, and notes what it was asked.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(script: &[Does]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, noted) = (script.to_vec(), Arc::clone(&asked));
        thread::spawn(move || {
            for (at, stream) in listener.incoming().enumerate() {
                let does = script.get(at).or(script.last()).copied().unwrap();
                let noted = Arc::clone(&noted);
                // One that stalls keeps nobody from the next.
                thread::spawn(move || drop(serve(stream.unwrap(), does, &noted)));
            }
        });
        Server { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, does: Does, noted: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut range = None;
    let mut line = String::new();
    let mut first = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while reader.read_line(&mut line)? > 2 {
        if first.is_empty() {
            first = line.split(' ').nth(1).unwrap_or_default().to_owned();
        }
        if let Some(bytes) = line.to_lowercase().strip_prefix("range: bytes=") {
            range = bytes.trim().trim_end_matches('-').parse::<usize>().ok();
        }
        line.clear();
    }
    noted.lock().unwrap().push(range.map_or(first.clone(), |range| format!("{first} from {range}")));
    let all = body();
    let from = range.filter(|_| does != Does::IgnoresRanges).unwrap_or(0).min(all.len());
    let rest = &all[from..];
    let mut head = |status: &str, length: usize, more: &str| {
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n")
    };
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let part = match from {
        0 => String::new(),
        from => format!("Content-Range: bytes {from}-{}/{}\r\n", all.len() - 1, all.len()),
    };
    match does {
        Does::Serves | Does::IgnoresRanges => {
            head(status, rest.len(), &part)?;
            stream.write_all(rest)
        }
        Does::Stalls => {
            thread::sleep(Duration::from_secs(20));
            Ok(())
        }
        Does::StallsHalfWay | Does::Truncates => {
            head(status, rest.len(), &part)?;
            stream.write_all(&rest[..rest.len() / 2])?;
            stream.flush()?;
            if does == Does::StallsHalfWay {
                thread::sleep(Duration::from_secs(20));
            }
            Ok(())
        }
        Does::SendsAnotherPart => {
            head("206 Partial Content", 10, &format!("Content-Range: bytes 0-9/{}\r\n", all.len()))?;
            stream.write_all(&all[..10])
        }
        Does::Redirects => head("302 Found", 0, "Location: /moved/rows.jsonl\r\n"),
        Does::RedirectsForEver => head("302 Found", 0, "Location: /rows.jsonl\r\n"),
        Does::ServesOther => {
            head("200 OK", 14, "")?;
            stream.write_all(b"<html>no</html>")
        }
        Does::NotFound => head("404 Not Found", 0, ""),
        Does::Unavailable => head("503 Service Unavailable", 0, ""),
        Does::HangsUp => Ok(()),
    }
}

/// Fetches from a server with this script.
fn fetch(script: &[Does], storage: &Path) -> (Result<Fetched, DatasetError>, Vec<String>) {
    let server = Server::new(script);
    let fetcher = Fetcher {
        mirror: Some(server.address.clone()),
        patience: Duration::from_millis(400),
        pauses: vec![Duration::from_millis(10); 3],
    };
    (fetcher.fetch(&source(), storage, &mut |_| ()), server.asked())
}

/// The source with the digest of the body.
fn source() -> Source {
    use std::sync::OnceLock;
    static FILES: OnceLock<[Published; 1]> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let digest: String = sha2_of(&body());
        [Published { sha256: Some(Box::leak(digest.into_boxed_str())), ..SOURCE.files[0] }]
    });
    Source { name: SOURCE.name, files }
}

fn sha2_of(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What lies in the dataset's folder.
fn left(storage: &Path) -> Vec<String> {
    let mut left: Vec<String> = walk(&folder(storage, SOURCE.name));
    left.sort();
    left
}

fn walk(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let each = |path: std::path::PathBuf| match path.is_dir() {
        true => walk(&path),
        false => vec![path.file_name().unwrap().to_string_lossy().into_owned()],
    };
    entries.flat_map(|entry| each(entry.unwrap().path())).collect()
}

#[test]
fn what_passes_is_tried_again_and_goes_on_where_it_was() {
    use Does::*;
    let half = body().len() / 2;
    let from = |bytes: usize| format!("/rows.jsonl from {bytes}");
    let whole = || "/rows.jsonl".to_owned();
    let cases: [(&[Does], Vec<String>); 9] = [
        (&[Serves], vec![whole()]),
        (&[Unavailable, Serves], vec![whole(), whole()]),
        (&[HangsUp, Unavailable, HangsUp, Serves], vec![whole(); 4]),
        (&[Stalls, Serves], vec![whole(), whole()]),
        (&[Truncates, Serves], vec![whole(), from(half)]),
        (&[StallsHalfWay, Truncates, Serves], vec![whole(), from(half), from(half + (body().len() - half) / 2)]),
        (&[Truncates, IgnoresRanges], vec![whole(), from(half)]),
        (&[Truncates, SendsAnotherPart, Serves], vec![whole(), from(half), whole()]),
        (&[Redirects, Serves], vec![whole(), "/moved/rows.jsonl".to_owned()]),
    ];
    for (script, expected) in cases {
        let place = TempDir::new().unwrap();
        let (fetched, asked) = fetch(script, place.path());
        let fetched = fetched.unwrap_or_else(|error| panic!("{script:?}: {error}"));
        assert_eq!((fetched.rows, fetched.pinned), (300, true), "{script:?}");
        assert_eq!(fs::read(fetched.path).unwrap(), body(), "{script:?}");
        assert_eq!(asked, expected, "{script:?}");
        assert_eq!(left(place.path()), ["test.jsonl"], "{script:?}");
    }
}

#[test]
fn what_lasts_is_said_and_nothing_is_written() {
    use Does::*;
    #[rustfmt::skip]
    let cases: [(&[Does], usize, &[&str]); 6] = [
        (&[NotFound], 1, &["404 Not Found", "PASSK_MIRROR", "`rows.jsonl`"]),
        (&[Unavailable], 4, &["503 Service Unavailable", "tried 4 times"]),
        (&[Stalls], 4, &["tried 4 times"]),
        (&[HangsUp], 4, &["tried 4 times"]),
        (&[ServesOther], 1, &["sha256", "not the pinned", "nothing was written"]),
        (&[RedirectsForEver], 44, &["redirect"]),
    ];
    for (script, requests, words) in cases {
        let place = TempDir::new().unwrap();
        let (fetched, asked) = fetch(script, place.path());
        let error = fetched.unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{script:?}: `{error}` lacks `{word}`");
        }
        assert!(asked.len() <= requests, "{script:?}: asked {} times", asked.len());
        assert!(!left(place.path()).contains(&"test.jsonl".to_owned()), "{script:?}");
    }
}

#[test]
fn a_second_invocation_goes_on_where_the_first_was_cut() {
    let place = TempDir::new().unwrap();
    let (fetched, _) = fetch(&[Does::Truncates, Does::HangsUp], place.path());
    assert!(fetched.is_err());
    assert_eq!(left(place.path()), ["rows.jsonl.part"]);
    let (fetched, asked) = fetch(&[Does::Serves], place.path());
    assert_eq!(fetched.unwrap().rows, 300);
    assert_eq!(asked, [format!("/rows.jsonl from {}", body().len() / 2)]);
    assert_eq!(left(place.path()), ["test.jsonl"]);
}

#[test]
fn a_wrong_part_is_not_kept_for_ever() {
    let place = TempDir::new().unwrap();
    let part = folder(place.path(), SOURCE.name).join("rows.jsonl.part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, "something else").unwrap();
    let (fetched, _) = fetch(&[Does::Serves], place.path());
    assert!(fetched.unwrap_err().to_string().contains("not the pinned"));
    let (fetched, _) = fetch(&[Does::Serves], place.path());
    assert_eq!(fetched.unwrap().rows, 300);
}

/// Folders in the publisher's place, by the command.
#[test]
fn mirrors_without_the_published_file() {
    let place = Workplace::new();
    let mirror = place.path("mirror");
    fs::create_dir(&mirror).unwrap();
    let fetch = |name: &str| {
        let mut command = place.passk(&["fetch", name]);
        run(command.env("PASSK_MIRROR", &mirror)).with_code(2)
    };
    fetch("mbpp").saying(&[
        "mirror/mbpp.jsonl",
        "No such file",
        "PASSK_MIRROR must be a folder or URL that has `mbpp.jsonl`",
    ]);
    fetch("codecontests").saying(&["`code_contests_20.jsonl`"]);
    if cfg!(not(feature = "parquet")) {
        fetch("codecontests").saying(&["built without the parquet reader", "--features parquet"]);
    }
    // Another dataset's file under the name that is looked for.
    place.write("mirror/mbpp.jsonl", r#"{"task_id": "HumanEval/0"}"#);
    fetch("mbpp").saying(&["mirror/mbpp.jsonl", "not the pinned ccf64ceae9c5", "nothing was written"]);
    place.write("mirror/HumanEval.jsonl.gz", "");
    fetch("humaneval").saying(&["HumanEval.jsonl.gz", "not the pinned b796127e635a"]);
    assert!(!place.path("storage/datasets_v2").exists());
    fetch("nothing").saying(&["unknown dataset `nothing`: there are humaneval,"]);
}
