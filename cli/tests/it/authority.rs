//! Dispatchers with self-signed certificates.

use fairlane_testkit::{Process, RedisServer, TempDir};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use crate::setup::{LIMIT, fairlane, run};

/// A dispatcher with a self-signed certificate, which may claim to be that of an authority. Its files are in
/// `home`.
async fn dispatcher(home: &TempDir, redis: &RedisServer, is_authority: bool) -> (Process, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    if is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    std::fs::write(home.join("tls.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(home.join("tls.key"), key.serialize_pem()).unwrap();
    let url = redis.url();
    let line = [
        "dispatcher",
        "--redis-url",
        &url,
        "--listen",
        "127.0.0.1:0",
        "--tls-cert",
        "tls.crt",
        "--tls-key",
        "tls.key",
    ];
    let process = Process::spawn("fairlane dispatcher", &mut fairlane(home, line));
    let line = process.wait_for_line("listens on ", LIMIT).await;
    let port = line.rsplit_once("listens on 127.0.0.1:").unwrap().1;
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    (process, format!("https://localhost:{port}"))
}

#[tokio::test]
async fn an_authority_of_ones_own_is_named_and_without_it_the_error_says_so() {
    let (home, redis) = (TempDir::new(), RedisServer::start_default().await);
    let (_process, url) = dispatcher(&home, &redis, false).await;
    let queue = ["queue", "--dispatcher-url", &url];
    run(fairlane(&home, queue)).await.expect(4, "Name the authority's certificate with --ca or FAIRLANE_CA.");
    run(fairlane(&home, queue.into_iter().chain(["--ca", "tls.crt"]))).await.expect(0, "");
    let mut by_environment = fairlane(&home, queue);
    by_environment.env("FAIRLANE_CA", "tls.crt");
    run(by_environment).await.expect(0, "");
    let other_name = url.replace("localhost", "127.0.0.1");
    run(fairlane(&home, ["queue", "--dispatcher-url", &other_name, "--ca", "tls.crt"]))
        .await
        .expect(4, "its certificate is for another name");
    let in_the_clear = url.replace("https", "http");
    run(fairlane(&home, ["queue", "--dispatcher-url", &in_the_clear])).await.expect(4, "http");
    run(fairlane(&home, queue.into_iter().chain(["--ca", "missing"])))
        .await
        .expect(2, "--ca: missing cannot be read");
    run(fairlane(&home, queue.into_iter().chain(["--ca", "tls.key"])))
        .await
        .expect(2, "holds no certificate");
}

#[tokio::test]
async fn a_certificate_that_says_it_is_an_authority_is_explained() {
    let (home, redis) = (TempDir::new(), RedisServer::start_default().await);
    let (_process, url) = dispatcher(&home, &redis, true).await;
    run(fairlane(&home, ["queue", "--dispatcher-url", &url, "--ca", "tls.crt"]))
        .await
        .expect(4, "Make it again with `-addext basicConstraints=critical,CA:FALSE`");
}
