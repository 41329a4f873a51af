//! Types that contain themselves: they can be nested as deep as a sender likes, and checking them
//! would take the worker's stack.
//!
//! Here is found what can be read off the type; the rest has a layout that needs itself, so that
//! rustc refuses it in words of its own.

use syn::{Error, Field, GenericArgument, Ident, PathArguments, Result, Type};

use crate::rkyv::{names, with};

/// What holds values of the types in its brackets. Others may only speak of them, as a
/// `PhantomData` does.
const CONTAINERS: [&str; 15] = [
    "Vec",
    "VecDeque",
    "Box",
    "Option",
    "Result",
    "BTreeMap",
    "BTreeSet",
    "HashMap",
    "HashSet",
    "Rc",
    "Arc",
    "Range",
    "RangeInclusive",
    "Bound",
    "Cow",
];

pub fn refuse_recursion(own: &Ident, field: &Field) -> Result<()> {
    // A wrapper of rkyv's may archive something else, or nothing.
    if with(field)?.is_some() || !contains(own, &field.ty) {
        return Ok(());
    }
    Err(Error::new_spanned(
        &field.ty,
        format!(
            "`{own}` contains itself, and such a type cannot travel: a sender could nest it \
             until checking it overflows the stack. Send a flat list instead, whose entries \
             name their parent by index: `entries: Vec<Entry>`, `parent: Option<u32>`"
        ),
    ))
}

fn contains(own: &Ident, ty: &Type) -> bool {
    match ty {
        Type::Path(path) => {
            let Some(last) = path.path.segments.last() else {
                return false;
            };
            let PathArguments::AngleBracketed(inner) = &last.arguments else {
                return names(ty, own);
            };
            let is_container = CONTAINERS.iter().any(|container| last.ident == container);
            names(ty, own)
                || is_container
                    && inner.args.iter().any(|argument| {
                        matches!(argument, GenericArgument::Type(ty) if contains(own, ty))
                    })
        }
        Type::Tuple(tuple) => tuple.elems.iter().any(|ty| contains(own, ty)),
        Type::Array(array) => contains(own, &array.elem),
        Type::Slice(slice) => contains(own, &slice.elem),
        Type::Paren(paren) => contains(own, &paren.elem),
        Type::Group(group) => contains(own, &group.elem),
        Type::Reference(reference) => contains(own, &reference.elem),
        _ => false,
    }
}
