//! Functions of their own, global ones: the verifier walks each once, not once for each way that
//! leads to it. It knows nothing of what they are passed but numbers, so they look up the worker
//! and the connection again; before 5.12 it takes no pointers.

/// A number as a function of its own takes and returns it.
pub trait Word {
    fn word(self) -> u64;
    fn from_word(word: u64) -> Self;
}

macro_rules! words {
    ($($number:ty),*) => { $(
        impl Word for $number {
            #[inline(always)]
            fn word(self) -> u64 {
                self as u64
            }

            #[inline(always)]
            fn from_word(word: u64) -> Self {
                word as Self
            }
        }
    )* };
}

words!(i32, u8, u16, u32, u64);

impl Word for bool {
    #[inline(always)]
    fn word(self) -> u64 {
        self.into()
    }

    #[inline(always)]
    fn from_word(word: u64) -> Self {
        word != 0
    }
}

impl Word for () {
    #[inline(always)]
    fn word(self) -> u64 {
        0
    }

    #[inline(always)]
    fn from_word(_: u64) {}
}

/// Makes a function one of its own. What it borrows is named with how its numbers find it again;
/// where they do not, it returns 0, `false` or nothing.
///
/// ```ignore
/// #[apart(worker = maps::worker(pid))]
/// pub fn begin(pid: u32, worker: &mut Worker, peer: u64) { … }
/// ```
///
/// The symbol is `tracer_` and its name, which no two may share.
macro_rules! apart {
    attr($($lent:ident = $found:expr),*) (
        $(#[$about:meta])*
        $public:vis fn $name:ident($($parameters:tt)*) $(-> $result:ty)? $body:block
    ) => {
        $crate::apart::apart! {
            @split [$($parameters)*] [] []
            [$(#[$about])* #[inline(always)] $public] $name [($($parameters)*) $(-> $result)?] $body
            [$($lent = $found),*]
        }
    };
    // The names of all parameters, and those that are numbers.
    (@split [$lent:ident: &mut $type:ty $(, $($rest:tt)*)?] [$($all:ident)*] $numbers:tt
     $($function:tt)*) => {
        $crate::apart::apart! {
            @split [$($($rest)*)?] [$($all)* $lent] $numbers $($function)*
        }
    };
    (@split [$number:ident: $type:ty $(, $($rest:tt)*)?] [$($all:ident)*] [$($numbers:tt)*]
     $($function:tt)*) => {
        $crate::apart::apart! {
            @split [$($($rest)*)?] [$($all)* $number] [$($numbers)* $number: $type,] $($function)*
        }
    };
    (@split [] [$($all:ident)*] [$($number:ident: $type:ty,)*]
     [$($about:tt)*] $name:ident [$($signature:tt)*] $body:block
     [$($lent:ident = $found:expr),*]) => {
        $($about)* fn $name $($signature)* {
            #[allow(unused_variables, reason = "a number may serve only to find what is lent")]
            #[inline(always)]
            fn body $($signature)* $body

            #[unsafe(export_name = concat!("tracer_", stringify!($name)))]
            #[inline(never)]
            extern "C" fn apart($($number: u64),*) -> u64 {
                $(let $number = <$type as $crate::apart::Word>::from_word($number);)*
                $(let Some($lent) = $found else {
                    return 0;
                };)*
                $crate::apart::Word::word(body($($all),*))
            }

            // The caller keeps none of what it lends in registers meanwhile.
            $(core::hint::black_box(&raw mut *$lent);)*
            let result = apart($($crate::apart::Word::word($number)),*);
            $(core::hint::black_box(&raw mut *$lent);)*
            $crate::apart::Word::from_word(result)
        }
    };
}

pub(crate) use apart;
