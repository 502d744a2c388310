//! The API's document, as a snapshot: whoever changes it changes the API, and should know that.

use fairlane_dispatcher::openapi;
use serde_json::Value;

#[test]
fn the_document_is_as_agreed() {
    let mut document: Value = serde_json::from_str(&openapi()).unwrap();
    document["info"]["version"] = "[version]".into();
    insta::assert_json_snapshot!("openapi", document);
}

#[test]
fn every_reference_leads_somewhere() {
    let document: Value = serde_json::from_str(&openapi()).unwrap();
    let text = document.to_string();
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
    }
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let document: Value = serde_json::from_str(&openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.values().flat_map(|methods| methods.as_object().unwrap().values());
    let mut names: Vec<&str> =
        operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn every_operation_lists_the_problems_that_it_can_answer_with() {
    let document: Value = serde_json::from_str(&openapi()).unwrap();
    for (path, item) in
        document["paths"].as_object().unwrap().iter().filter(|(path, _)| path.starts_with("/v1/"))
    {
        for (method, operation) in item.as_object().unwrap() {
            let mut statuses = vec!["400", "401", "403", "429", "500", "503"];
            if operation.get("requestBody").is_some() {
                statuses.extend(["408", "413", "415", "422"]);
            }
            for status in statuses {
                let problem = &operation["responses"][status]["content"]["application/problem+json"];
                let types = &problem["schema"]["allOf"][1]["properties"]["type"]["enum"];
                assert!(types.as_array().is_some_and(|types| !types.is_empty()), "{method} {path}: {status}");
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if parameter["name"] == "limit" {
                    assert_eq!(parameter["schema"]["maximum"], 200, "{method} {path}");
                }
            }
        }
    }
}

#[test]
fn nothing_in_it_is_null() {
    // Tools that read the document reject `"parameters": null`.
    let document: Value = serde_json::from_str(&openapi()).unwrap();
    let text = document.to_string();
    assert!(!text.contains(":null"), "{}", &text[text.find(":null").unwrap() - 100..][..110]);
}
