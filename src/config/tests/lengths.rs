//! How much lists and texts take.

use super::*;

#[test]
fn lists_and_texts_take_as_much_as_they_say_and_no_more() {
    fn items(count: usize, item: impl Fn(usize) -> String) -> String {
        (0..count).map(item).collect::<Vec<_>>().join(", ")
    }
    let lists: [fn(usize) -> String; 4] = [
        |count| format!("seeds = [{}]", items(count, |at| format!("'a{at}:1'"))),
        |count| format!("roles = [{}]", items(count, |at| format!("'a{at}'"))),
        |count| format!("metadata = {{ {} }}", items(count, |at| format!("a{at} = ''"))),
        |count| {
            let counts = items(count, |at| format!("a{at} = 1"));
            format!("[membership]\nmin_members_per_role = {{ {counts} }}")
        },
    ];
    let text = |length: usize| format!("metadata = {{ a = '{}' }}", "x".repeat(length));
    let core = |core: usize| format!("[workers]\ncores = [{core}]");
    let lists = lists.map(|list| [list(64), list(65)]);
    for [most, more] in
        lists.into_iter().chain([[text(1_024), text(1_025)], [core(1_023), core(1_024)]])
    {
        assert!(from_toml(&most).is_ok(), "{most}");
        assert!(refused(&more).contains(" is refused: it takes "), "{more}");
    }
}
