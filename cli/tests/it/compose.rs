//! What `compose.yaml` promises whoever runs it for months.

use std::path::Path;
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
    assert_eq!(services.len(), 8);
    let of_others = ["redis", "fairlane", "prometheus", "grafana"];
    for (name, service) in services {
        // A service that is based on another one lists only what differs.
        let of = |field: &str| service.get(field).or_else(|| service["<<"].get(field));
        assert!(of("restart").is_some() && of("healthcheck").is_some(), "{name}");
        assert_eq!(of("logging").unwrap()["options"]["max-size"], "10m", "{name}");
        if !of_others.contains(&name.as_str()) {
            assert_eq!(of("hostname").unwrap(), name, "its name outlives its container");
        }
    }
    let redis = &services["redis"];
    let maxmemory =
        redis["command"].as_array().unwrap().iter().skip_while(|word| **word != "--maxmemory").nth(1);
    assert_eq!((maxmemory.unwrap(), &redis["mem_limit"]), (&"512mb".into(), &"1g".into()), "twice as much");
}

#[test]
fn monitoring_is_off_unless_asked_for_and_only_this_host_reaches_it() {
    let compose: Value = serde_saphyr::from_str(include_str!("../../../compose.yaml")).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (name, service) in compose["services"].as_object().unwrap() {
        let expected = (name == "prometheus" || name == "grafana").then_some("monitoring");
        assert_eq!(service["profiles"][0].as_str(), expected, "{name}");
        let ports = service["ports"].as_array().into_iter().flatten();
        assert!(ports.clone().all(|port| port.as_str().unwrap().contains(":-127.0.0.1:")), "{name}");
        assert!(expected.is_none() || ports.count() == 1, "{name}");
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            // Docker would make a folder of a file that is not there.
            assert!(!source.starts_with('.') || root.join(source).is_file(), "{name}: {source}");
        }
    }
    // A password that is required here would be required from everybody: Compose reads services that are off, too.
    let grafana = &compose["services"]["grafana"]["environment"];
    for (setting, value) in [
        ("GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION", "true"),
        ("GF_AUTH_DISABLE_LOGIN_FORM", "true"),
        ("GF_AUTH_BASIC_ENABLED", "false"),
        ("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer"),
    ] {
        assert_eq!(grafana[setting], value, "nobody can sign in with a password that everybody knows");
    }
}

/// Both generations of Compose that people have.
#[test]
fn docker_compose_1_and_2_accept_it_with_the_settings_of_the_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let home = TempDir::new();
    let env_file = home.join(".env");
    std::fs::copy(root.join(".env.example"), &env_file).unwrap();
    // As docs/start.md says.
    let guide = include_str!("../../../docs/start.md");
    let fill = guide.lines().find(|line| line.starts_with("for name in ")).unwrap();
    assert!(Command::new("sh").args(["-c", fill]).current_dir(home.path()).status().unwrap().success());
    let settings = std::fs::read_to_string(&env_file).unwrap();
    let mut made: Vec<_> = settings
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(_, value)| value.len() == 64)
        .collect();
    made.dedup_by_key(|(_, value)| *value);
    assert_eq!(made.len(), 5, "{settings}");
    for words in [["docker-compose"].as_slice(), &["docker", "compose"]] {
        let compose = || {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).current_dir(&root);
            for (name, _) in std::env::vars_os() {
                if ["FAIRLANE_", "COMPOSE_"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
                    command.env_remove(name);
                }
            }
            command
        };
        if !compose().arg("version").output().is_ok_and(|done| done.status.success()) {
            eprintln!("SKIPPED: {} is not there", words.join(" "));
            continue;
        }
        for profile in [[].as_slice(), &["--profile", "monitoring"]] {
            let mut config = compose();
            config.arg("--env-file").arg(&env_file).args(profile).args(["config", "--quiet"]);
            let done = config.output().unwrap();
            assert!(
                done.status.success(),
                "{words:?} {profile:?}: {}",
                String::from_utf8_lossy(&done.stderr)
            );
        }
        let refused = compose().args(["--env-file", "/dev/null", "config", "--quiet"]).output().unwrap();
        assert!(!refused.status.success(), "passwords are required");
    }
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
