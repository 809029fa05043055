use super::*;
use policy_compiler::name::ObjectKey;
use std::os::unix::fs::symlink;

fn policy(name: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: {name}, namespace: shop}}\nspec: {{podSelector: {{}}}}\n"
    )
}

fn policies(listing: &Listing) -> Vec<String> {
    listing.snapshot.policies.keys().map(ObjectKey::to_string).collect()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
        self
    }

    fn source(&self) -> Directory {
        Directory::open(self.0.path()).unwrap()
    }
}

#[test]
fn only_manifests_are_read_and_a_second_reading_says_nothing_new() {
    let folder = Folder::new();
    folder.write("a.yaml", &policy("a")).write("deep/b.yml", &policy("b"));
    folder.write("notes.txt", "not: [yaml").write(".c.yaml.swp", "x");
    let mut source = folder.source();
    let listing = source.scan().unwrap();
    assert_eq!(policies(&listing), ["shop/a", "shop/b"]);
    assert!(listing.whole);
    assert_eq!(listing.problems, []);
    assert_eq!(source.scan(), None);
}

#[test]
fn a_broken_file_keeps_what_it_last_held_and_is_a_problem_until_it_parses() {
    let folder = Folder::new();
    folder.write("a.yaml", &policy("a"));
    let mut source = folder.source();
    source.scan().unwrap();

    folder.write("a.yaml", "kind: [");
    let listing = source.scan().unwrap();
    assert_eq!(policies(&listing), ["shop/a"]);
    assert!(listing.whole);
    assert_eq!(listing.problems.len(), 1);
    assert!(listing.problems[0].message.contains("a.yaml:"), "{}", listing.problems[0]);
    assert_eq!(source.scan(), None, "reported once");

    folder.write("a.yaml", "kind: [ ");
    let changed = source.scan().expect("reported again when it changes");
    assert_ne!(changed.problems, listing.problems);

    folder.write("a.yaml", &policy("b"));
    let listing = source.scan().unwrap();
    assert_eq!(policies(&listing), ["shop/b"]);
    assert_eq!(listing.problems, []);
}

#[test]
fn a_file_with_an_object_that_must_be_left_out_keeps_what_it_last_held() {
    let folder = Folder::new();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\n";
    folder.write("a.yaml", pod);
    let mut source = folder.source();
    assert_eq!(source.scan().unwrap().snapshot.pods.len(), 1);
    folder.write("a.yaml", &pod.replace("name: p,", "name: \"NOT A NAME\","));
    let listing = source.scan().unwrap();
    assert_eq!(listing.snapshot.pods.len(), 1);
    assert_eq!(listing.problems.len(), 1, "{:?}", listing.problems);
}

#[test]
fn a_file_that_never_parsed_leaves_the_listing_incomplete() {
    let folder = Folder::new();
    folder.write("a.yaml", &policy("a")).write("b.yaml", "kind: [");
    let listing = folder.source().scan().unwrap();
    assert!(!listing.whole);
    assert_eq!(policies(&listing), ["shop/a"]);
}

#[test]
fn a_deleted_file_takes_its_objects_with_it_and_a_vanished_directory_does_not() {
    let folder = Folder::new();
    folder.write("a.yaml", &policy("a")).write("b.yaml", &policy("b"));
    let mut source = folder.source();
    source.scan().unwrap();
    fs::remove_file(folder.path("b.yaml")).unwrap();
    assert_eq!(policies(&source.scan().unwrap()), ["shop/a"]);

    fs::remove_dir_all(folder.0.path()).unwrap();
    let listing = source.scan().unwrap();
    assert_eq!(policies(&listing), ["shop/a"]);
    assert_eq!(listing.problems.len(), 1);
}

#[test]
fn a_missing_directory_and_a_file_are_refused() {
    let folder = Folder::new();
    folder.write("a.yaml", "");
    let missing = Directory::open(&folder.path("none")).unwrap_err();
    assert!(matches!(missing, DirectoryError::Unreadable { .. }), "{missing}");
    let file = Directory::open(&folder.path("a.yaml")).unwrap_err();
    assert!(matches!(file, DirectoryError::NotADirectory { .. }), "{file}");
}

/// Runs the source on a thread; listings come out of the receiver.
fn watch(source: Directory) -> Receiver<Input> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || source.run(&sender));
    receiver
}

/// The next listing, where one comes in time.
fn within(listings: &Receiver<Input>, span: Duration) -> Option<Listing> {
    let deadline = Instant::now() + span;
    loop {
        match listings.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Input::Listed(listing)) => return Some(*listing),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

fn next(listings: &Receiver<Input>) -> Listing {
    within(listings, Duration::from_secs(30)).expect("a change")
}

#[test]
fn a_configmap_swap_is_one_change() {
    let folder = Folder::new();
    folder.write("..1/a.yaml", &policy("a")).write("..1/b.yaml", &policy("b"));
    symlink("..1", folder.path("..data")).unwrap();
    symlink("..data/a.yaml", folder.path("a.yaml")).unwrap();
    symlink("..data/b.yaml", folder.path("b.yaml")).unwrap();
    let listings = watch(folder.source());
    assert_eq!(policies(&next(&listings)), ["shop/a", "shop/b"]);

    folder.write("..2/a.yaml", &policy("c")).write("..2/b.yaml", &policy("d"));
    symlink("..2", folder.path("..data_tmp")).unwrap();
    fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
    assert_eq!(policies(&next(&listings)), ["shop/c", "shop/d"]);
    assert_eq!(within(&listings, Duration::from_millis(300)), None, "one change");
}

#[test]
fn a_write_beside_and_a_rename_over_is_one_change() {
    let folder = Folder::new();
    folder.write("a.yaml", &policy("a"));
    let listings = watch(folder.source());
    assert_eq!(policies(&next(&listings)), ["shop/a"]);

    folder.write(".a.yaml.tmp", &policy("b"));
    fs::rename(folder.path(".a.yaml.tmp"), folder.path("a.yaml")).unwrap();
    assert_eq!(policies(&next(&listings)), ["shop/b"]);
    assert_eq!(within(&listings, Duration::from_millis(300)), None, "one change");
}

#[test]
fn a_file_in_a_new_subdirectory_is_seen() {
    let folder = Folder::new();
    folder.write("a.yaml", &policy("a"));
    let listings = watch(folder.source());
    next(&listings);
    folder.write("team/b.yaml", &policy("b"));
    assert_eq!(policies(&next(&listings)), ["shop/a", "shop/b"]);
}

/// As the defaults, with the seconds made short.
fn short() -> Delays {
    let (unfinished, emptied) = (Duration::from_millis(400), Duration::from_millis(400));
    Delays { unfinished, emptied, ..Delays::default() }
}

/// As the defaults, with nothing believed for its standing still however slow the machine.
fn long() -> Delays {
    Delays { unfinished: Duration::from_mins(5), ..Delays::default() }
}

const FILE: &str = "a.yaml";

#[test]
fn a_file_that_is_written_in_place_is_not_read_before_it_is_closed() {
    use std::io::Write;
    let folder = Folder::new();
    folder.write(FILE, &policy("a")).write("b.yaml", &policy("b"));
    let listings = watch(folder.source().with_delays(long()));
    next(&listings);

    // Nothing but the end tells that the first half is not all: it is valid by itself.
    let mut file = fs::File::create(folder.path(FILE)).unwrap();
    assert_eq!(within(&listings, Duration::from_millis(150)), None, "emptied");
    writeln!(file, "{}---", policy("c")).unwrap();
    assert_eq!(within(&listings, Duration::from_millis(150)), None, "half written");
    folder.write("b.yaml", &policy("e"));
    assert_eq!(policies(&next(&listings)), ["shop/a", "shop/e"], "others are read meanwhile");
    write!(file, "{}", policy("d")).unwrap();
    let closed = Instant::now();
    drop(file);
    assert_eq!(policies(&next(&listings)), ["shop/c", "shop/d", "shop/e"]);
    assert!(closed.elapsed() < long().unfinished / 2, "{:?}", closed.elapsed());
}

#[test]
fn a_file_that_nobody_closes_is_read_once_it_stands_still() {
    use std::io::Write;
    let folder = Folder::new();
    folder.write(FILE, &policy("a"));
    let listings = watch(folder.source().with_delays(short()));
    next(&listings);
    let begun = Instant::now();
    let mut file = fs::File::create(folder.path(FILE)).unwrap();
    write!(file, "{}", policy("b")).unwrap();
    // Whoever is kept waiting between the two leaves it empty for as long.
    while policies(&next(&listings)) != ["shop/b"] {}
    assert!(begun.elapsed() >= short().unfinished, "{:?}", begun.elapsed());
}

#[test]
fn a_new_file_is_not_read_before_it_is_closed() {
    use std::io::Write;
    let folder = Folder::new();
    folder.write(FILE, &policy("a"));
    let listings = watch(folder.source().with_delays(long()));
    next(&listings);
    let mut file = fs::File::create(folder.path("b.yaml")).unwrap();
    writeln!(file, "{}---", policy("b")).unwrap();
    let early = within(&listings, Duration::from_millis(150));
    assert!(early.is_none_or(|l| policies(&l) == ["shop/a"] && l.problems.is_empty()));
    write!(file, "{}", policy("c")).unwrap();
    drop(file);
    assert_eq!(policies(&next(&listings)), ["shop/a", "shop/b", "shop/c"]);
}

#[test]
fn a_file_that_holds_nothing_any_more_is_believed_after_some_seconds() {
    let folder = Folder::new();
    folder.write(FILE, &policy("a")).write("b.yaml", &policy("b"));
    let mut source = folder.source();
    source.scan().unwrap();
    let emptied = Instant::now();
    for text in ["", "# nothing\n"] {
        folder.write(FILE, text);
        let listing = source.scan_at(emptied, Duration::ZERO).unwrap();
        assert_eq!(policies(&listing), ["shop/a", "shop/b"]);
        assert_eq!(listing.problems.len(), 1);
        assert!(listing.problems[0].message.contains("holds no object"), "{:?}", listing.problems);
    }
    let later = emptied + Delays::default().emptied;
    let listing = source.scan_at(later, Duration::ZERO).unwrap();
    assert_eq!(policies(&listing), ["shop/b"]);
    assert_eq!(listing.problems, []);
}

#[test]
fn an_emptied_file_that_is_filled_again_was_never_empty() {
    let folder = Folder::new();
    folder.write(FILE, &policy("a"));
    let mut source = folder.source();
    source.scan().unwrap();
    folder.write(FILE, "");
    source.scan().unwrap();
    folder.write(FILE, &policy("b"));
    let listing = source.scan().unwrap();
    assert_eq!(policies(&listing), ["shop/b"]);
    assert_eq!(listing.problems, []);
    let later = Instant::now() + 2 * Delays::default().emptied;
    assert_eq!(source.scan_at(later, Duration::ZERO), None);
}

#[test]
fn the_source_wakes_by_itself_to_believe_an_emptied_file() {
    let folder = Folder::new();
    folder.write(FILE, &policy("a")).write("b.yaml", &policy("b"));
    let listings = watch(folder.source().with_delays(short()));
    next(&listings);
    folder.write(FILE, "");
    assert_eq!(policies(&next(&listings)), ["shop/a", "shop/b"]);
    assert_eq!(policies(&next(&listings)), ["shop/b"]);
}

#[test]
fn a_directory_without_a_manifest_is_believed_after_some_seconds() {
    let folder = Folder::new();
    folder.write("root/a.yaml", &policy("a"));
    let mut source = Directory::open(&folder.path("root")).unwrap();
    source.scan().unwrap();
    fs::rename(folder.path("root"), folder.path("old")).unwrap();
    fs::create_dir(folder.path("root")).unwrap();
    let emptied = Instant::now();
    let listing = source.scan_at(emptied, Duration::ZERO).unwrap();
    assert_eq!(policies(&listing), ["shop/a"]);
    assert_eq!(listing.problems.len(), 1);
    let listing = source.scan_at(emptied + Delays::default().emptied, Duration::ZERO).unwrap();
    assert_eq!(policies(&listing), [""; 0]);
    assert_eq!(listing.problems, []);
}

#[test]
fn files_behind_a_link_to_nothing_go_on() {
    let folder = Folder::new();
    folder.write("root/a.yaml", &policy("a")).write("team/b.yaml", &policy("b"));
    symlink("../team", folder.path("root/team")).unwrap();
    let mut source = Directory::open(&folder.path("root")).unwrap();
    assert_eq!(policies(&source.scan().unwrap()), ["shop/a", "shop/b"]);
    fs::rename(folder.path("team"), folder.path("away")).unwrap();
    let listing = source.scan().unwrap();
    assert_eq!(policies(&listing), ["shop/a", "shop/b"]);
    assert_eq!(listing.problems.len(), 1);
    fs::remove_file(folder.path("root/team")).unwrap();
    assert_eq!(policies(&source.scan().unwrap()), ["shop/a"]);
}

#[test]
fn an_edit_behind_a_link_that_came_later_is_seen_without_a_rescan() {
    let folder = Folder::new();
    folder.write("root/a.yaml", &policy("a")).write("team/b.yaml", &policy("b"));
    let delays = Delays { rescan: Duration::from_mins(10), ..Delays::default() };
    let listings = watch(Directory::open(&folder.path("root")).unwrap().with_delays(delays));
    next(&listings);
    symlink("../team", folder.path("root/team")).unwrap();
    assert_eq!(policies(&next(&listings)), ["shop/a", "shop/b"]);
    std::thread::sleep(Duration::from_millis(100));
    folder.write("team/b.yaml", &policy("c"));
    assert_eq!(policies(&next(&listings)), ["shop/a", "shop/c"]);
}

#[test]
fn a_file_that_did_not_change_is_not_read_again() {
    let folder = Folder::new();
    folder.write(FILE, &policy("a"));
    let mut source = folder.source();
    source.scan().unwrap();
    std::thread::sleep(LASTING);
    source.files.values_mut().for_each(|known| known.stamp = Stamp::of(&folder.path(FILE)));
    // What cannot be read would be a problem if it were.
    let path = folder.path(FILE);
    let known = source.files.get_mut(&path).unwrap();
    known.take(&path, Err("stands for the last reading".to_owned()), Instant::now(), LASTING);
    let listing = source.scan().unwrap();
    assert_eq!(listing.problems.len(), 1, "the last reading counts");
    folder.write(FILE, &policy("b"));
    assert_eq!(source.scan().unwrap().problems, []);
}

#[test]
fn a_single_reading_waits_for_files_that_are_still_changing() {
    let folder = Folder::new();
    folder.write(FILE, &policy("a"));
    let (quiet, patience) = (Duration::from_secs(2), Duration::from_mins(1));
    let delays = Delays { quiet, patience, ..Delays::default() };
    let mut source = folder.source().with_delays(delays);
    let path = folder.path("b.yaml");
    fs::write(&path, policy("b")).unwrap();
    let writer = std::thread::spawn(move || {
        for round in 0..10 {
            fs::write(&path, policy(&format!("b{round}"))).unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let listing = source.settled().unwrap();
    writer.join().unwrap();
    assert_eq!(policies(&listing), ["shop/a", "shop/b9"]);
}
