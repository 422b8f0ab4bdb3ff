//! What ends a read.
//!
//! Owns: [`Separators`], one byte string or several, and [`Separator`], one of them. Why: asyncio
//! takes a byte string or a tuple of them under one name, and here a type says which it is.
//! Invariants: asked once for each read, before it begins and with nothing borrowed, since a
//! type of the user's may answer. asyncio's counterpart: the argument of `readuntil`.

use std::borrow::Cow;

/// One byte string that ends a read.
///
/// A trait of its own, since `[u8; 2]` is one separator of two bytes, and not two.
pub trait Separator {
    /// Its bytes.
    fn as_bytes(&self) -> &[u8];
}

/// What [`StreamReader::readuntil`](crate::StreamReader::readuntil) reads until: a byte string or
/// a `str`, or several of them in a tuple, an array, a slice or a `Vec`.
pub trait Separators {
    /// What holds the slices for as long as the read goes on.
    type Slices<'a>: AsRef<[&'a [u8]]>
    where
        Self: 'a;

    /// All separators. Their order has no meaning.
    fn slices(&self) -> Self::Slices<'_>;
}

impl<T: Separator + ?Sized> Separator for &T {
    fn as_bytes(&self) -> &[u8] {
        T::as_bytes(self)
    }
}

impl<T: Separators + ?Sized> Separators for &T {
    type Slices<'a>
        = T::Slices<'a>
    where
        Self: 'a;

    fn slices(&self) -> Self::Slices<'_> {
        T::slices(self)
    }
}

macro_rules! one {
    ($([$($n:tt)*] $of:ty),* $(,)?) => {$(
        impl$($n)* Separator for $of {
            fn as_bytes(&self) -> &[u8] {
                self.as_ref()
            }
        }

        impl$($n)* Separators for $of {
            type Slices<'a>
                = [&'a [u8]; 1]
            where
                Self: 'a;

            fn slices(&self) -> Self::Slices<'_> {
                [Separator::as_bytes(self)]
            }
        }
    )*};
}

one![
    [] [u8],
    [<const N: usize>] [u8; N],
    [] Vec<u8>,
    [] Box<[u8]>,
    [] Cow<'_, [u8]>,
    [] str,
    [] String,
];

impl<T: Separator, const N: usize> Separators for [T; N] {
    type Slices<'a>
        = [&'a [u8]; N]
    where
        Self: 'a;

    fn slices(&self) -> Self::Slices<'_> {
        self.each_ref().map(Separator::as_bytes)
    }
}

impl<T: Separator> Separators for [T] {
    type Slices<'a>
        = Vec<&'a [u8]>
    where
        Self: 'a;

    fn slices(&self) -> Self::Slices<'_> {
        self.iter().map(Separator::as_bytes).collect()
    }
}

impl<T: Separator> Separators for Vec<T> {
    type Slices<'a>
        = Vec<&'a [u8]>
    where
        Self: 'a;

    fn slices(&self) -> Self::Slices<'_> {
        self.as_slice().slices()
    }
}

macro_rules! tuple {
    ($n:literal $($name:ident)*) => {
        impl<$($name: Separator),*> Separators for ($($name,)*) {
            type Slices<'a>
                = [&'a [u8]; $n]
            where
                Self: 'a;

            fn slices(&self) -> Self::Slices<'_> {
                #[allow(non_snake_case, reason = "a type and its value, under one name")]
                let ($($name,)*) = self;
                [$($name.as_bytes()),*]
            }
        }
    };
}

tuple!(0);
tuple!(1 A);
tuple!(2 A B);
tuple!(3 A B C);
tuple!(4 A B C D);
tuple!(5 A B C D E);
tuple!(6 A B C D E F);
