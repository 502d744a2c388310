//! Names compared with those that `BinderHub`'s own code made (`binderhub_names.py` recorded them).

use fairlane_campaign::names::image;
use fairlane_campaign::source::{Hosts, Source};
use serde::Deserialize;

const RECORDED: [&str; 2] =
    [include_str!("binderhub_names.0.2.0.json"), include_str!("binderhub_names.b9fad995.json")];

#[derive(Deserialize)]
struct Recorded {
    binderhub: String,
    names: Vec<Name>,
}

#[derive(Deserialize)]
struct Name {
    spec: String,
    #[serde(rename = "ref")]
    reference: String,
    repo: String,
    slug: String,
    prefix: String,
    image: String,
}

#[test]
fn names_are_those_that_binderhub_makes() {
    for recorded in RECORDED {
        let Recorded { binderhub, names } = serde_json::from_str(recorded).unwrap();
        assert!(names.len() > 20, "{binderhub}");
        // Only newer versions turn git's short form for ssh into an address.
        let is_renamed = |name: &Name| binderhub == "0.2.0" && name.spec.starts_with("Git:git%40");
        for name in names.into_iter().filter(|name| !is_renamed(name)) {
            let source = Source::parse(&name.spec, &Hosts::default()).unwrap();
            let slug = source.slug(&name.reference);
            let made = (source.repo.as_str(), slug.as_str(), image(&name.prefix, &slug, &name.reference));
            assert_eq!(
                made,
                (name.repo.as_str(), name.slug.as_str(), name.image.clone()),
                "BinderHub {binderhub}: {}",
                name.spec
            );
        }
    }
}
