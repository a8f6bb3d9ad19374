//! Declarations of wire types: written once, both directions generated.

/// Structures whose fields are encoded in order. Generates the struct, `Decode` and `Encode`.
macro_rules! xdr_struct {
    ($($(#[$m:meta])* pub struct $n:ident $(<$lt:lifetime>)? {
        $($(#[$fm:meta])* pub $f:ident: $t:ty,)*
    })*) => {$(
        $(#[$m])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $n $(<$lt>)? {
            $($(#[$fm])* pub $f: $t,)*
        }
        $crate::xdr::xdr_struct!(@decode $n $(<$lt>)? { $($f,)* });
        impl $(<$lt>)? $crate::xdr::Encode for $n $(<$lt>)? {
            #[inline]
            fn encode(&self, _enc: &mut $crate::xdr::Enc<'_>) -> $crate::xdr::Result<()> {
                $($crate::xdr::Encode::encode(&self.$f, _enc)?;)*
                Ok(())
            }
        }
    )*};
    (@decode $n:ident { $($f:ident,)* }) => {
        impl<'de> $crate::xdr::Decode<'de> for $n {
            #[inline]
            fn decode(_dec: &mut $crate::xdr::Dec<'de>) -> $crate::xdr::Result<Self> {
                Ok(Self { $($f: $crate::xdr::Decode::decode(_dec)?,)* })
            }
        }
        #[cfg(any(test, feature = "samples"))]
        impl<'tape> $crate::xdr::Sample<'tape> for $n {
            fn sample(_tape: &mut $crate::xdr::Tape<'tape>) -> Self {
                Self { $($f: $crate::xdr::Sample::sample(_tape),)* }
            }
        }
    };
    (@decode $n:ident <$lt:lifetime> { $($f:ident,)* }) => {
        impl<$lt> $crate::xdr::Decode<$lt> for $n<$lt> {
            #[inline]
            fn decode(_dec: &mut $crate::xdr::Dec<$lt>) -> $crate::xdr::Result<Self> {
                Ok(Self { $($f: $crate::xdr::Decode::decode(_dec)?,)* })
            }
        }
        #[cfg(any(test, feature = "samples"))]
        impl<$lt> $crate::xdr::Sample<$lt> for $n<$lt> {
            fn sample(_tape: &mut $crate::xdr::Tape<$lt>) -> Self {
                Self { $($f: $crate::xdr::Sample::sample(_tape),)* }
            }
        }
    };
}

/// Structures of constant size: like `xdr_struct!`, but read and written as one piece, so that a
/// hot structure costs one bounds check.
macro_rules! xdr_block {
    ($($(#[$m:meta])* pub struct $n:ident {
        $($(#[$fm:meta])* pub $f:ident: $t:ty,)*
    })*) => {$(
        $(#[$m])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $n {
            $($(#[$fm])* pub $f: $t,)*
        }
        impl $crate::xdr::Block for $n {
            const SIZE: usize = 0 $(+ <$t as $crate::xdr::Block>::SIZE)*;
            #[inline]
            fn put(&self, out: &mut [u8]) {
                let mut _at = 0;
                $(
                    $crate::xdr::Block::put(
                        &self.$f,
                        &mut out[_at.._at + <$t as $crate::xdr::Block>::SIZE],
                    );
                    _at += <$t as $crate::xdr::Block>::SIZE;
                )*
            }
            #[inline]
            fn get(raw: &[u8]) -> $crate::xdr::Result<Self> {
                let mut _rest = raw;
                $(
                    let (part, tail) = _rest
                        .split_at_checked(<$t as $crate::xdr::Block>::SIZE)
                        .ok_or($crate::xdr::XdrError::Short)?;
                    let $f = <$t as $crate::xdr::Block>::get(part)?;
                    _rest = tail;
                )*
                Ok(Self { $($f,)* })
            }
        }
        impl $crate::xdr::Decode<'_> for $n {
            #[inline]
            fn decode(dec: &mut $crate::xdr::Dec<'_>) -> $crate::xdr::Result<Self> {
                let raw = dec.fixed::<{ <$n as $crate::xdr::Block>::SIZE }>()?;
                <$n as $crate::xdr::Block>::get(raw)
            }
        }
        impl $crate::xdr::Encode for $n {
            #[inline]
            fn encode(&self, enc: &mut $crate::xdr::Enc<'_>) -> $crate::xdr::Result<()> {
                let mut raw = [0_u8; <$n as $crate::xdr::Block>::SIZE];
                $crate::xdr::Block::put(self, &mut raw);
                enc.raw(&raw)
            }
        }
        #[cfg(any(test, feature = "samples"))]
        impl $crate::xdr::Sample<'_> for $n {
            fn sample(tape: &mut $crate::xdr::Tape<'_>) -> Self {
                Self { $($f: $crate::xdr::Sample::sample(tape),)* }
            }
        }
    )*};
}

/// Enumerations with their RFC names. An undefined value is a decode error.
macro_rules! xdr_enum {
    ($(#[$m:meta])* pub enum $n:ident {
        $($(#[$vm:meta])* $v:ident = $num:literal $name:literal,)*
    }) => {
        $(#[$m])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum $n {
            $($(#[$vm])* $v = $num,)*
        }
        impl $n {
            /// Every value, in wire order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$v,)*];

            /// The value on the wire.
            #[inline]
            #[must_use]
            pub const fn wire(self) -> u32 {
                self as u32
            }

            /// The value a wire word stands for, if the protocol defines it.
            #[inline]
            #[must_use]
            pub const fn from_wire(word: u32) -> Option<Self> {
                match word {
                    $($num => Some(Self::$v),)*
                    _ => None,
                }
            }

            /// The name the RFC gives it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$v => $name,)*
                }
            }
        }
        impl core::fmt::Display for $n {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.name())
            }
        }
        impl $crate::xdr::Decode<'_> for $n {
            #[inline]
            fn decode(dec: &mut $crate::xdr::Dec<'_>) -> $crate::xdr::Result<Self> {
                Self::from_wire(dec.u32()?).ok_or($crate::xdr::XdrError::BadEnum)
            }
        }
        impl $crate::xdr::Encode for $n {
            #[inline]
            fn encode(&self, enc: &mut $crate::xdr::Enc<'_>) -> $crate::xdr::Result<()> {
                enc.u32(self.wire())
            }
        }
        impl $crate::xdr::Block for $n {
            const SIZE: usize = 4;
            #[inline]
            fn put(&self, out: &mut [u8]) {
                $crate::xdr::Block::put(&self.wire(), out);
            }
            #[inline]
            fn get(raw: &[u8]) -> $crate::xdr::Result<Self> {
                let word = <u32 as $crate::xdr::Block>::get(raw)?;
                Self::from_wire(word).ok_or($crate::xdr::XdrError::BadEnum)
            }
        }
        #[cfg(any(test, feature = "samples"))]
        impl $crate::xdr::Sample<'_> for $n {
            fn sample(tape: &mut $crate::xdr::Tape<'_>) -> Self {
                Self::ALL[tape.below(Self::ALL.len())]
            }
        }
    };
}

/// Discriminated unions (RFC 4506 4.15). An undefined discriminant is a decode error unless a last
/// `else Name` arm keeps it, for unions where the RFC answers with a status.
macro_rules! xdr_union {
    ($(#[$m:meta])* pub enum $n:ident {
        $($(#[$vm:meta])* $num:literal => $v:ident $(($t:ty))?,)*
        $(else $(#[$om:meta])* $other:ident,)?
    }) => {
        $(#[$m])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $n {
            $($(#[$vm])* $v $(($t))?,)*
            $($(#[$om])* $other(u32),)?
        }
        impl $crate::xdr::Decode<'_> for $n {
            #[inline]
            fn decode(dec: &mut $crate::xdr::Dec<'_>) -> $crate::xdr::Result<Self> {
                match dec.u32()? {
                    $($num => Ok(Self::$v $((dec.get::<$t>()?))?),)*
                    $(other => Ok(Self::$other(other)),)?
                    #[allow(unreachable_patterns)]
                    _ => Err($crate::xdr::XdrError::BadEnum),
                }
            }
        }
        impl $crate::xdr::Encode for $n {
            #[inline]
            fn encode(&self, enc: &mut $crate::xdr::Enc<'_>) -> $crate::xdr::Result<()> {
                match self {
                    $($crate::xdr::xdr_union!(@pattern $v, value $(, $t)?) => {
                        enc.u32($num)?;
                        $(<$t as $crate::xdr::Encode>::encode(value, enc)?;)?
                    })*
                    $(Self::$other(number) => enc.u32(*number)?,)?
                }
                Ok(())
            }
        }
        #[cfg(any(test, feature = "samples"))]
        impl $crate::xdr::Sample<'_> for $n {
            fn sample(tape: &mut $crate::xdr::Tape<'_>) -> Self {
                match tape.below(8) {
                    $($num => Self::$v $((<$t as $crate::xdr::Sample>::sample(tape)))?,)*
                    _ => $crate::xdr::xdr_union!(@rest tape $(, $other)? ; $($v $(($t))?,)*),
                }
            }
        }
    };
    (@rest $tape:ident, $other:ident; $($v:ident $(($t:ty))?,)*) => { Self::$other(0) };
    (@rest $tape:ident; $first:ident $(($t:ty))?, $($more:tt)*) => {
        Self::$first $((<$t as $crate::xdr::Sample>::sample($tape)))?
    };
    (@pattern $v:ident, $value:ident) => { Self::$v };
    (@pattern $v:ident, $value:ident, $t:ty) => { Self::$v($value) };
}

/// Variable-length opaque data and strings with a maximum, as borrowed newtypes.
macro_rules! xdr_opaque {
    ($($(#[$m:meta])* pub struct $n:ident(max $max:expr);)*) => {$(
        $(#[$m])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $n<'a>(
            /// The bytes, without length word and padding.
            pub &'a [u8],
        );
        impl $n<'_> {
            /// Most bytes accepted from the wire.
            pub const MAX: usize = $max;
        }
        impl<'a> $crate::xdr::Decode<'a> for $n<'a> {
            #[inline]
            fn decode(dec: &mut $crate::xdr::Dec<'a>) -> $crate::xdr::Result<Self> {
                dec.opaque($max).map(Self)
            }
        }
        impl $crate::xdr::Encode for $n<'_> {
            #[inline]
            fn encode(&self, enc: &mut $crate::xdr::Enc<'_>) -> $crate::xdr::Result<()> {
                if self.0.len() > $max {
                    return Err($crate::xdr::XdrError::TooLong);
                }
                enc.opaque(self.0)
            }
        }
        #[cfg(any(test, feature = "samples"))]
        impl<'a> $crate::xdr::Sample<'a> for $n<'a> {
            fn sample(tape: &mut $crate::xdr::Tape<'a>) -> Self {
                Self(tape.opaque($max))
            }
        }
    )*};
}

pub(crate) use {xdr_block, xdr_enum, xdr_opaque, xdr_struct, xdr_union};
