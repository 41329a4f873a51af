//! `#[derive(Routee)]`

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Data, DeriveInput, Error, Ident, Path, Result, Token, Type, parenthesized, token};

use crate::{Keyway, all_fields, attribute, each_option, once, refuse};

#[derive(Default)]
struct Options {
    messages: Option<Vec<Type>>,
    started: Option<Path>,
    wake: Option<Path>,
    stopped: Option<Path>,
    keyway: Keyway,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options = Self::default();
        each_option(input, |option| match option.to_string().as_str() {
            "handles" => once(&mut options.messages, option, messages(option, input)?),
            "started" => once(&mut options.started, option, hook(option, input)?),
            "wake" => once(&mut options.wake, option, hook(option, input)?),
            "stopped" => once(&mut options.stopped, option, hook(option, input)?),
            "crate" => options.keyway.read(option, input),
            _ => Err(Error::new(
                option.span(),
                "unknown option; there are `handles(A, B)`, `started = Self::open`, \
                 `wake = Self::tick`, `stopped = Self::close` and `crate = path`",
            )),
        })?;
        Ok(options)
    }
}

/// `(A, B)`
fn messages(option: &Ident, input: ParseStream<'_>) -> Result<Vec<Type>> {
    if !input.peek(token::Paren) {
        return Err(Error::new(option.span(), "list the message types: `handles(A, B)`"));
    }
    let list;
    parenthesized!(list in input);
    let messages = Punctuated::<Type, Token![,]>::parse_terminated(&list)?;
    let mut known = BTreeSet::new();
    match messages.iter().find(|message| !known.insert(quote!(#message).to_string())) {
        None => Ok(messages.into_iter().collect()),
        Some(again) => Err(Error::new_spanned(again, "this message is listed twice")),
    }
}

/// The function that stands for a hook of the routee's life.
fn hook(option: &Ident, input: ParseStream<'_>) -> Result<Path> {
    let example = format!("name the function to call: `{option} = Self::on_{option}`");
    if !input.peek(Token![=]) {
        return Err(Error::new(option.span(), example));
    }
    input.parse::<Token![=]>()?;
    let path: Path = input.parse()?;
    // It would call itself for ever if the type has no function of that name.
    if path.segments.last().is_some_and(|last| last.ident == *option) {
        let text = format!("give the function another name than the hook's; {example}");
        return Err(Error::new_spanned(&path, text));
    }
    Ok(path)
}

pub fn routee(input: &DeriveInput) -> Result<TokenStream> {
    refuse_misplaced(input)?;
    let options = attribute(&input.attrs, "routee")?.ok_or_else(|| {
        let missing =
            "add `#[routee(handles(A, B))]` with the message types it has a `Handler` for";
        Error::new_spanned(&input.ident, missing)
    })?;
    let Options { messages, started, wake, stopped, keyway } = options.parse_args()?;
    let keyway = keyway.path();
    let messages = messages.ok_or_else(|| {
        let missing = "list the message types it has a `Handler` for: `handles(A, B)`; \
                       `handles()` if it only wakes";
        Error::new_spanned(options, missing)
    })?;
    let started = started.map(|path| {
        quote! {
            fn started(&mut self, cx: &mut #keyway::Context<'_>) {
                #path(self, cx);
            }
        }
    });
    let wake = wake.map(|path| {
        quote! {
            fn wake(&mut self, token: u64, cx: &mut #keyway::Context<'_>) {
                #path(self, token, cx);
            }
        }
    });
    let stopped = stopped.map(|path| {
        quote! {
            fn stopped(&mut self, cx: &mut #keyway::Context<'_>) {
                #path(self, cx);
            }
        }
    });
    let ident = &input.ident;
    let (generics, parameters, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #generics #keyway::Routee for #ident #parameters #bounds {
            fn register(handlers: &mut #keyway::HandlerTable<Self>) {
                #( handlers.add::<#messages>(); )*
            }
            #started
            #wake
            #stopped
        }
    })
}

fn refuse_misplaced(input: &DeriveInput) -> Result<()> {
    let remedy = "`routee` stands on the type: `#[routee(handles(A, B))]`";
    if let Data::Enum(data) = &input.data {
        data.variants.iter().try_for_each(|variant| refuse(&variant.attrs, "routee", remedy))?;
    }
    all_fields(&input.data).iter().try_for_each(|field| refuse(&field.attrs, "routee", remedy))
}
