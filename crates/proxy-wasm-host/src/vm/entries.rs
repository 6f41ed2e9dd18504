//! The ways into a module: what it may export, of what type, found once.

use wasmtime::{AsContextMut, Instance, TypedFunc};

/// What a module may call its allocator; the first that it has is used.
pub(crate) const ALLOCATORS: [&str; 2] = ["malloc", "proxy_on_memory_allocate"];

/// A name, how many `i32` such a function may take, and how many it returns.
pub(crate) type Signature = (&'static str, &'static [usize], usize);

type I = u32;

macro_rules! entries {
    ($($field:ident = $name:literal: ($($param:ident),*) => $result:tt;)*) => {
        /// All that a module exports of what is called here, but for its headers callbacks.
        pub(crate) struct Found {
            $(pub(crate) $field: Option<TypedFunc<($($param,)*), $result>>,)*
        }

        impl Found {
            fn of(instance: &Instance, mut store: impl AsContextMut) -> Self {
                Self {
                    $($field: instance.get_typed_func(&mut store, $name).ok(),)*
                }
            }
        }

        /// All of what a module exports by these names must be such functions.
        pub(crate) const SIGNATURES: &[Signature] = &[
            $(($name, &[<[&str]>::len(&[$(stringify!($param)),*])], results!($result)),)*
            (REQUEST_HEADERS, &[2, 3], 1),
            (RESPONSE_HEADERS, &[2, 3], 1),
        ];
    };
}

macro_rules! results {
    (()) => {
        0
    };
    (I) => {
        1
    };
}

const REQUEST_HEADERS: &str = "proxy_on_request_headers";
const RESPONSE_HEADERS: &str = "proxy_on_response_headers";

entries! {
    initialize = "_initialize": () => ();
    start = "_start": () => ();
    main = "main": (I, I) => I;
    main_void = "__main_void": () => I;
    malloc = "malloc": (I) => I;
    allocate = "proxy_on_memory_allocate": (I) => I;
    on_context_create = "proxy_on_context_create": (I, I) => ();
    on_vm_start = "proxy_on_vm_start": (I, I) => I;
    on_configure = "proxy_on_configure": (I, I) => I;
    on_tick = "proxy_on_tick": (I) => ();
    on_new_connection = "proxy_on_new_connection": (I) => I;
    on_downstream_data = "proxy_on_downstream_data": (I, I, I) => I;
    on_upstream_data = "proxy_on_upstream_data": (I, I, I) => I;
    on_downstream_close = "proxy_on_downstream_connection_close": (I, I) => ();
    on_upstream_close = "proxy_on_upstream_connection_close": (I, I) => ();
    on_request_body = "proxy_on_request_body": (I, I, I) => I;
    on_request_trailers = "proxy_on_request_trailers": (I, I) => I;
    on_response_body = "proxy_on_response_body": (I, I, I) => I;
    on_response_trailers = "proxy_on_response_trailers": (I, I) => I;
    on_http_call_response = "proxy_on_http_call_response": (I, I, I, I, I) => ();
    on_grpc_initial_metadata = "proxy_on_grpc_receive_initial_metadata": (I, I, I) => ();
    on_grpc_receive = "proxy_on_grpc_receive": (I, I, I) => ();
    on_grpc_trailing_metadata = "proxy_on_grpc_receive_trailing_metadata": (I, I, I) => ();
    on_grpc_close = "proxy_on_grpc_close": (I, I, I) => ();
    on_queue_ready = "proxy_on_queue_ready": (I, I) => ();
    on_done = "proxy_on_done": (I) => I;
    on_log = "proxy_on_log": (I) => ();
    on_delete = "proxy_on_delete": (I) => ();
}

/// A headers callback. Modules of 0.1.0 take two arguments, later ones three; some say the
/// one with their marker and mean the other, so that the function's own type decides.
pub(crate) enum OnHeaders {
    Absent,
    Without(TypedFunc<(u32, u32), u32>),
    WithEnd(TypedFunc<(u32, u32, u32), u32>),
}

/// The ways into one instance.
pub(crate) struct Entries {
    pub(crate) found: Found,
    pub(crate) on_request_headers: OnHeaders,
    pub(crate) on_response_headers: OnHeaders,
}

impl Entries {
    pub(crate) fn of(instance: &Instance, mut store: impl AsContextMut) -> Self {
        Self {
            on_request_headers: OnHeaders::of(instance, &mut store, REQUEST_HEADERS),
            on_response_headers: OnHeaders::of(instance, &mut store, RESPONSE_HEADERS),
            found: Found::of(instance, store),
        }
    }
}

impl OnHeaders {
    fn of(instance: &Instance, mut store: impl AsContextMut, name: &str) -> Self {
        if let Ok(function) = instance.get_typed_func(&mut store, name) {
            return Self::WithEnd(function);
        }
        instance.get_typed_func(&mut store, name).map_or(Self::Absent, Self::Without)
    }

    pub(crate) const fn is_there(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// Calls it; `None` if it is not there.
    pub(crate) fn call(
        &self,
        store: impl AsContextMut,
        id: u32,
        fields: u32,
        is_end: bool,
    ) -> wasmtime::Result<Option<u32>> {
        match self {
            Self::Absent => Ok(None),
            Self::Without(function) => function.call(store, (id, fields)).map(Some),
            Self::WithEnd(function) => {
                function.call(store, (id, fields, u32::from(is_end))).map(Some)
            }
        }
    }
}
