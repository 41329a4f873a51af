//! Derive macros for keyway: `Message` and `Routee`. Documented where keyway re-exports them.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{
    Data, DeriveInput, Error, Ident, LitStr, Member, Result, Token, Type, parse_macro_input,
};

/// Derives `keyway::Message`: `#[message(name = "shop.add_item", key = cart, reply = Total)]`.
///
/// `name` is needed; `key` is a field whose hash routes the message; `reply` is the type an ask is
/// answered with, `()` if not given.
#[proc_macro_derive(Message, attributes(message))]
pub fn derive_message(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    message(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Derives `keyway::Routee`: `#[routee(handles(AddItem, GetTotal))]`.
#[proc_macro_derive(Routee, attributes(routee))]
pub fn derive_routee(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    routee(&input).unwrap_or_else(Error::into_compile_error).into()
}

struct MessageOptions {
    name: LitStr,
    key: Option<Member>,
    reply: Option<Type>,
}

impl Parse for MessageOptions {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let (mut name, mut key, mut reply) = (None, None, None);
        while !input.is_empty() {
            let option: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            if option == "name" {
                name = Some(input.parse::<LitStr>()?);
            } else if option == "key" {
                key = Some(input.parse()?);
            } else if option == "reply" {
                reply = Some(input.parse()?);
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

fn message(input: &DeriveInput) -> Result<TokenStream> {
    let attribute =
        input.attrs.iter().find(|attribute| attribute.path().is_ident("message")).ok_or_else(
            || {
                Error::new_spanned(
                    &input.ident,
                    "add `#[message(name = \"...\")]` with the type's name",
                )
            },
        )?;
    let MessageOptions { name, key, reply } = attribute.parse_args()?;
    if let Some(key) = &key {
        check_field(input, key)?;
    }
    let ident = &input.ident;
    let (generics, parameters, bounds) = input.generics.split_for_impl();
    let reply = reply.map_or_else(|| quote!(()), |reply| quote!(#reply));
    let (seed, key) = match key {
        Some(key) => (
            quote!(seed),
            quote!(::core::option::Option::Some(::keyway::HashKey::hash_key(&self.#key, seed))),
        ),
        None => (quote!(_), quote!(::core::option::Option::None)),
    };
    Ok(quote! {
        impl #generics ::keyway::Message for #ident #parameters #bounds {
            type Reply = #reply;
            const NAME: &'static str = #name;
            #[inline]
            fn key_hash(&self, #seed: ::keyway::HashSeed) -> ::core::option::Option<u64> {
                #key
            }
        }
    })
}

fn check_field(input: &DeriveInput, key: &Member) -> Result<()> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "`key = field` needs a struct; implement `Message` by hand for an enum with keys",
        ));
    };
    if data.fields.members().any(|member| member == *key) {
        Ok(())
    } else {
        Err(Error::new_spanned(key, "the key must be a field of this struct"))
    }
}

struct RouteeOptions {
    messages: Vec<Type>,
}

impl Parse for RouteeOptions {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let option: Ident = input.parse()?;
        if option != "handles" {
            return Err(Error::new(option.span(), "unknown option; there is `handles(A, B)`"));
        }
        let list;
        syn::parenthesized!(list in input);
        let messages = Punctuated::<Type, Token![,]>::parse_terminated(&list)?;
        Ok(Self { messages: messages.into_iter().collect() })
    }
}

fn routee(input: &DeriveInput) -> Result<TokenStream> {
    let attribute =
        input.attrs.iter().find(|attribute| attribute.path().is_ident("routee")).ok_or_else(
            || {
                Error::new_spanned(
                    &input.ident,
                    "add `#[routee(handles(A, B))]` with the message types it has a `Handler` for",
                )
            },
        )?;
    let RouteeOptions { messages } = attribute.parse_args()?;
    let ident = &input.ident;
    let (generics, parameters, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        impl #generics ::keyway::Routee for #ident #parameters #bounds {
            fn register(handlers: &mut ::keyway::HandlerTable<Self>) {
                #( handlers.add::<#messages>(); )*
            }
        }
    })
}
