//! `#[derive(Message)]`

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Data, DataEnum, DeriveInput, Error, Ident, LitStr, Result, Token, Type, Variant};

use crate::key::Key;
use crate::{attribute, once};

struct Options {
    name: LitStr,
    key: Option<Key>,
    reply: Option<Type>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let (mut name, mut key, mut reply) = (None, None, None);
        while !input.is_empty() {
            let option: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            if option == "name" {
                once(&mut name, &option, input.parse::<LitStr>()?)?;
            } else if option == "key" {
                once(&mut key, &option, input.parse()?)?;
            } else if option == "reply" {
                once(&mut reply, &option, input.parse()?)?;
            } else {
                return Err(Error::new(
                    option.span(),
                    "unknown option; there are `name`, `key` and `reply`",
                ));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let name = name.ok_or_else(|| {
            input.error("the message needs a name that all nodes share: `name = \"shop.add_item\"`")
        })?;
        let length = name.value().len();
        if length == 0 || length > 128 {
            return Err(Error::new(name.span(), "a message's name has 1 to 128 bytes"));
        }
        Ok(Self { name, key, reply })
    }
}

pub fn message(input: &DeriveInput) -> Result<TokenStream> {
    let missing = "add `#[message(name = \"...\")]` with the name that all nodes share";
    let Options { name, key, reply } = attribute(input, "message", missing)?.parse_args()?;
    let layout = crate::layout::layout(input)?;
    let key_hash = key_hash(input, key.as_ref())?;
    let ident = &input.ident;
    let (generics, parameters, bounds) = input.generics.split_for_impl();
    let reply = reply.map_or_else(|| quote!(()), |reply| quote!(#reply));
    Ok(quote! {
        #layout

        #[automatically_derived]
        impl #generics ::keyway::Message for #ident #parameters #bounds {
            type Reply = #reply;
            const NAME: &'static str = #name;
            #[inline]
            fn key_hash(&self, seed: ::keyway::HashSeed) -> ::core::option::Option<u64> {
                let _ = seed;
                #key_hash
            }
        }
    })
}

fn key_hash(input: &DeriveInput, key: Option<&Key>) -> Result<TokenStream> {
    match (&input.data, key) {
        (Data::Struct(data), Some(key)) => key.of_struct(&data.fields),
        (Data::Enum(data), key) => key_hash_of_enum(data, key),
        _ => Ok(quote!(::core::option::Option::None)),
    }
}

fn key_hash_of_enum(data: &DataEnum, key: Option<&Key>) -> Result<TokenStream> {
    let mut arms = Vec::new();
    for variant in &data.variants {
        let own = VariantKey::of(variant)?;
        let key = match &own {
            VariantKey::Own(own) => Some(own),
            VariantKey::None => None,
            VariantKey::Inherited => key,
        };
        arms.extend(key.map(|key| key.of_variant(variant)).transpose()?);
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
        let mut found = Self::Inherited;
        for attribute in variant.attrs.iter().filter(|known| known.path().is_ident("message")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("key") {
                    found = Self::Own(meta.value()?.parse()?);
                } else if meta.path.is_ident("no_key") {
                    found = Self::None;
                } else {
                    return Err(meta.error("unknown option; there are `key = field` and `no_key`"));
                }
                Ok(())
            })?;
        }
        Ok(found)
    }
}
