//! The credentials in a request: kept apart, because they are never shown.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

/// Credentials for one build.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretsBody {
    /// Credentials for the repository's host, as Git's credential helpers write them
    /// (`username=…\npassword=…`).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "show",
        deserialize_with = "text"
    )]
    #[schema(value_type = Option<String>, max_length = 16384)]
    pub git_credentials: Option<SecretString>,
    /// Credentials for registries: a Docker configuration, as an object or as its text.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "show",
        deserialize_with = "text_or_json"
    )]
    #[schema(value_type = Option<Object>)]
    pub registry_credentials: Option<SecretString>,
}

/// Serializes a secret. Only clients do this, to send their own secrets.
#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn show<S: Serializer>(secret: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(ExposeSecret::expose_secret).serialize(to)
}

// serde's own messages repeat the value that does not fit: these never do.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretString>, D::Error> {
    match serde_json::Value::deserialize(from)? {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(text) => Ok(Some(SecretString::from(text))),
        _ => Err(de::Error::custom("must be a string")),
    }
}

fn text_or_json<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretString>, D::Error> {
    match serde_json::Value::deserialize(from)? {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(text) => Ok(Some(SecretString::from(text))),
        object @ serde_json::Value::Object(_) => Ok(Some(SecretString::from(object.to_string()))),
        _ => Err(de::Error::custom("must be an object or a string")),
    }
}
