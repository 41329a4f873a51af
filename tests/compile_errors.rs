//! What the compiler says when something is missing: it names the remedy.
//!
//! Run with `TRYBUILD=overwrite` to take down what it says now.

#[test]
fn errors_name_the_remedy() {
    trybuild::TestCases::new().compile_fail("tests/compile_errors/*.rs");
}
