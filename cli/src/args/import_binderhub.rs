//! Options of `import-binderhub`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Turn BinderHub's Helm values or traits into values for Fairlane's chart
///
/// Reads the values of jupyterhub/binderhub or of binderhub-service, also as a subchart, or traits as JSON. Later
/// files override earlier ones, as with `helm -f`. Writes values for Fairlane and two lines for BinderHub; messages
/// say what became of each setting. Changes nothing.
///
/// Example: fairlane import-binderhub values.yaml prod.yaml > fairlane.yaml
#[derive(Debug, Args)]
#[command(name = "import-binderhub", display_order = 13)]
pub(crate) struct ImportBinderHub {
    /// Values files of BinderHub, or JSON files of traits
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
    /// Helm release of binderhub-service, which is part of its socket's path
    #[arg(long, value_name = "NAME", default_value = "binderhub")]
    pub(crate) release: String,
    /// Namespace of BinderHub, where builds run unless a setting says otherwise
    #[arg(long, value_name = "NAME", default_value = "binderhub")]
    pub(crate) namespace: String,
}
