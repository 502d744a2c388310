//! Cycles are found however their paths are written, and nothing else is reported.

use super::super::Source;
use super::{check, cycles, rust};

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

/// The cycles of a crate with modules `a` and `b`, as the lines of a report.
fn found(a: &str, b: &str) -> Vec<String> {
    found_in(&[source("x/src/lib.rs", "mod a;\nmod b;\n"), source("x/src/a.rs", a), source("x/src/b.rs", b)])
}

fn found_in(sources: &[Source]) -> Vec<String> {
    check(sources)
        .iter()
        .flat_map(|finding| finding.advice.lines().skip(1))
        .map(|line| line.trim().to_owned())
        .collect()
}

#[test]
fn a_cycle_is_found_and_each_of_its_edges_is_named() {
    let a = "\nuse crate::b::B;\npub(crate) struct A(B);\n";
    assert_eq!(
        found(a, "pub(crate) struct B;\nfn f(_: super::a::A) {}\n"),
        ["x/src/a.rs:2 names b", "x/src/b.rs:2 names a"]
    );
    assert_eq!(found(a, "pub(crate) struct B;\n"), [""; 0]);
}

#[test]
fn paths_are_found_however_they_are_written() {
    let b = "use crate::a::A;\npub(crate) struct B;\nimpl B { pub(crate) fn new(_: A) {} }\n";
    for a in [
        "pub(crate) struct A;\nuse crate::{b::{B as C}};\n",
        "pub(crate) struct A;\nuse super::b::{self, B};\n",
        "pub(crate) struct A;\nuse crate::b::*;\n",
        "pub(crate) struct A;\nuse crate::b;\nfn f() { b::B::new(A) }\n",
        "pub(crate) struct A;\nfn f() { g!(x => { crate::b::B::new(A) }) }\n",
        "pub(crate) struct A;\n#[cfg(test)]\nfn f() {}\nuse crate::b::B;\n",
        "pub(crate) struct A;\n#[cfg(test)]\nuse crate::{c::C};\nuse crate::b::B;\n",
        "pub(crate) struct A;\nmod inner { fn f(_: super::super::b::B) {} }\n",
    ] {
        assert_eq!(found(a, b).len(), 2, "{a}");
    }
}

#[test]
fn tests_comments_and_other_crates_are_no_edges() {
    let b = "use crate::a::A;\npub(crate) struct B;\n";
    for a in [
        "pub(crate) struct A;\n// use crate::b::B;\n",
        "pub(crate) struct A;\nconst S: &str = \"crate::b::B\";\n",
        "pub(crate) struct A;\nuse other::b::B;\n",
        "pub(crate) struct A;\n#[cfg(test)]\nmod tests { use crate::b::B; }\n",
        "pub(crate) struct A;\n#[cfg(test)]\nuse crate::b::B;\n",
        "pub(crate) struct A;\n#[cfg(test)]\nfn f() -> [u8; 1] { crate::b::B }\n",
        "pub(crate) struct A;\nfn f(a: T) { a.b::<X>(); }\n",
    ] {
        assert_eq!(found(a, b), [""; 0], "{a}");
    }
}

#[test]
fn what_is_passed_on_counts_for_who_defines_it() {
    let sources = |c: &str| {
        [
            source("x/src/main.rs", "mod a;\nmod facade;\n"),
            source("x/src/a.rs", "use crate::facade::C;\npub(crate) struct A;\n"),
            source("x/src/facade/mod.rs", "mod c;\npub(crate) use self::c::C;\n"),
            source("x/src/facade/c.rs", c),
        ]
    };
    assert_eq!(
        found_in(&sources("use crate::a::A;\npub(crate) struct C(A);\n")),
        ["x/src/a.rs:1 names facade::c", "x/src/facade/c.rs:1 names a"]
    );
    assert_eq!(found_in(&sources("pub(crate) struct C;\n")), [""; 0]);
}

#[test]
fn a_parent_and_its_children_may_need_each_other_and_siblings_may_not() {
    let sources = [
        source("x/src/lib.rs", "mod a;\npub struct Root;\n"),
        source(
            "x/src/a.rs",
            "mod c;\n#[path = \"elsewhere.rs\"]\nmod d;\nuse self::c::C;\npub(crate) struct A(C);\n",
        ),
        source("x/src/a/c.rs", "use super::{A, d::D};\nuse crate::Root;\npub(crate) struct C;\n"),
        source("x/src/elsewhere.rs", "use super::{A, c::C};\npub(crate) struct D;\n"),
    ];
    assert_eq!(found_in(&sources), ["x/src/a/c.rs:1 names a::d", "x/src/elsewhere.rs:1 names a::c"]);
    assert_eq!(found_in(&sources[..3]), [""; 0]);
}

#[test]
fn a_longer_way_round_is_one_cycle() {
    let sources = ["b", "c", "a"].map(|next| format!("pub(crate) fn f() {{ crate::{next}::f() }}\n"));
    let [a, b, c] = &sources;
    let crate_ = [
        source("x/src/lib.rs", "mod a; mod b; mod c;"),
        source("x/src/a.rs", a),
        source("x/src/b.rs", b),
        source("x/src/c.rs", c),
    ];
    let graphs = rust::graphs(&crate_);
    let [finding] = &cycles(&graphs[0])[..] else { panic!("one cycle") };
    assert!(finding.advice.starts_with("these modules depend on each other: a, b, c;"), "{}", finding.advice);
}

#[test]
fn imports_of_a_python_package_are_seen() {
    let package = |b: &str| {
        [
            source("p/pkg/__init__.py", "from .a import A\n"),
            source("p/pkg/a.py", "from . import c, b\n"),
            source("p/pkg/b.py", b),
            source("p/pkg/c.py", "from . import __version__\n"),
        ]
    };
    for b in ["if TYPE_CHECKING:\n    from .a import (\n", "\nimport pkg.a as x\n", "\nfrom pkg.a import A\n"]
    {
        assert_eq!(found_in(&package(b)), ["p/pkg/a.py:1 names b", "p/pkg/b.py:2 names a"], "{b}");
    }
    assert_eq!(found_in(&package("from .about import A\nfrom other.a import A\n")), [""; 0]);
}
