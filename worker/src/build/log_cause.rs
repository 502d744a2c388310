//! What a run's log and exit show about its failure: the second half of the table of causes. The first half is
//! [`crate::kubernetes::pod::PodCause`].

use fairlane_common::queue::Blame;
use fairlane_common::{FailureCause, FailureClass};

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $class:ident, $blame:ident, $says:literal, $advice:literal;)+) => {
        /// Why a run failed, according to its log and exit.
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
                            points_at: PointsAt::$blame,
                            says: $says,
                            advice: $advice,
                        }
                    },)+
                }
            }
        }
    };
}

/// What a cause points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PointsAt {
    /// The repository, or something outside the build host.
    Elsewhere,
    /// Perhaps the node: it is to blame if the build then succeeds on another one.
    Node,
    /// The same, and no repository can cause it.
    Machine,
    /// The repository or something outside it: the build is tried once more.
    Unclear,
}

struct Row {
    word: &'static str,
    class: FailureClass,
    points_at: PointsAt,
    says: &'static str,
    advice: &'static str,
}

causes! {
    /// A disk is full.
    DiskFull = "disk-full", Infrastructure, Node,
        "no space left on the disk of the build host",
        "Free disk space on the node, or have the engine's images cleaned up sooner.";
    /// The container engine does not answer.
    NoEngine = "no-engine", Infrastructure, Machine,
        "the container engine of the build host cannot be reached",
        "Make sure that the engine (Docker, or the DaemonSet of dind or pink) is running on the node.";
    /// Host names cannot be resolved.
    NoNames = "no-names", Infrastructure, Machine,
        "host names could not be resolved on the build host",
        "Check the DNS of the node and of the cluster.";
    /// The registry does not accept the image.
    PushFailed = "push-failed", Infrastructure, Elsewhere,
        "the registry did not accept the image; the push is retried",
        "Check the registry.";
    /// The registry does not let us push.
    PushDenied = "push-denied", Infrastructure, Elsewhere,
        "the registry refused the push: the operator must check the registry credentials and the image name",
        "Check --push-secret or the build's registry credentials, and the image's name.";
    /// A base image cannot be pulled.
    BaseImage = "base-image", Infrastructure, Elsewhere,
        "a base image could not be pulled",
        "Check the registry of the base image and its rate limits; a mirror helps.";
    /// The repository's host does not answer.
    GitNetwork = "git-network", Infrastructure, Elsewhere,
        "the host of the repository could not be reached",
        "Check the network from the build pods to that host.";
    /// The base image does not exist.
    NoBaseImage = "no-base-image", Repository, Elsewhere,
        "the base image does not exist or is private: check the FROM line of the Dockerfile",
        "Correct the base image, or log the engine in to its registry.";
    /// A well-known package server does not answer, or any server reports an outage.
    Download = "download", Infrastructure, Elsewhere,
        "a server that the build downloads from could not be reached or failed",
        "Check the network from the build containers to that server; a mirror or a caching proxy helps.";
    /// An address that the repository may have chosen does not answer.
    Unreachable = "unreachable", Infrastructure, Unclear,
        "an address that the build downloads from could not be reached; the log does not show whether the address is wrong or the network failed",
        "Check the address in the repository, and the network from the build containers to it.";
    /// A package index has no version of a package, or could not be reached.
    NoVersion = "no-version", Infrastructure, Unclear,
        "no version of a package was found; the log does not show whether its name is wrong or the package index failed",
        "Check the name of the package, and the network to the package index.";
    /// The repository is a folder that is not on this host.
    NoFolder = "no-folder", Infrastructure, Elsewhere,
        "the folder of the repository cannot be read on the build host",
        "A file:// repository must be at the same path on each worker's host, and its owner must be the worker's user (or `git config --global safe.directory`).";
    /// The build tool's installation is incomplete.
    Incomplete = "incomplete", Infrastructure, Elsewhere,
        "the build tool's installation is incomplete: the operator must repair it",
        "Run `fairlane doctor` on the build host: it says what is missing and how to install it.";
    /// The build tool does not know an option.
    NoSuchOption = "no-such-option", Infrastructure, Elsewhere,
        "the build tool does not accept one of its options: the operator must correct --command or --allow-arg",
        "Compare --command, --allow-arg and repo2docker_extra_args with the options of the installed repo2docker.";
    /// There is no such repository.
    NoRepository = "no-repository", Repository, Elsewhere,
        "the repository does not exist or is private: check its address, or give access to it",
        "Correct the address, or send git_credentials.";
    /// There is no such ref.
    NoRef = "no-ref", Repository, Elsewhere,
        "the ref does not exist in the repository: check the branch, tag or commit",
        "Correct the ref.";
    /// A package cannot be installed.
    Package = "package", Repository, Elsewhere,
        "a package that the repository asks for cannot be installed: check its names and versions",
        "Correct the repository's requirements.";
    /// A step of the build was killed.
    StepKilled = "step-killed", Repository, Elsewhere,
        "a step of the build was killed, most likely because it ran out of memory",
        "Make the step need less memory, or raise the build's memory limit.";
    /// The build command was killed.
    Killed = "killed", Infrastructure, Node,
        "the build command was killed, most likely because the build host ran out of memory",
        "Give the build pods a memory request, or the node more memory.";
    /// The build command crashed.
    Signal = "signal", Infrastructure, Elsewhere,
        "the build command was ended by signal {detail}",
        "See the end of the log.";
    /// The build command cannot be run.
    NotRunnable = "not-runnable", Infrastructure, Elsewhere,
        "the build command could not be run: the operator must check it on the build host",
        "Check --command, and --build-image on Kubernetes.";
    /// The build failed.
    BuildFailed = "build-failed", Repository, Elsewhere,
        "the build failed (exit code …); see its log",
        "Read the log: one of the repository's own steps fails there.";
    /// It is unknown how it ended.
    UnknownEnd = "unknown-end", Infrastructure, Elsewhere,
        "the build command ended in an unknown way",
        "See the worker's log.";
}

impl LogCause {
    /// Its name in the docs, and by which failures on different nodes are compared.
    pub fn word(self) -> &'static str {
        self.row().word
    }

    /// The same word as the queue knows it.
    pub fn cause(self) -> FailureCause {
        FailureCause::of(self.word())
    }

    /// What it is put down to.
    pub fn class(self) -> FailureClass {
        self.row().class
    }

    /// Who may be to blame for it.
    pub fn blame(self) -> Blame {
        let cause = self.word().to_owned();
        match self.row().points_at {
            PointsAt::Elsewhere => Blame::Nobody,
            PointsAt::Node => Blame::Suspect { cause },
            PointsAt::Machine => Blame::Machine { cause },
            PointsAt::Unclear => Blame::Unclear { cause },
        }
    }

    /// The sentence for people.
    pub fn says(self) -> &'static str {
        self.row().says
    }

    /// What an operator can do about it.
    pub fn advice(self) -> &'static str {
        self.row().advice
    }
}
