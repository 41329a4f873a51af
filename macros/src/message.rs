//! `#[derive(Message)]`

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{
    Data, DataEnum, DeriveInput, Error, Generics, LitStr, Path, Result, Type, Variant, parse_quote,
};

use crate::key::Key;
use crate::{Keyway, all_fields, attribute, each_option, layout, once, refuse, value};

struct Options {
    name: LitStr,
    key: Option<Key>,
    reply: Option<Type>,
    keyway: Path,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let (mut name, mut key, mut reply) = (None::<LitStr>, None, None);
        let mut keyway = Keyway::default();
        each_option(input, |option| match option.to_string().as_str() {
            "name" => value(&mut name, option, input, "name = \"shop.add_item\""),
            "key" => value(&mut key, option, input, "key = cart"),
            "reply" => value(&mut reply, option, input, "reply = Total"),
            "crate" => keyway.read(option, input),
            "no_key" => Err(Error::new(
                option.span(),
                "a message has no key unless one is named; `no_key` is for a variant of an enum \
                 with a key",
            )),
            _ => Err(Error::new(
                option.span(),
                "unknown option; there are `name`, `key`, `reply` and `crate`",
            )),
        })?;
        let name = name.ok_or_else(|| {
            input.error("the message needs a name that all nodes share: `name = \"shop.add_item\"`")
        })?;
        let length = name.value().len();
        if length == 0 || length > 128 {
            return Err(Error::new(name.span(), "a message's name has 1 to 128 bytes"));
        }
        Ok(Self { name, key, reply, keyway: keyway.path() })
    }
}

pub fn message(input: &DeriveInput) -> Result<TokenStream> {
    let options = attribute(&input.attrs, "message")?.ok_or_else(|| {
        let missing = "add `#[message(name = \"...\")]` with the name that all nodes share";
        Error::new_spanned(&input.ident, missing)
    })?;
    let Options { name, key, reply, keyway } = options.parse_args()?;
    refuse_misplaced(input)?;
    let layout = layout::layout(input, &keyway)?;
    let key_hash = key_hash(input, key.as_ref(), &keyway)?;
    let reply = reply.unwrap_or_else(|| parse_quote!(()));
    let ident = &input.ident;
    let bounded = bounded(input, key.as_ref(), &reply, &keyway)?;
    let (generics, parameters, bounds) = bounded.split_for_impl();
    Ok(quote! {
        #layout

        #[automatically_derived]
        impl #generics #keyway::Message for #ident #parameters #bounds {
            type Reply = #reply;
            const NAME: &'static str = #name;
            #[inline]
            fn key_hash(&self, seed: #keyway::HashSeed) -> ::core::option::Option<u64> {
                let _ = seed;
                #key_hash
            }
        }
    })
}

fn refuse_misplaced(input: &DeriveInput) -> Result<()> {
    refuse(&input.attrs, "layout", "`layout` stands on a field, to name what it is")?;
    let (at, example) = match input.data {
        Data::Enum(_) => ("variant", "#[message(key = id)]"),
        _ => ("type", "#[message(name = \"...\", key = id)]"),
    };
    let remedy = format!("a key is named on the {at}, not on the field: `{example}`");
    all_fields(&input.data).iter().try_for_each(|field| refuse(&field.attrs, "message", &remedy))
}

/// What must hold: that it can travel, and of a generic message that it does with its parameters.
fn bounded(
    input: &DeriveInput,
    key: Option<&Key>,
    reply: &Type,
    keyway: &Path,
) -> Result<Generics> {
    let mut generics = input.generics.clone();
    let bounds = &mut generics.make_where_clause().predicates;
    // Said here and not left to the trait, as rustc then names what is missing by our words.
    bounds.push(parse_quote!(Self: #keyway::wire::WireType<Archived: #keyway::Layout>));
    if input.generics.params.is_empty() {
        return Ok(generics);
    }
    bounds.push(parse_quote!(#reply: #keyway::wire::WireType<Archived: #keyway::Layout>));
    let mut keyed = Vec::new();
    match &input.data {
        Data::Struct(data) => keyed.extend(key.map(|key| key.whole_fields(&data.fields))),
        Data::Enum(data) => {
            for variant in &data.variants {
                let own = VariantKey::of(variant)?;
                keyed.extend(own.or(key).map(|key| key.whole_fields(&variant.fields)));
            }
        }
        Data::Union(_) => {}
    }
    for part in keyed.into_iter().flatten() {
        bounds.push(parse_quote!(#part: #keyway::HashKey));
    }
    Ok(generics)
}

fn key_hash(input: &DeriveInput, key: Option<&Key>, keyway: &Path) -> Result<TokenStream> {
    match (&input.data, key) {
        (Data::Struct(data), Some(key)) => key.of_struct(keyway, &data.fields),
        (Data::Enum(data), key) => key_hash_of_enum(data, key, keyway),
        _ => Ok(quote!(::core::option::Option::None)),
    }
}

fn key_hash_of_enum(data: &DataEnum, key: Option<&Key>, keyway: &Path) -> Result<TokenStream> {
    let mut arms = Vec::new();
    for variant in &data.variants {
        let own = VariantKey::of(variant)?;
        arms.extend(own.or(key).map(|key| key.of_variant(keyway, variant)).transpose()?);
    }
    Ok(match arms.len() {
        0 => quote!(::core::option::Option::None),
        keyed if keyed == data.variants.len() => quote!(match self { #(#arms,)* }),
        _ => quote!(match self { #(#arms,)* _ => ::core::option::Option::None }),
    })
}

/// What a variant says of its key.
enum VariantKey {
    Inherited,
    Own(Key),
    None,
}

impl VariantKey {
    fn of(variant: &Variant) -> Result<Self> {
        let remedy = "unknown option; there are `key = field` and `no_key`";
        let Some(attribute) = attribute(&variant.attrs, "message")? else {
            return Ok(Self::Inherited);
        };
        attribute.parse_args_with(|input: ParseStream<'_>| {
            let (mut key, mut no_key) = (None, None);
            each_option(input, |option| match option.to_string().as_str() {
                "key" => value(&mut key, option, input, "key = id"),
                "no_key" => once(&mut no_key, option, ()),
                _ => Err(Error::new(option.span(), remedy)),
            })?;
            match (key, no_key) {
                (Some(key), None) => Ok(Self::Own(key)),
                (None, Some(())) => Ok(Self::None),
                (None, None) => Err(input.error("say `key = field` or `no_key`")),
                (Some(_), Some(())) => Err(Error::new_spanned(
                    attribute,
                    "a variant has a key, `key = field`, or none, `no_key`, but not both",
                )),
            }
        })
    }

    /// The variant's key, if the type has this one.
    fn or<'a>(&'a self, inherited: Option<&'a Key>) -> Option<&'a Key> {
        match self {
            Self::Inherited => inherited,
            Self::Own(own) => Some(own),
            Self::None => None,
        }
    }
}
