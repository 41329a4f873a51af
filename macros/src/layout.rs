//! The layout of a type, as an expression over the layouts of its fields' archived forms.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::ParseStream;
use syn::{
    Data, DeriveInput, Error, Expr, Field, Fields, LitStr, Member, Path, Result, Type,
    WherePredicate, parse_quote,
};

use crate::recursion::refuse_recursion;
use crate::rkyv::{Archived, archived_field, is_remote, with};
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
    let keyway = keyway.path();
    let layout = layout(input, &keyway)?;
    if !input.generics.params.is_empty() || is_remote(input)? {
        return Ok(layout);
    }
    let ident = &input.ident;
    Ok(quote! {
        #layout

        // Says of a type without rkyv's derives what it lacks.
        const _: fn() = || {
            fn travels<T: #keyway::wire::WireType>() {}
            travels::<#ident>();
        };
    })
}

/// The layout alone, which a message needs as well.
pub fn layout(input: &DeriveInput, keyway: &Path) -> Result<TokenStream> {
    refuse_misplaced(input)?;
    if let Data::Union(_) = &input.data {
        return Err(Error::new_spanned(&input.ident, "a union cannot travel; use an enum"));
    }
    for field in all_fields(&input.data) {
        refuse_recursion(&input.ident, field)?;
    }
    let archived = Archived::of(input)?;
    let hash = Forms { keyway, archived: &archived }.hash(&input.data)?;
    let check = refuse_cycle(input, &archived, keyway);
    let ident = &input.ident;
    let (generics, parameters, bounds) = input.generics.split_for_impl();
    let (archived, bounds) = match archived {
        // Whoever made it says what its bytes mean.
        Archived::As(_) => return Ok(check),
        Archived::Itself => (quote!(#ident #parameters), quote!(#bounds)),
        // Not `<Type as Archive>::Archived`: rustc takes such an impl for one that may overlap
        // with those of other crates.
        Archived::Made(name) => (quote!(#name #parameters), made_bounds(input, keyway)?),
    };
    Ok(quote! {
        #check

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

/// Makes the layout of a type without parameters at once; of others it is made where they are used.
fn refuse_cycle(input: &DeriveInput, archived: &Archived, keyway: &Path) -> TokenStream {
    if !input.generics.params.is_empty() {
        return TokenStream::new();
    }
    let ident = &input.ident;
    let archived = match archived {
        Archived::Made(name) => quote!(#name),
        Archived::Itself => quote!(#ident),
        Archived::As(other) => quote!(#other),
    };
    // Of a type that contains itself by way of others rustc says "cycle", and this name.
    quote! {
        const _: () = {
            #[allow(dead_code)]
            const A_TYPE_THAT_CONTAINS_ITSELF_CANNOT_TRAVEL_SO_SEND_A_FLAT_LIST:
                #keyway::base::LayoutHash = <#archived as #keyway::Layout>::LAYOUT;
        };
    }
}

/// What must hold of the parameters of a type, so that the form that rkyv made has a layout.
fn made_bounds(input: &DeriveInput, keyway: &Path) -> Result<TokenStream> {
    let (_, _, bounds) = input.generics.split_for_impl();
    if input.generics.params.is_empty() {
        return Ok(quote!(#bounds));
    }
    let mut bounds: Vec<WherePredicate> =
        bounds.iter().flat_map(|bounds| bounds.predicates.iter().cloned()).collect();
    for field in all_fields(&input.data) {
        let (ty, form) = (&field.ty, archived_field(field, keyway)?);
        bounds.push(match with(field)? {
            Some(with) => parse_quote!(#with: #keyway::rkyv::with::ArchiveWith<#ty>),
            None => parse_quote!(#ty: #keyway::rkyv::Archive),
        });
        if named(field)?.is_none() {
            bounds.push(parse_quote!(#form: #keyway::Layout));
        }
    }
    Ok(quote!(where #(#bounds,)*))
}

/// What a type's fields are on the wire.
struct Forms<'a> {
    keyway: &'a Path,
    archived: &'a Archived,
}

impl Forms<'_> {
    fn hash(&self, data: &Data) -> Result<TokenStream> {
        let data = match data {
            Data::Struct(data) => {
                let fields = self.fields(&data.fields)?;
                return Ok(quote!(LayoutHash::shape::<Self>("struct") #fields));
            }
            Data::Enum(data) => data,
            Data::Union(_) => return Ok(TokenStream::new()),
        };
        let mut variants = TokenStream::new();
        let (mut base, mut after): (Expr, u64) = (parse_quote!(0), 0);
        for variant in &data.variants {
            if let Some((_, explicit)) = &variant.discriminant {
                (base, after) = (explicit.clone(), 0);
            }
            let name = variant.ident.to_string();
            let fields = self.fields(&variant.fields)?;
            variants.extend(quote!(.variant(#name, (#base) as i128 + #after as i128) #fields));
            after += 1;
        }
        Ok(quote!(LayoutHash::shape::<Self>("enum") #variants))
    }

    fn fields(&self, fields: &Fields) -> Result<TokenStream> {
        let keyway = self.keyway;
        let mut hash = TokenStream::new();
        for (member, field) in fields.members().zip(fields) {
            let name = match &member {
                Member::Named(ident) => ident.to_string(),
                Member::Unnamed(index) => index.index.to_string(),
            };
            let form = self.form(field)?;
            let layout = match named(field)? {
                Some(given) => quote!({
                    use #keyway::wire::layout::Unnamed as _;
                    #keyway::wire::layout::Named::<#form>::with_layout(
                        LayoutHash::shape::<#form>(#given),
                        #keyway::wire::layout::Named::<#form>::OWN,
                    )
                }),
                None => quote!(<#form as #keyway::Layout>::LAYOUT),
            };
            hash.extend(quote!(.field(#name, #layout)));
        }
        Ok(hash)
    }

    fn form(&self, field: &Field) -> Result<Type> {
        match self.archived {
            Archived::Itself => Ok(field.ty.clone()),
            _ => archived_field(field, self.keyway),
        }
    }
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
