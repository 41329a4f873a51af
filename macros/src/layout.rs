//! The layout of a type, as an expression over the layouts of its fields' archived forms.

use proc_macro2::{TokenStream, TokenTree};
use quote::{format_ident, quote};
use syn::parse::ParseStream;
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, Field, Fields, Ident, LitStr, Member, Path, Result,
    Token, Type, WherePredicate, parenthesized, parse_quote, token,
};

use crate::{Keyway, all_fields, attribute, each_option, refuse, value};

/// `#[derive(Layout)]`
pub fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let mut keyway = Keyway::default();
    if let Some(attribute) = attribute(&input.attrs, "layout")? {
        attribute.parse_args_with(|input: ParseStream<'_>| {
            each_option(input, |option| match option.to_string().as_str() {
                "crate" => keyway.read(option, input),
                _ => Err(Error::new(
                    option.span(),
                    "of a type `layout` says where keyway is, `crate = path`; `name` stands on a \
                     field",
                )),
            })
        })?;
    }
    layout(input, &keyway.path())
}

/// The layout alone, which a message needs as well.
pub fn layout(input: &DeriveInput, keyway: &Path) -> Result<TokenStream> {
    refuse_misplaced(input)?;
    let hash = match &input.data {
        Data::Struct(data) => {
            let fields = fields(&input.ident, &data.fields, keyway)?;
            quote!(LayoutHash::shape::<Self>("struct") #fields)
        }
        Data::Enum(data) => {
            let mut variants = TokenStream::new();
            let (mut base, mut after): (Expr, u64) = (parse_quote!(0), 0);
            for variant in &data.variants {
                if let Some((_, explicit)) = &variant.discriminant {
                    (base, after) = (explicit.clone(), 0);
                }
                let name = variant.ident.to_string();
                let fields = fields(&input.ident, &variant.fields, keyway)?;
                variants.extend(quote!(.variant(#name, (#base) as i128 + #after as i128) #fields));
                after += 1;
            }
            quote!(LayoutHash::shape::<Self>("enum") #variants)
        }
        Data::Union(_) => {
            return Err(Error::new_spanned(&input.ident, "a union cannot travel; use an enum"));
        }
    };
    let (archived, bounds) = archived(input, keyway)?;
    let (generics, ..) = input.generics.split_for_impl();
    let ident = &input.ident;
    // Says of a type without rkyv's derives what it lacks.
    let travels = input.generics.params.is_empty().then(|| {
        quote! {
            const _: fn() = || {
                fn travels<T: #keyway::wire::WireType>() {}
                travels::<#ident>();
            };
        }
    });
    Ok(quote! {
        #travels

        #[automatically_derived]
        impl #generics #keyway::Layout for #archived #bounds {
            const LAYOUT: #keyway::base::LayoutHash = {
                use #keyway::base::LayoutHash;
                #hash
            };
        }
    })
}

fn refuse_misplaced(input: &DeriveInput) -> Result<()> {
    let Data::Enum(data) = &input.data else {
        return Ok(());
    };
    let remedy = "`layout` stands on a field, to name what it is: `#[layout(name = \"uuid\")]`";
    data.variants.iter().try_for_each(|variant| refuse(&variant.attrs, "layout", remedy))
}

/// The archived form of the type, and what must hold of its parameters.
fn archived(input: &DeriveInput, keyway: &Path) -> Result<(TokenStream, TokenStream)> {
    // Not `<Type as Archive>::Archived`: rustc takes such an impl for one that may overlap with
    // those of other crates.
    let mut name = format_ident!("Archived{}", input.ident);
    each_rkyv_option(&input.attrs, |option, value| {
        if option == "archived" {
            name = syn::parse2(value)?;
        }
        Ok(())
    })?;
    // Where it is missing, so is the derive of the type that is written here.
    name.set_span(input.ident.span());
    let (_, parameters, bounds) = input.generics.split_for_impl();
    if input.generics.params.is_empty() {
        return Ok((quote!(#name), quote!(#bounds)));
    }
    let mut bounds: Vec<WherePredicate> =
        bounds.iter().flat_map(|bounds| bounds.predicates.iter().cloned()).collect();
    for field in all_fields(&input.data) {
        let (ty, form) = (&field.ty, archived_field(field, keyway)?);
        if with(field)?.is_none() {
            bounds.push(parse_quote!(#ty: #keyway::rkyv::Archive));
        }
        if named(field)?.is_none() {
            bounds.push(parse_quote!(#form: #keyway::Layout));
        }
    }
    Ok((quote!(#name #parameters), quote!(where #(#bounds,)*)))
}

fn fields(own: &Ident, fields: &Fields, keyway: &Path) -> Result<TokenStream> {
    let mut hash = TokenStream::new();
    for (member, field) in fields.members().zip(fields) {
        refuse_recursion(own, &field.ty)?;
        let name = match &member {
            Member::Named(ident) => ident.to_string(),
            Member::Unnamed(index) => index.index.to_string(),
        };
        let form = archived_field(field, keyway)?;
        let layout = match named(field)? {
            Some(given) => quote!(LayoutHash::shape::<#form>(#given)),
            None => quote!(<#form as #keyway::Layout>::LAYOUT),
        };
        hash.extend(quote!(.field(#name, #layout)));
    }
    Ok(hash)
}

/// What a field is on the wire.
fn archived_field(field: &Field, keyway: &Path) -> Result<TokenStream> {
    let ty = &field.ty;
    Ok(match with(field)? {
        Some(with) => quote!(<#with as #keyway::rkyv::with::ArchiveWith<#ty>>::Archived),
        None => quote!(<#ty as #keyway::rkyv::Archive>::Archived),
    })
}

/// `#[rkyv(with = Wrapper)]`
fn with(field: &Field) -> Result<Option<Type>> {
    let mut with = None;
    each_rkyv_option(&field.attrs, |option, value| {
        if option == "with" {
            with = Some(syn::parse2(value)?);
        }
        Ok(())
    })?;
    Ok(with)
}

/// `#[layout(name = "...")]` of a field
fn named(field: &Field) -> Result<Option<LitStr>> {
    let Some(attribute) = attribute(&field.attrs, "layout")? else {
        return Ok(None);
    };
    let remedy = "say what the field is: `#[layout(name = \"uuid\")]`";
    let mut named = None::<LitStr>;
    attribute.parse_args_with(|input: ParseStream<'_>| {
        each_option(input, |option| match option.to_string().as_str() {
            "name" => value(&mut named, option, input, "name = \"uuid\""),
            _ => Err(Error::new(option.span(), format!("unknown option; {remedy}"))),
        })
    })?;
    match named {
        Some(name) if !name.value().is_empty() => Ok(Some(name)),
        _ => Err(Error::new_spanned(attribute, remedy)),
    }
}

/// Calls with each `option = value` of rkyv's attributes; options of other forms are left to rkyv.
fn each_rkyv_option(
    attributes: &[Attribute],
    mut found: impl FnMut(&Ident, TokenStream) -> Result<()>,
) -> Result<()> {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("rkyv")) {
        attribute.parse_nested_meta(|meta| {
            if meta.input.peek(token::Paren) {
                let inner;
                parenthesized!(inner in meta.input);
                inner.parse::<TokenStream>()?;
            } else if meta.input.peek(Token![=]) {
                let value = meta.value()?.parse::<Type>()?;
                if let Some(option) = meta.path.get_ident() {
                    found(option, quote!(#value))?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A type that contains itself can be nested as deep as a sender likes, and checking it would take
/// the worker's stack.
fn refuse_recursion(own: &Ident, ty: &Type) -> Result<()> {
    match mention(own, quote!(#ty)) {
        None => Ok(()),
        Some(ident) => Err(Error::new(
            ident.span(),
            format!(
                "`{own}` contains itself, and such a type cannot travel: a sender could nest it \
                 until checking it overflows the stack. Send a flat list instead, whose entries \
                 name their parent by index: `entries: Vec<Entry>`, `parent: Option<u32>`"
            ),
        )),
    }
}

/// Where a type is named, alone and not as a part of another's path.
fn mention(own: &Ident, tokens: TokenStream) -> Option<Ident> {
    let mut after_colon = false;
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let was_after = std::mem::replace(&mut after_colon, false);
        match token {
            TokenTree::Ident(ident) if ident == "Self" || ident == *own => {
                let is_prefix =
                    matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == ':');
                if !was_after && !is_prefix {
                    return Some(ident);
                }
            }
            TokenTree::Punct(punct) => after_colon = punct.as_char() == ':',
            TokenTree::Group(group) => {
                if let Some(found) = mention(own, group.stream()) {
                    return Some(found);
                }
            }
            _ => {}
        }
    }
    None
}
