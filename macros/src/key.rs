//! What `key = ...` says: one path of fields, or a tuple of them.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{
    Error, Fields, Ident, Index, LitFloat, Member, Path, Result, Token, Type, Variant,
    parenthesized, token,
};

/// As many parts as `HashKey` knows tuples of.
const MAX_PARTS: usize = 4;

/// `cart`, `cart.id`, `0.1`
struct FieldPath {
    root: Member,
    rest: Vec<Member>,
}

impl Parse for FieldPath {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut members = Vec::new();
        member(input, &mut members)?;
        while input.peek(Token![.]) {
            input.parse::<Token![.]>()?;
            member(input, &mut members)?;
        }
        if !input.is_empty() && !input.peek(Token![,]) {
            return Err(input.error(
                "a key is a field and no more; for one that is computed there is \
                 `router.key(|message| ...)`",
            ));
        }
        let root = members.remove(0);
        Ok(Self { root, rest: members })
    }
}

/// The next member of a path, or the next two: to the compiler `0.1` is a single number.
fn member(input: ParseStream<'_>, members: &mut Vec<Member>) -> Result<()> {
    let wanted = "name a field: `cart`, `cart.id`, `0` or `0.1`, or up to four in brackets";
    if !input.peek(LitFloat) {
        let one = input.parse().map_err(|error| Error::new(error.span(), wanted))?;
        members.push(one);
        return Ok(());
    }
    let number: LitFloat = input.parse()?;
    for digits in number.token().to_string().split('.') {
        let index = digits.parse().map_err(|_| Error::new(number.span(), wanted))?;
        members.push(Member::Unnamed(Index { index, span: number.span() }));
    }
    Ok(())
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
        // As everywhere in Rust: `(cart)` is `cart`, `(cart,)` is a tuple.
        let tuple = parts.len() > 1 || parts.trailing_punct();
        Ok(Self { parts: parts.into_iter().collect(), tuple })
    }
}

impl Key {
    /// The hash as an expression, for a struct.
    pub fn of_struct(&self, keyway: &Path, fields: &Fields) -> Result<TokenStream> {
        self.check(fields, "the key must be a field of this struct")?;
        Ok(self.hash(keyway, |root| quote!(self.#root)))
    }

    /// The arm of a `match` for a variant of an enum.
    pub fn of_variant(&self, keyway: &Path, variant: &Variant) -> Result<TokenStream> {
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
        let roots = self.roots();
        let bindings = roots.iter().map(|root| {
            let binding = binding(root);
            quote!(#root: #binding)
        });
        let hash = self.hash(keyway, |root| {
            let binding = binding(root);
            quote!((*#binding))
        });
        Ok(quote!(Self::#name { #(#bindings,)* .. } => #hash))
    }

    /// The types of the fields that are parts of the key themselves, not by a field of theirs.
    pub fn whole_fields<'a>(&self, fields: &'a Fields) -> Vec<&'a Type> {
        let whole = |member: &Member| {
            self.parts.iter().any(|part| part.rest.is_empty() && part.root == *member)
        };
        let members = fields.members().zip(fields).filter(|(member, _)| whole(member));
        members.map(|(_, field)| &field.ty).collect()
    }

    /// The fields that the parts begin with, each once.
    fn roots(&self) -> Vec<&Member> {
        let mut roots = Vec::new();
        for part in &self.parts {
            if !roots.contains(&&part.root) {
                roots.push(&part.root);
            }
        }
        roots
    }

    fn check(&self, fields: &Fields, missing: &str) -> Result<()> {
        for root in self.roots() {
            if !fields.members().any(|member| member == *root) {
                return Err(Error::new_spanned(root, missing));
            }
        }
        Ok(())
    }

    fn hash(&self, keyway: &Path, root: impl Fn(&Member) -> TokenStream) -> TokenStream {
        let parts = self.parts.iter().map(|part| {
            let (root, rest) = (root(&part.root), &part.rest);
            quote!(&#root #(.#rest)*)
        });
        let key = if self.tuple { quote!(&(#(#parts,)*)) } else { quote!(#(#parts)*) };
        quote!(::core::option::Option::Some(#keyway::HashKey::hash_key(#key, seed)))
    }
}

/// What a variant's field is bound to.
fn binding(root: &Member) -> Ident {
    let span = Span::mixed_site();
    match root {
        Member::Named(name) => format_ident!("key_{}", name, span = span),
        Member::Unnamed(index) => format_ident!("key_{}", index.index, span = span),
    }
}
