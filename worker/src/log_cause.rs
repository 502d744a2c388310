//! What a run's log and exit can tell of its failure: the other half of the table of causes (the
//! first is [`crate::pod::PodCause`]).

use fairlane_common::FailureClass;
use fairlane_common::queue::Blame;

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $class:ident, $suspect:literal, $says:literal, $advice:literal;)+) => {
        /// What a run failed of, by its log and exit.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum LogCause { $($(#[$doc])* $variant,)+ }

        impl LogCause {
            /// Every cause, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            fn row(self) -> &'static Row {
                match self {
                    $(Self::$variant => &const {
                        Row {
                            word: $word,
                            class: FailureClass::$class,
                            is_suspect: $suspect,
                            says: $says,
                            advice: $advice,
                        }
                    },)+
                }
            }
        }
    };
}

struct Row {
    word: &'static str,
    class: FailureClass,
    /// Whether the node may be to blame: known once the build has been tried on another one.
    is_suspect: bool,
    says: &'static str,
    advice: &'static str,
}

causes! {
    /// A disk is full.
    DiskFull = "disk-full", Infrastructure, true,
        "no space left on the disk of the build host",
        "Free disk on the node, or let the engine's images be cleaned up sooner.";
    /// The container engine does not answer.
    NoEngine = "no-engine", Infrastructure, true,
        "the container engine of the build host cannot be reached",
        "See that the engine (Docker, or the DaemonSet of dind or pink) is up on the node.";
    /// Names are not resolved.
    NoNames = "no-names", Infrastructure, true,
        "names could not be resolved on the build host",
        "Look at the DNS of the node and of the cluster.";
    /// The registry does not take the image.
    PushFailed = "push-failed", Infrastructure, false,
        "the registry did not take the image; a push is tried again",
        "Look at the registry.";
    /// The registry does not let us push.
    PushDenied = "push-denied", Infrastructure, false,
        "the registry refused the push: the operator must check its credentials and name",
        "Check --push-secret or the build's registry credentials, and the image's name.";
    /// A base image cannot be had.
    BaseImage = "base-image", Infrastructure, false,
        "a base image could not be pulled",
        "Look at the registry of the base image and its rate limits; a mirror helps.";
    /// The repository's host does not answer.
    GitNetwork = "git-network", Infrastructure, false,
        "the host of the repository could not be reached",
        "Look at the way from the build pods to that host.";
    /// There is no such repository.
    NoRepository = "no-repository", Repository, false,
        "the repository does not exist or is private: check its address, or give access to it",
        "Correct the address, or send git_credentials.";
    /// There is no such ref.
    NoRef = "no-ref", Repository, false,
        "the ref does not exist in the repository: check the branch, tag or commit",
        "Correct the ref.";
    /// A package cannot be had.
    Package = "package", Repository, false,
        "a package that the repository asks for cannot be installed: check its names and versions",
        "Correct the repository's requirements.";
    /// A step of the build was killed.
    StepKilled = "step-killed", Repository, false,
        "a step of the build was killed, most likely because it needs more memory than it may have",
        "Make the step need less memory, or raise the build's memory limit.";
    /// The build command was killed.
    Killed = "killed", Infrastructure, true,
        "the build command was killed, most likely because the build host ran out of memory",
        "Give the build pods a memory request, or the node more memory.";
    /// The build command crashed.
    Signal = "signal", Infrastructure, false,
        "the build command was ended by signal {detail}",
        "See the end of the log.";
    /// The build command cannot be run.
    NotRunnable = "not-runnable", Infrastructure, false,
        "the build command could not be run: the operator must check it on the build host",
        "Check --command, and --build-image on Kubernetes.";
    /// The build failed.
    BuildFailed = "build-failed", Repository, false,
        "the build failed (exit code …): …; see its log",
        "Read the log: what the repository does there fails.";
    /// Nothing is known of its end.
    UnknownEnd = "unknown-end", Infrastructure, false,
        "the build command ended in an unknown way",
        "See the worker's log.";
}

impl LogCause {
    /// The word for it in the docs, and between nodes.
    pub fn word(self) -> &'static str {
        self.row().word
    }

    /// What it is put down to.
    pub fn class(self) -> FailureClass {
        self.row().class
    }

    /// Whether the node may be to blame for it.
    pub fn blame(self) -> Blame {
        if self.row().is_suspect { Blame::Suspect { cause: self.word().to_owned() } } else { Blame::Nobody }
    }

    /// The sentence for people.
    pub fn says(self) -> &'static str {
        self.row().says
    }

    /// What can be done about it.
    pub fn advice(self) -> &'static str {
        self.row().advice
    }
}
