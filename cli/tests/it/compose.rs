//! What `compose.yaml` promises whoever runs it for months.

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
