//! URLs, names and backoff of the client.

use super::*;

fn reach(urls: &[&str]) -> Reach {
    Reach { dispatcher_url: urls.iter().map(|&url| url.to_owned()).collect(), token: None, ca: None }
}

#[test]
fn addresses_of_dispatchers() {
    for (url, says) in [
        ("127.0.0.1:8600", "not a dispatcher's address"),
        ("ftp://a", "not a dispatcher's address"),
        ("http://u:secret@a", "must not carry a password"),
    ] {
        let error = Client::new(reach(&[url])).unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains("secret"), "{url}: {error}");
    }
    assert!(Client::new(reach(&[""])).unwrap_err().to_string().contains("--dispatcher-url"));
    let client = Client::new(reach(&["http://a/base/", " http://[::1]:8600"])).unwrap();
    let request = client.request(0, Method::GET, "v1/lanes/github.com/o/n m", &[]).build().unwrap();
    assert_eq!(request.url().as_str(), "http://a/base/v1/lanes/github.com/o/n%20m");
    assert!(is_loopback(&client.urls[1]) && !is_loopback(&client.urls[0]));
}

#[test]
fn lists_are_called_by_their_commands() {
    for (said, here) in [
        ("no such build. GET /v1/builds lists those", "no such build. `fairlane queue --builds` lists those"),
        ("x; GET /v1/rules lists them", "x; `fairlane rule list` lists them"),
        ("see GET /v1/campaigns", "see `fairlane campaign list`"),
        ("GET /v1/nodes lists those that are", "`fairlane nodes` lists those that are"),
        ("secrets.git_credentials: must be a string", "--git-credentials-file: must be a string"),
        ("nothing to say", "nothing to say"),
    ] {
        assert_eq!(in_commands(said), here);
    }
}

#[test]
fn pauses_grow_to_a_cap() {
    for round in 0..40 {
        assert!(backoff(round) <= Duration::from_secs(5));
    }
    assert!(backoff(0) <= Duration::from_millis(250));
}
