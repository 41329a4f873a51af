//! Which addresses a node may listen at and advertise.

use super::*;

#[test]
fn an_address_must_be_one_that_others_can_dial() {
    let no_secret = "a loopback address as long as neither `secret` nor `secret_file` is set: \
                     anyone could join the cluster";
    for (text, message) in [
        (
            "bind = '0.0.0.0:1'\nsecret_file = 'x'",
            "`bind` = \"0.0.0.0:1\" is refused: it takes one specific address, unless `advertise` \
             says where other nodes reach this one"
                .to_owned(),
        ),
        (
            "advertise = '[::]:1'\nsecret_file = 'x'",
            "`advertise` = \"[::]:1\" is refused: it takes one specific address that nodes can \
             dial"
                .to_owned(),
        ),
        (
            "advertise = '224.0.0.1:1'\nsecret_file = 'x'",
            "`advertise` = \"224.0.0.1:1\" is refused: it takes one specific address that nodes \
             can dial"
                .to_owned(),
        ),
        (
            "advertise = '[fe80::1]:1'\nsecret_file = 'x'",
            "`advertise` = \"[fe80::1]:1\" is refused: it takes no link-local address \
             (fe80::/10), which means another machine on each link: a global or unique local one \
             that nodes can dial"
                .to_owned(),
        ),
        (
            "bind = '[fe80::1%2]:1'\nsecret_file = 'x'",
            "`bind` = \"[fe80::1%2]:1\" is refused: it takes no link-local address (fe80::/10), \
             which means another machine on each link: a global or unique local one, unless \
             `advertise` says where other nodes reach this one"
                .to_owned(),
        ),
        (
            "bind = '10.0.0.1:1'",
            format!("`bind` = \"10.0.0.1:1\" is refused: it takes {no_secret}"),
        ),
        (
            "advertise = '10.0.0.1:1'",
            format!("`advertise` = \"10.0.0.1:1\" is refused: it takes {no_secret}"),
        ),
    ] {
        assert_eq!(invalid(text), message);
    }
    for fits in [
        "bind = '10.0.0.1:1'",
        "bind = '[fe80::1%2]:1'\nadvertise = '[fd00::1]:1'",
        "advertise = '169.254.0.1:1'",
    ] {
        from_toml(&format!("{fits}\nsecret_file = 'x'")).unwrap().validate().unwrap();
    }
}
