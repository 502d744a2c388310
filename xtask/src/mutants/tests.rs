//! The faults that are planted, on a small text; and whether the list of equivalent ones is up to date.

use std::path::Path;

use super::known::{self, Known};
use super::mutate::mutants_of;
use super::{blocks::Blocks, read_files};

const TEXT: &str = "\
local function f(b, id)
  if b.people > 0 and not is_ended(b.state) then
    call('HSET', key, 'a', '1', 'b', x)
    return { 'done', 'a', ms(b.a + 1) }
  end
  b.state = nil
  wake()
end
";

fn mutated() -> Vec<String> {
    mutants_of("f.lua", TEXT).into_iter().map(|mutant| format!("{}: {}", mutant.kind, mutant.after)).collect()
}

#[test]
fn each_kind_of_fault_is_planted() {
    let all = mutated();
    for expected in [
        "condition: if false then",
        "condition: if true then",
        "operand: if b.people > 0 then",
        "operand: if not is_ended(b.state) then",
        "logic: if b.people > 0 or not is_ended(b.state) then",
        "not: if b.people > 0 and is_ended(b.state) then",
        "compare: if b.people >= 0 and not is_ended(b.state) then",
        "number: if b.people > 1 and not is_ended(b.state) then",
        "call: ",
        "field: call('HSET', key, 'b', x)",
        "field: call('HSET', key, 'a', '1')",
        "number: call('HSET', key, 'a', '2', 'b', x)",
        "field: return { 'done' }",
        "math: return { 'done', 'a', ms(b.a - 1) }",
        "assign: ",
    ] {
        assert!(all.iter().any(|one| one == expected), "{expected} is not among {all:#?}");
    }
}

#[test]
fn a_block_is_the_smallest_around_a_place() {
    let blocks = Blocks::of(TEXT);
    let around = |word: &str| blocks.around(TEXT.find(word).unwrap());
    assert_eq!((blocks.len(), around("local")), (2, None));
    assert_eq!((around("b.people"), around("call("), around("wake")), (Some(0), Some(1), Some(0)));
}

#[test]
fn equivalent_mutants_are_those_of_today() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let files = read_files(root).unwrap();
    let all: Vec<_> = files.iter().flat_map(|file| mutants_of(&file.name, &file.text)).collect();
    let known = Known::read(&std::fs::read_to_string(root.join(known::PATH)).unwrap()).unwrap();
    assert_eq!(known.left_over(&all), Vec::<String>::new());
}
