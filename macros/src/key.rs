//! What `key = ...` says: one path of fields, or a tuple of them.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Fields, Ident, Index, Member, Result, Token, Variant, parenthesized, token};

/// As many parts as `HashKey` knows tuples of.
const MAX_PARTS: usize = 4;

/// `cart`, `cart.id`
struct FieldPath {
    root: Member,
    rest: Vec<Member>,
}

impl Parse for FieldPath {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let root = input.parse()?;
        let mut rest = Vec::new();
        while input.peek(Token![.]) {
            input.parse::<Token![.]>()?;
            rest.push(input.parse()?);
        }
        Ok(Self { root, rest })
    }
}

/// What a message is routed by.
pub struct Key {
    parts: Vec<FieldPath>,
    tuple: bool,
}

impl Parse for Key {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if !input.peek(token::Paren) {
            return Ok(Self { parts: vec![input.parse()?], tuple: false });
        }
        let inner;
        let paren = parenthesized!(inner in input);
        let parts = Punctuated::<FieldPath, Token![,]>::parse_terminated(&inner)?;
        if !(1..=MAX_PARTS).contains(&parts.len()) {
            let span = paren.span.join();
            return Err(Error::new(span, format!("a key has 1 to {MAX_PARTS} parts")));
        }
        Ok(Self { parts: parts.into_iter().collect(), tuple: true })
    }
}

impl Key {
    /// The hash as an expression, for a struct.
    pub fn of_struct(&self, fields: &Fields) -> Result<TokenStream> {
        self.check(fields, "the key must be a field of this struct")?;
        Ok(self.hash(|_, part| {
            let root = &part.root;
            quote!(self.#root)
        }))
    }

    /// The arm of a `match` for a variant of an enum.
    pub fn of_variant(&self, variant: &Variant) -> Result<TokenStream> {
        let name = &variant.ident;
        let missing = format!(
            "the variant `{name}` has no such field: give it a key of its own, \
             `#[message(key = field)]`, or none, `#[message(no_key)]`"
        );
        if let Err(error) = self.check(&variant.fields, &missing) {
            let mut at_variant = Error::new_spanned(variant, missing);
            at_variant.combine(error);
            return Err(at_variant);
        }
        let bindings = self.parts.iter().enumerate().map(|(at, part)| {
            let (root, binding) = (&part.root, binding(at));
            quote!(#root: #binding)
        });
        let hash = self.hash(|at, _| {
            let binding = binding(at);
            quote!((*#binding))
        });
        Ok(quote!(Self::#name { #(#bindings,)* .. } => #hash))
    }

    fn check(&self, fields: &Fields, missing: &str) -> Result<()> {
        for part in &self.parts {
            if !fields.members().any(|member| member == part.root) {
                return Err(Error::new_spanned(&part.root, missing));
            }
        }
        Ok(())
    }

    fn hash(&self, root: impl Fn(usize, &FieldPath) -> TokenStream) -> TokenStream {
        let parts = self.parts.iter().enumerate().map(|(at, part)| {
            let (root, rest) = (root(at, part), &part.rest);
            quote!(&#root #(.#rest)*)
        });
        let key = if self.tuple { quote!(&(#(#parts,)*)) } else { quote!(#(#parts)*) };
        quote!(::core::option::Option::Some(::keyway::HashKey::hash_key(#key, seed)))
    }
}

fn binding(at: usize) -> Ident {
    format_ident!("key_{}", Index::from(at))
}
