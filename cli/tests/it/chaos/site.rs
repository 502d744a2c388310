//! What the build commands themselves notice: each holds a lock of its image and a numbered lock of its lane as long as
//! it lives. The kernel frees them when a command dies, however it dies. So the commands see each other without Redis,
//! Kubernetes or Fairlane.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use fairlane_testkit::TempDir;

/// The command of all builds, with the arguments `{repo}` and `{image}`. Children do not keep the locks.
const SCRIPT: &str = r#"
PATH=/usr/local/bin:/usr/bin:/bin
lane=${1##*/}; limit=${lane#l}; limit=${limit%%-*}
tag=${2##*:}; rest=${tag#*-}; lines=${rest%%-*}; how=${rest#*-}
exec 9>"$SITE/images/$tag"
flock -n 9 || echo "$lane $tag $(date -u +%T)" >> "$SITE/overlaps"
n=1
while [ $n -lt 30 ]; do exec 8>"$SITE/lanes/$lane.$n"; flock -n 8 && break; n=$((n+1)); done
echo "$lane $limit $n $tag" >> "$SITE/starts"
head -c 100000 /dev/zero > scratch 8>&- 9>&- || { echo "write error: No space left on device"; exit 1; }
i=1
while [ $i -le $lines ]; do
  echo "line $i of $tag"
  i=$((i+1))
  sleep 0.2 8>&- 9>&-
done
[ "$how" != bad ] || { echo "there is no package of that name"; exit 1; }
"#;

/// The folder where build commands meet.
pub(super) struct Site {
    folder: TempDir,
}

/// What the commands have noticed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Noticed {
    /// Commands that were started.
    pub(super) starts: usize,
    /// Commands that started while another one for the same image was alive.
    pub(super) overlaps: Vec<String>,
    /// Commands that started while as many of their lane were alive as its limit allows.
    pub(super) crowded: Vec<String>,
    /// The most live commands of a lane, by the lane's limit.
    pub(super) most: BTreeMap<u32, u32>,
    /// How often the command of each image was started.
    pub(super) starts_of: BTreeMap<String, usize>,
}

impl Site {
    pub(super) fn new() -> Self {
        let site = Self { folder: TempDir::new() };
        for folder in ["images", "lanes"] {
            fs::create_dir(site.folder.join(folder)).unwrap();
        }
        let path = site.folder.path().display();
        fs::write(site.script(), format!("SITE={path}{SCRIPT}")).unwrap();
        site
    }

    fn script(&self) -> PathBuf {
        self.folder.join("build.sh")
    }

    /// The command of builds, as workers want it.
    pub(super) fn template(&self) -> String {
        format!("/bin/sh {} {{repo}} {{image}}", self.script().display())
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(super) fn noticed(&self) -> Noticed {
        let mut noticed = Noticed { overlaps: self.lines("overlaps"), ..Noticed::default() };
        for start in self.lines("starts") {
            let words: Vec<&str> = start.split(' ').collect();
            let (limit, alive): (u32, u32) = (words[1].parse().unwrap(), words[2].parse().unwrap());
            noticed.starts += 1;
            *noticed.starts_of.entry(words[3].to_owned()).or_default() += 1;
            let most = noticed.most.entry(limit).or_default();
            *most = alive.max(*most);
            if alive > limit {
                noticed
                    .crowded
                    .push(format!("{} with {alive} live commands, limit {limit}: {}", words[0], words[3]));
            }
        }
        noticed
    }
}

#[tokio::test]
async fn commands_notice_each_other_until_they_die() {
    use fairlane_testkit::Process;

    let site = Site::new();
    let start = async |tag: &str| {
        let image = format!("registry.example.org/l1-02:{tag}");
        let mut command = std::process::Command::new("/bin/sh");
        command.arg(site.script()).args(["https://git.example.org/o/l1-02", &image]);
        let process = Process::spawn(tag, command.current_dir(site.folder.path()));
        process.wait_for_line("line 1 ", crate::setup::LIMIT).await;
        process
    };
    let first = start("n1-600-ok").await;
    let second = start("n1-600-ok").await;
    let noticed = site.noticed();
    assert!(noticed.overlaps[0].starts_with("l1-02 n1-600-ok "), "{noticed:?}");
    assert_eq!(noticed.crowded.len(), 1, "{noticed:?}");
    first.kill();
    second.kill();
    start("n2-600-ok").await;
    let noticed = site.noticed();
    assert_eq!((noticed.overlaps.len(), noticed.crowded.len(), noticed.starts), (1, 1, 3));
    assert_eq!(noticed.most, [(1, 2)].into());
}
