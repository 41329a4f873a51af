//! `#[derive(Routee)]`

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{DeriveInput, Error, Ident, Path, Result, Token, Type, parenthesized};

use crate::{attribute, once};

#[derive(Default)]
struct Options {
    messages: Option<Vec<Type>>,
    started: Option<Path>,
    wake: Option<Path>,
    stopped: Option<Path>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options = Self::default();
        while !input.is_empty() {
            let option: Ident = input.parse()?;
            if option == "handles" {
                let list;
                parenthesized!(list in input);
                let messages = Punctuated::<Type, Token![,]>::parse_terminated(&list)?;
                once(&mut options.messages, &option, messages.into_iter().collect())?;
            } else if option == "started" {
                once(&mut options.started, &option, hook(&option, input)?)?;
            } else if option == "wake" {
                once(&mut options.wake, &option, hook(&option, input)?)?;
            } else if option == "stopped" {
                once(&mut options.stopped, &option, hook(&option, input)?)?;
            } else {
                return Err(Error::new(
                    option.span(),
                    "unknown option; there are `handles(A, B)`, `started = Self::open`, \
                     `wake = Self::tick` and `stopped = Self::close`",
                ));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
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
    let missing = "add `#[routee(handles(A, B))]` with the message types it has a `Handler` for";
    let options: Options = attribute(input, "routee", missing)?.parse_args()?;
    let messages = options.messages.unwrap_or_default();
    let started = options.started.map(|path| {
        quote! {
            fn started(&mut self, cx: &mut ::keyway::Context<'_>) {
                #path(self, cx);
            }
        }
    });
    let wake = options.wake.map(|path| {
        quote! {
            fn wake(&mut self, token: u64, cx: &mut ::keyway::Context<'_>) {
                #path(self, token, cx);
            }
        }
    });
    let stopped = options.stopped.map(|path| {
        quote! {
            fn stopped(&mut self, cx: &mut ::keyway::Context<'_>) {
                #path(self, cx);
            }
        }
    });
    let ident = &input.ident;
    let (generics, parameters, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #generics ::keyway::Routee for #ident #parameters #bounds {
            fn register(handlers: &mut ::keyway::HandlerTable<Self>) {
                #( handlers.add::<#messages>(); )*
            }
            #started
            #wake
            #stopped
        }
    })
}
