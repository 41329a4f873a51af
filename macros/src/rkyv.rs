//! What rkyv's attributes say of the archived form.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Attribute, DeriveInput, Field, Ident, Path, Result, Token, Type, parenthesized, parse_quote,
    token,
};

/// What a type is on the wire.
pub enum Archived {
    /// The type of this name, which rkyv's derive makes.
    Made(Ident),
    /// The type itself: `#[rkyv(as = Point)]` on `Point`.
    Itself,
    /// A type that somebody else made: `#[rkyv(as = ...)]`.
    As(Type),
}

impl Archived {
    pub fn of(input: &DeriveInput) -> Result<Self> {
        let ident = &input.ident;
        // Where that is missing, so is the derive of the type that is written here: all errors
        // about it stand at the type's name.
        let made = |mut name: Ident| {
            name.set_span(ident.span());
            Self::Made(name)
        };
        let mut found = made(format_ident!("Archived{}", ident));
        each_option(&input.attrs, |option, value| {
            if option == "archived" {
                found = made(syn::parse2(quote!(#value))?);
            } else if option == "as" {
                found = if names(&value, ident) { Self::Itself } else { Self::As(value) };
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// Whether a type is this one, with whatever parameters.
pub fn names(ty: &Type, own: &Ident) -> bool {
    let Type::Path(ty) = ty else {
        return false;
    };
    let segments = &ty.path.segments;
    let of_here = segments.len() == 1 || segments.len() == 2 && segments[0].ident == "self";
    let last = segments.last().map(|last| &last.ident);
    ty.qself.is_none() && of_here && last.is_some_and(|last| last == "Self" || last == own)
}

/// What a field is on the wire.
pub fn archived_field(field: &Field, keyway: &Path) -> Result<Type> {
    let ty = &field.ty;
    Ok(match with(field)? {
        Some(with) => parse_quote!(<#with as #keyway::rkyv::with::ArchiveWith<#ty>>::Archived),
        None => parse_quote!(<#ty as #keyway::rkyv::Archive>::Archived),
    })
}

/// `#[rkyv(with = Wrapper)]`
pub fn with(field: &Field) -> Result<Option<Type>> {
    let mut with = None;
    each_option(&field.attrs, |option, value| {
        if option == "with" {
            with = Some(value);
        }
        Ok(())
    })?;
    Ok(with)
}

/// `#[rkyv(remote = Type)]`: this type stands for another one, and does not travel itself.
pub fn is_remote(input: &DeriveInput) -> Result<bool> {
    let mut remote = false;
    each_option(&input.attrs, |option, _| {
        remote |= option == "remote";
        Ok(())
    })?;
    Ok(remote)
}

/// Calls with each `option = value`; options of other forms are left to rkyv.
fn each_option(
    attributes: &[Attribute],
    mut found: impl FnMut(&Ident, Type) -> Result<()>,
) -> Result<()> {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("rkyv")) {
        attribute.parse_args_with(|input: syn::parse::ParseStream<'_>| {
            crate::each_option(input, |option| {
                if input.peek(token::Paren) {
                    let inner;
                    parenthesized!(inner in input);
                    inner.parse::<TokenStream>()?;
                } else if input.peek(Token![=]) {
                    input.parse::<Token![=]>()?;
                    found(option, input.parse()?)?;
                }
                Ok(())
            })
        })?;
    }
    Ok(())
}
