//! What can be wrong with a host: its clock, its disk.

use std::process::Command;

use fairlane_testkit::{SmallDisk, SteppedClock};

fn now(clock: Option<&SteppedClock>) -> anyhow::Result<i64> {
    let mut date = Command::new("date");
    date.arg("+%s").envs(clock.into_iter().flat_map(SteppedClock::environment));
    Ok(String::from_utf8(date.output()?.stdout)?.trim().parse()?)
}

#[test]
fn a_stepped_clock_is_wrong_by_what_it_was_set() -> anyhow::Result<()> {
    let Some(clock) = SteppedClock::new() else {
        eprintln!("SKIPPED: libfaketime is not installed; `apt-get install libfaketime` brings it");
        return Ok(());
    };
    for (step, sum) in [(0, 0), (3600, 3600), (-7200, -3600)] {
        assert_eq!(clock.step(step), sum);
        let wrong_by = now(Some(&clock))? - now(None)?;
        assert!((sum - 5..=sum + 5).contains(&wrong_by), "{wrong_by}");
    }
    Ok(())
}

#[test]
fn a_small_disk_is_full_and_has_room_again() -> anyhow::Result<()> {
    let Some(disk) = SmallDisk::mount(1) else {
        eprintln!("SKIPPED: only root may mount a file system");
        return Ok(());
    };
    let file = disk.path().join("file");
    std::fs::write(&file, "there is room")?;
    disk.fill();
    let refused = std::fs::write(&file, [0; 4096 * 2]).map_err(|error| error.kind());
    assert_eq!(refused, Err(std::io::ErrorKind::StorageFull));
    disk.clear();
    std::fs::write(&file, [0; 4096 * 2])?;
    Ok(())
}
