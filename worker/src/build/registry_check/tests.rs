//! The check against a registry of the test's own.

use clap::Parser;
use fairlane_testkit::{Access, FakeRegistry, TempDir};

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: RegistryCheckArgs,
}

fn check(line: &[&str]) -> anyhow::Result<RegistryCheck> {
    Line::try_parse_from([&["worker"], line].concat())?.args.check()
}

async fn is_there(registry: &FakeRegistry, image: &str, credentials: Option<&str>) -> bool {
    let check = check(&["--registry-check", &registry.host(), "--registry-check-timeout=2s"]).unwrap();
    let image: Image = format!("{}/{image}", registry.host()).parse().unwrap();
    check.is_there(&image, credentials).await
}

#[tokio::test]
async fn an_image_that_is_there_is_found_and_one_that_is_not_is_built() {
    let registry = FakeRegistry::start(Access::Open).await;
    assert!(!is_there(&registry, "binder/o-n:3f2a", None).await);
    registry.push("binder/o-n:3f2a");
    assert!(is_there(&registry, "binder/o-n:3f2a", None).await);
    let asked = registry.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].line, "HEAD /v2/binder/o-n/manifests/3f2a");
    for kind in
        ["oci.image.index.v1", "oci.image.manifest.v1", "manifest.list.v2", "distribution.manifest.v2"]
    {
        assert!(asked[0].accept.contains(kind), "{}", asked[0].accept);
    }
}

#[tokio::test]
async fn credentials_go_to_the_registry_that_they_are_for() {
    let of_build =
        |host: &str| format!(r#"{{"registry":"https://{host}","username":"hub","password":"p4ss:word"}}"#);
    for access in [Access::Basic("hub", "p4ss:word"), Access::Token("hub", "p4ss:word")] {
        let registry = FakeRegistry::start(access.clone()).await;
        registry.push("n:1");
        assert!(!is_there(&registry, "n:1", None).await, "{access:?}");
        assert!(is_there(&registry, "n:1", Some(&of_build(&registry.host()))).await, "{access:?}");
        let before = registry.asked().len();
        assert!(!is_there(&registry, "n:1", Some(&of_build("other.example.org"))).await);
        let asked = registry.asked().split_off(before);
        assert!(asked.iter().all(|asked| !asked.authorization.starts_with("Basic")), "{asked:?}");
        // The same from a file, as `docker login` writes it.
        let folder = TempDir::new();
        let path = folder.join("config.json");
        let auth = BASE64_STANDARD.encode("hub:p4ss:word");
        std::fs::write(&path, format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, registry.host()))
            .unwrap();
        let line = ["--registry-check", &registry.host(), "--registry-config", path.to_str().unwrap()];
        let image: Image = format!("{}/n:1", registry.host()).parse().unwrap();
        assert!(check(&line).unwrap().is_there(&image, None).await, "{access:?}");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_with_the_scope_of_one_image() {
    let registry = FakeRegistry::start(Access::Hub).await;
    registry.push("binder/n:1");
    assert!(is_there(&registry, "binder/n:1", None).await);
    let asked = registry.asked();
    assert_eq!(asked[1].line, "GET /token?scope=repository%3Abinder%2Fn%3Apull&service=fake%2C+really");
    assert!(!is_there(&registry, "binder/n:2", None).await);
}

#[tokio::test]
async fn what_cannot_be_told_is_built() {
    for status in [301, 403, 405, 429, 500, 503] {
        let registry = FakeRegistry::start(Access::Open).await;
        registry.push("n:1");
        registry.break_with(status);
        assert!(!is_there(&registry, "n:1", None).await, "{status}");
    }
    let registry = FakeRegistry::start(Access::Open).await;
    registry.push("n:1");
    registry.hang();
    assert!(!is_there(&registry, "n:1", None).await);
    let gone = registry.host();
    drop(registry);
    let check = check(&["--registry-check", &gone]).unwrap();
    assert!(!check.is_there(&format!("{gone}/n:1").parse().unwrap(), None).await);
}

#[tokio::test]
async fn registries_that_nobody_named_are_not_asked() {
    let registry = FakeRegistry::start(Access::Open).await;
    registry.push("n:1");
    let image: Image = format!("{}/n:1", registry.host()).parse().unwrap();
    for line in [&[][..], &["--registry-check", "docker.io,registry.example.org:5000"]] {
        assert!(!check(line).unwrap().is_there(&image, None).await);
    }
    assert!(registry.asked().is_empty());
    // One that is reached elsewhere.
    let elsewhere = format!("r.example.org=http://{}/", registry.host());
    let check = check(&["--registry-check", &elsewhere]).unwrap();
    assert!(check.is_there(&"r.example.org/n:1".parse().unwrap(), None).await);
}

#[test]
fn names_are_taken_apart_as_docker_does() {
    let of = |image| {
        let place = Place::of(image);
        format!("{} {} {}", place.registry, place.name(), place.reference)
    };
    assert_eq!(of("python:3.12"), "docker.io library/python 3.12");
    assert_eq!(of("binder/n"), "docker.io binder/n latest");
    assert_eq!(of("index.docker.io/binder/n:1"), "docker.io binder/n 1");
    assert_eq!(of("localhost/n:1"), "localhost n 1");
    assert_eq!(of("r.example.org:5000/a/b:1"), "r.example.org:5000 a/b 1");
    assert_eq!(usual_url("docker.io"), HUB_API);
    assert_eq!(usual_url("127.0.0.1:5000"), "http://127.0.0.1:5000");
    assert_eq!(usual_url("r.example.org"), "https://r.example.org");
}

#[test]
fn credentials_are_found_in_each_form() {
    let name = |text: &str, registry| {
        Login::find(&serde_json::from_str(text).unwrap(), registry).map(|login| login.name)
    };
    let hub = r#"{"auths":{"https://index.docker.io/v1/":{"username":"a","password":"b"}}}"#;
    assert_eq!(name(hub, "docker.io").as_deref(), Some("a"));
    assert_eq!(name(hub, "r.example.org"), None);
    assert_eq!(name(r#"{"username":"a","password":"b"}"#, "docker.io").as_deref(), Some("a"));
    assert_eq!(name(r#"{"username":"a","password":"b"}"#, "r.example.org"), None);
    assert_eq!(name(r#"{"auths":{"r.example.org/v2/":{"auth":"nonsense"}}}"#, "r.example.org"), None);
    assert_eq!(name("[1]", "docker.io"), None);
}

#[test]
fn bad_settings_say_what_is_allowed() {
    for line in [
        &["--registry-check", "r.example.org/prefix"][..],
        &["--registry-check", "a=ftp://b"],
        &["--registry-check", "a", "--registry-check-timeout", "0s"],
    ] {
        let error = check(line).unwrap_err().to_string();
        assert!(error.contains("--registry-check"), "{error}");
    }
}
