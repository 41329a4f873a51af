//! Derive macros for keyway: `Message`, `Layout` and `Routee`. Documented where keyway re-exports
//! them.

mod key;
mod layout;
mod message;
mod recursion;
mod rkyv;
mod routee;

use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{
    Attribute, Data, DeriveInput, Error, Field, Ident, Path, Result, Token, parse_macro_input,
    parse_quote,
};

/// Derives `keyway::Message`: `#[message(name = "shop.add_item", key = cart, reply = Total)]`.
///
/// - `name` is needed: it is what the nodes of a cluster know the type by.
/// - `key` is what routes the message by its hash: a field (`cart`), a field of a field (`cart.id`,
///   `0.1`), or up to four of them (`(tenant, cart.id)`). All messages whose key is `None` have
///   the same owner.
/// - `reply` is the type an ask is answered with, `()` if not given.
/// - `crate` is where keyway is, if it has another name here: `crate = facade::keyway`.
///
/// An enum can be a message too. Its `key` is a field that every variant has; a variant can have
/// its own, `#[message(key = id)]`, or none, `#[message(no_key)]`.
///
/// A generic type is a message for each choice of parameters with which it can travel. They share
/// its name and differ in layout, so that a routee takes one of them.
///
/// The type's layout comes with it (see [`Layout`](macro@Layout)): types of its fields and of its
/// reply that are not Rust's own need `#[derive(Layout)]`.
#[proc_macro_derive(Message, attributes(message, layout))]
pub fn derive_message(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    message::message(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Derives `keyway::Layout` for the archived form of a type that messages or replies are made of.
///
/// A field of another crate's type that has no layout is named by hand:
/// `#[layout(name = "uuid")]`. Give it another name when its bytes come to mean something else.
/// On the type, `#[layout(crate = facade::keyway)]` says where keyway is.
#[proc_macro_derive(Layout, attributes(layout))]
pub fn derive_layout(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    layout::derive(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Derives `keyway::Routee`: `#[routee(handles(AddItem, GetTotal))]`.
///
/// The hooks of its life are named where there are any, by the path of a function that takes what
/// the hook takes: `#[routee(handles(AddItem), started = Self::open, wake = Self::tick)]`. A routee
/// that only wakes has `handles()`. `crate = facade::keyway` says where keyway is.
#[proc_macro_derive(Routee, attributes(routee))]
pub fn derive_routee(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    routee::routee(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// The one attribute of this name, if there is one.
fn attribute<'a>(attributes: &'a [Attribute], name: &str) -> Result<Option<&'a Attribute>> {
    let mut found = attributes.iter().filter(|attribute| attribute.path().is_ident(name));
    let first = found.next();
    match found.next() {
        None => Ok(first),
        Some(second) => Err(Error::new_spanned(second, "put both into one attribute")),
    }
}

/// Refuses an attribute where it would be ignored.
fn refuse(attributes: &[Attribute], name: &str, remedy: &str) -> Result<()> {
    match attributes.iter().find(|attribute| attribute.path().is_ident(name)) {
        None => Ok(()),
        Some(misplaced) => Err(Error::new_spanned(misplaced, remedy)),
    }
}

/// The fields of a struct, or of each variant in turn.
fn all_fields(data: &Data) -> Vec<&Field> {
    match data {
        Data::Struct(data) => data.fields.iter().collect(),
        Data::Enum(data) => data.variants.iter().flat_map(|variant| &variant.fields).collect(),
        Data::Union(data) => data.fields.named.iter().collect(),
    }
}

/// Calls with the name of each option of an attribute; the rest of it is read by the callee.
fn each_option(input: ParseStream<'_>, mut option: impl FnMut(&Ident) -> Result<()>) -> Result<()> {
    while !input.is_empty() {
        option(&input.call(Ident::parse_any)?)?;
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    Ok(())
}

/// `= value`, stored as an option's; a second one of the same name is an error.
fn value<T: Parse>(
    place: &mut Option<T>,
    option: &Ident,
    input: ParseStream<'_>,
    example: &str,
) -> Result<()> {
    if !input.peek(Token![=]) {
        return Err(Error::new(option.span(), format!("give it a value: `{example}`")));
    }
    input.parse::<Token![=]>()?;
    once(place, option, input.parse()?)
}

/// Stores an option's value; a second one of the same name is an error.
fn once<T>(place: &mut Option<T>, option: &Ident, value: T) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::new(option.span(), format!("`{option}` is given twice"))),
    }
}

/// Where the expanded code finds keyway: what `crate = path` says, or its own name.
#[derive(Default)]
struct Keyway(Option<Path>);

impl Keyway {
    fn read(&mut self, option: &Ident, input: ParseStream<'_>) -> Result<()> {
        value(&mut self.0, option, input, "crate = facade::keyway")
    }

    fn path(self) -> Path {
        self.0.unwrap_or_else(|| parse_quote!(::keyway))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A renamed dependency has no `::keyway`: one left in the expansion would not compile there.
    #[test]
    fn expanded_code_speaks_of_keyway_by_the_name_it_is_given() {
        let message: DeriveInput = parse_quote! {
            #[message(name = "test.put", key = (id, value.0), reply = T, crate = facade::kw)]
            struct Put<T> {
                id: T,
                value: (u64,),
                #[rkyv(with = Wrapper)]
                wrapped: u8,
                #[layout(name = "uuid")]
                named: u8,
            }
        };
        let change: DeriveInput = parse_quote! {
            #[message(name = "test.change", key = id, crate = facade::kw)]
            enum Change {
                Add { id: u64 },
                #[message(no_key)]
                Recount,
            }
        };
        let line: DeriveInput = parse_quote! {
            #[layout(crate = facade::kw)]
            struct Line(u8, #[layout(name = "uuid")] u8);
        };
        let routee: DeriveInput = parse_quote! {
            #[routee(
                handles(Put),
                started = Self::a,
                wake = Self::b,
                stopped = Self::c,
                crate = facade::kw
            )]
            struct Carts;
        };
        let all = [
            message::message(&message),
            message::message(&change),
            layout::derive(&line),
            routee::routee(&routee),
        ];
        for expanded in all {
            let text = expanded.unwrap().to_string();
            assert!(text.contains("facade :: kw :: "), "{text}");
            assert!(!text.contains("keyway"), "{text}");
        }
    }
}
