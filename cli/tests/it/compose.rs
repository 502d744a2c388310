//! What `compose.yaml` promises whoever runs it for months.

use std::process::Command;

use fairlane_common::Queue;
use fairlane_testkit::{RedisServer, TempDir};
use serde_json::Value;

#[test]
fn every_service_comes_back_is_looked_after_and_rotates_its_log() {
    let text = include_str!("../../../compose.yaml");
    let compose: Value = serde_saphyr::from_str(text).unwrap();
    assert!(compose.get("name").is_none(), "docker-compose 1.29 refuses it");
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services.len(), 6);
    for (name, service) in services {
        // A service that is based on another one lists only what differs.
        let of = |field: &str| service.get(field).or_else(|| service["<<"].get(field));
        assert!(of("restart").is_some() && of("healthcheck").is_some(), "{name}");
        assert_eq!(of("logging").unwrap()["options"]["max-size"], "10m", "{name}");
        if name != "redis" && name != "fairlane" {
            assert_eq!(of("hostname").unwrap(), name, "its name outlives its container");
        }
    }
    let redis = &services["redis"];
    let maxmemory =
        redis["command"].as_array().unwrap().iter().skip_while(|word| **word != "--maxmemory").nth(1);
    assert_eq!((maxmemory.unwrap(), &redis["mem_limit"]), (&"512mb".into(), &"1g".into()), "twice as much");
}

#[tokio::test]
async fn its_redis_has_users_with_the_rights_that_dispatchers_and_workers_need() {
    let compose: Value = serde_saphyr::from_str(include_str!("../../../compose.yaml")).unwrap();
    let script = compose["services"]["redis"]["entrypoint"][2].as_str().unwrap().replace("$$", "$");
    let (home, rights) = (TempDir::new(), concat!(env!("CARGO_MANIFEST_DIR"), "/../common/src/redis.acl"));
    let users = home.join("users.acl");
    let script = script
        .replace("/etc/fairlane/redis.acl", rights)
        .replace("/tmp/users.acl", &users.display().to_string())
        .replace("exec docker-entrypoint.sh", "echo");
    let passwords = ["DEFAULT", "DISPATCHER", "WORKER"];
    let mut shell = Command::new("sh");
    shell.args(["-ec", &script, "sh", "redis-server"]);
    shell.envs(passwords.map(|name| (format!("{name}_PASSWORD"), format!("of-{name}"))));
    let done = shell.output().unwrap();
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "redis-server\n", "its command is passed on");
    let server = RedisServer::start_default().await;
    let users = std::fs::read_to_string(&users).unwrap();
    assert!(users.starts_with("user default on >of-DEFAULT "), "{users}");
    for line in users.lines().skip(1) {
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        server.command(&[&["ACL", "SETUSER", words[0], "reset"], &words[1..]].concat()).await;
    }
    let services = compose["services"].as_object().unwrap();
    for (service, variable) in [("dispatcher-1", "DISPATCHER"), ("worker-1", "WORKER")] {
        let role = variable.to_lowercase();
        let url = &services[service]["environment"]["FAIRLANE_REDIS_URL"];
        let password = format!("${{FAIRLANE_REDIS_{variable}_PASSWORD}}");
        assert_eq!(*url, format!("redis://fairlane-{role}:{password}@redis:6379"));
        let url = format!("{}?user=fairlane-{role}&pass=of-{variable}", server.bare_url());
        Queue::open(&url.parse().unwrap(), "fairlane").await.unwrap();
        let wrong = url.replace("pass=of", "pass=if");
        assert!(Queue::open(&wrong.parse().unwrap(), "fairlane").await.is_err());
    }
}
