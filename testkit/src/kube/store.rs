//! All objects, all their changes, and the single counter of resource versions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::object::{Key, Object, born, list, text};

/// The first resource version; high enough that version 1 is long expired.
const FIRST_VERSION: u64 = 400;
/// Changes kept for watches to resume from. A thousand pods make about six changes each.
const HISTORY_MAX: usize = 20_000;

/// One change of one object.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) key: Key,
    pub(super) before: Option<Object>,
    /// The object after the change; for a deletion, its last state with the version of the deletion.
    pub(super) after: Object,
    pub(super) gone: bool,
    json: OnceLock<String>,
}

impl Change {
    /// The object as JSON, made once for all watches.
    pub(super) fn json(&self) -> &str {
        self.json.get_or_init(|| self.after.to_string())
    }
}

/// What etcd and the watch cache hold.
#[derive(Debug)]
pub(super) struct Store {
    objects: BTreeMap<Key, Object>,
    history: VecDeque<Arc<Change>>,
    version: u64,
    /// Watches and lists of an earlier version get 410.
    oldest: u64,
    changed: watch::Sender<u64>,
    pods_created: Vec<Object>,
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            version: FIRST_VERSION,
            oldest: FIRST_VERSION,
            changed: watch::Sender::new(FIRST_VERSION),
            pods_created: Vec::new(),
        }
    }

    /// Notifies of the version of the latest change.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Forgets the history: watches from an earlier version get 410, running ones go on.
    pub(super) fn compact(&mut self) {
        self.oldest = self.version;
        self.history.clear();
    }

    /// Forgets the history, and ends running watches with 410, too.
    pub(super) fn expire(&mut self) {
        self.version += 1;
        self.compact();
        self.changed.send_replace(self.version);
    }

    pub(super) fn exists(&self, key: &Key) -> bool {
        self.objects.contains_key(key)
    }

    pub(super) fn get(&self, key: &Key) -> Option<Object> {
        self.objects.get(key).cloned()
    }

    /// The object of this key, if it is still the one with this uid.
    pub(super) fn get_same(&self, key: &Key, uid: &str) -> Option<Object> {
        self.get(key).filter(|object| text(object, "/metadata/uid") == uid)
    }

    /// All objects of a resource, in one namespace or all, sorted by name.
    pub(super) fn list(&self, resource: &'static str, namespace: Option<&str>) -> Vec<Object> {
        select(&self.objects, resource, namespace)
    }

    /// The same at an earlier version; `None` if that is forgotten.
    pub(super) fn list_at(
        &self,
        resource: &'static str,
        namespace: Option<&str>,
        version: u64,
    ) -> Option<Vec<Object>> {
        if version < self.oldest {
            return None;
        }
        let mut objects = self.objects.clone();
        for change in self.history.iter().rev().take_while(|change| change.version > version) {
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), Arc::clone(before)),
                None => objects.remove(&change.key),
            };
        }
        Some(select(&objects, resource, namespace))
    }

    /// The changes after a version, at most `max`.
    pub(super) fn changes_after(&self, version: u64, max: usize) -> Vec<Arc<Change>> {
        let start = self.history.partition_point(|change| change.version <= version);
        self.history.iter().skip(start).take(max).cloned().collect()
    }

    /// Stores a new object. The caller has checked that there is none with this key.
    pub(super) fn create(&mut self, key: &Key, mut object: Value) -> Object {
        born(&mut object, (!key.namespace.is_empty()).then_some(key.namespace.as_str()));
        let after = self.commit(key, None, object);
        if key.resource == "pods" {
            self.pods_created.push(Arc::clone(&after));
        }
        after
    }

    /// Changes an object; if nothing differs, it keeps its version.
    pub(super) fn update(&mut self, key: &Key, change: impl FnOnce(&mut Value)) -> Option<Object> {
        let before = self.get(key)?;
        let mut object = Value::clone(&before);
        change(&mut object);
        if object == *before {
            return Some(before);
        }
        Some(self.commit(key, Some(before), object))
    }

    /// Removes an object, and what it owned.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Object> {
        let before = self.objects.remove(key)?;
        self.version += 1;
        let mut last = Value::clone(&before);
        last["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let last = Arc::new(last);
        self.record(key, Some(Arc::clone(&before)), Arc::clone(&last), true);
        self.remove_owned(text(&before, "/metadata/uid"));
        Some(last)
    }

    /// Every pod that was ever created, as it was at creation.
    pub(super) fn pods_created(&self) -> &[Object] {
        &self.pods_created
    }

    /// Whether any object has this uid.
    pub(super) fn knows_uid(&self, uid: &str) -> bool {
        self.objects.values().any(|object| text(object, "/metadata/uid") == uid)
    }

    fn remove_owned(&mut self, uid: &str) {
        let owned = self
            .objects
            .iter()
            .filter(|(_, object)| {
                let owners = list(object, "/metadata/ownerReferences");
                !owners.is_empty() && owners.iter().all(|owner| owner["uid"] == uid)
            })
            .map(|(key, _)| key.clone())
            .collect::<Vec<_>>();
        for key in owned {
            self.remove(&key);
        }
    }

    fn commit(&mut self, key: &Key, before: Option<Object>, mut object: Value) -> Object {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let after = Arc::new(object);
        self.objects.insert(key.clone(), Arc::clone(&after));
        self.record(key, before, Arc::clone(&after), false);
        after
    }

    fn record(&mut self, key: &Key, before: Option<Object>, after: Object, gone: bool) {
        let change =
            Change { version: self.version, key: key.clone(), before, after, gone, json: OnceLock::new() };
        self.history.push_back(Arc::new(change));
        if self.history.len() > HISTORY_MAX
            && let Some(forgotten) = self.history.pop_front()
        {
            self.oldest = forgotten.version;
        }
        self.changed.send_replace(self.version);
    }
}

fn select(objects: &BTreeMap<Key, Object>, resource: &'static str, namespace: Option<&str>) -> Vec<Object> {
    let first = Key::new(resource, namespace.unwrap_or_default(), "");
    objects
        .range(first..)
        .take_while(|(key, _)| {
            key.resource == resource && namespace.is_none_or(|namespace| key.namespace == namespace)
        })
        .map(|(_, object)| Arc::clone(object))
        .collect()
}
