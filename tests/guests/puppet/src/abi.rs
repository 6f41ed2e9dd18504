//! Every host call, as the ABI has it: numbers in, a status out.
//!
//! Addresses are plain numbers, so that wrong ones can be handed over too.

/// An address in this module's memory, right or wrong.
pub(crate) type At = usize;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    pub(crate) fn proxy_log(level: u32, text: At, len: usize) -> u32;
    pub(crate) fn proxy_get_current_time_nanoseconds(to: At) -> u32;
    pub(crate) fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    pub(crate) fn proxy_set_effective_context(context: u32) -> u32;
    pub(crate) fn proxy_done() -> u32;
    pub(crate) fn proxy_get_status(code: At, text: At, len: At) -> u32;

    pub(crate) fn proxy_get_property(path: At, len: usize, to: At, to_len: At) -> u32;
    pub(crate) fn proxy_set_property(path: At, len: usize, value: At, value_len: usize) -> u32;
    #[rustfmt::skip]
    pub(crate) fn proxy_call_foreign_function(
        name: At,
        name_len: usize,
        arguments: At,
        arguments_len: usize,
        to: At,
        to_len: At,
    ) -> u32;

    pub(crate) fn proxy_get_header_map_value(
        map: u32,
        name: At,
        len: usize,
        to: At,
        to_len: At,
    ) -> u32;
    #[rustfmt::skip]
    pub(crate) fn proxy_add_header_map_value(
        map: u32,
        name: At,
        len: usize,
        value: At,
        value_len: usize,
    ) -> u32;
    #[rustfmt::skip]
    pub(crate) fn proxy_replace_header_map_value(
        map: u32,
        name: At,
        len: usize,
        value: At,
        value_len: usize,
    ) -> u32;
    pub(crate) fn proxy_remove_header_map_value(map: u32, name: At, len: usize) -> u32;
    pub(crate) fn proxy_get_header_map_pairs(map: u32, to: At, to_len: At) -> u32;
    pub(crate) fn proxy_set_header_map_pairs(map: u32, pairs: At, len: usize) -> u32;
    pub(crate) fn proxy_get_header_map_size(map: u32, to: At) -> u32;

    pub(crate) fn proxy_get_buffer_bytes(
        buffer: u32,
        start: u32,
        len: u32,
        to: At,
        to_len: At,
    ) -> u32;
    pub(crate) fn proxy_set_buffer_bytes(
        buffer: u32,
        start: u32,
        len: u32,
        value: At,
        value_len: usize,
    ) -> u32;
    pub(crate) fn proxy_get_buffer_status(buffer: u32, to_len: At, to_flags: At) -> u32;

    #[rustfmt::skip]
    pub(crate) fn proxy_send_local_response(
        status: u32,
        details: At,
        details_len: usize,
        body: At,
        body_len: usize,
        fields: At,
        fields_len: usize,
        grpc_status: u32,
    ) -> u32;

    #[rustfmt::skip]
    pub(crate) fn proxy_http_call(
        cluster: At,
        cluster_len: usize,
        fields: At,
        fields_len: usize,
        body: At,
        body_len: usize,
        trailers: At,
        trailers_len: usize,
        timeout_ms: u32,
        token: At,
    ) -> u32;
    #[rustfmt::skip]
    pub(crate) fn proxy_grpc_call(
        cluster: At,
        cluster_len: usize,
        service: At,
        service_len: usize,
        method: At,
        method_len: usize,
        metadata: At,
        metadata_len: usize,
        message: At,
        message_len: usize,
        timeout_ms: u32,
        token: At,
    ) -> u32;
    #[rustfmt::skip]
    pub(crate) fn proxy_grpc_stream(
        cluster: At,
        cluster_len: usize,
        service: At,
        service_len: usize,
        method: At,
        method_len: usize,
        metadata: At,
        metadata_len: usize,
        token: At,
    ) -> u32;
    pub(crate) fn proxy_grpc_send(token: u32, message: At, len: usize, is_end: u32) -> u32;
    pub(crate) fn proxy_grpc_cancel(token: u32) -> u32;
    pub(crate) fn proxy_grpc_close(token: u32) -> u32;

    #[rustfmt::skip]
    pub(crate) fn proxy_get_shared_data(
        key: At,
        len: usize,
        to: At,
        to_len: At,
        to_version: At,
    ) -> u32;
    #[rustfmt::skip]
    pub(crate) fn proxy_set_shared_data(
        key: At,
        len: usize,
        value: At,
        value_len: usize,
        version: u32,
    ) -> u32;
    pub(crate) fn proxy_register_shared_queue(name: At, len: usize, token: At) -> u32;
    #[rustfmt::skip]
    pub(crate) fn proxy_resolve_shared_queue(
        vm: At,
        vm_len: usize,
        name: At,
        len: usize,
        token: At,
    ) -> u32;
    pub(crate) fn proxy_dequeue_shared_queue(token: u32, to: At, to_len: At) -> u32;
    pub(crate) fn proxy_enqueue_shared_queue(token: u32, value: At, len: usize) -> u32;

    pub(crate) fn proxy_define_metric(kind: u32, name: At, len: usize, to: At) -> u32;
    pub(crate) fn proxy_increment_metric(id: u32, by: i64) -> u32;
    pub(crate) fn proxy_record_metric(id: u32, value: u64) -> u32;
    pub(crate) fn proxy_get_metric(id: u32, to: At) -> u32;
}

#[cfg(feature = "abi-0-1-0")]
#[link(wasm_import_module = "env")]
unsafe extern "C" {
    pub(crate) fn proxy_get_configuration(to: At, to_len: At) -> u32;
    pub(crate) fn proxy_continue_request() -> u32;
    pub(crate) fn proxy_continue_response() -> u32;
    pub(crate) fn proxy_clear_route_cache() -> u32;
}

#[cfg(not(feature = "abi-0-1-0"))]
#[link(wasm_import_module = "env")]
unsafe extern "C" {
    pub(crate) fn proxy_continue_stream(stream: u32) -> u32;
    pub(crate) fn proxy_close_stream(stream: u32) -> u32;
}

#[cfg(not(any(feature = "abi-0-1-0", feature = "abi-0-2-0")))]
#[link(wasm_import_module = "env")]
unsafe extern "C" {
    pub(crate) fn proxy_get_log_level(to: At) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    pub(crate) fn fd_write(fd: u32, slices: At, count: usize, to: At) -> u32;
    pub(crate) fn fd_read(fd: u32, slices: At, count: usize, to: At) -> u32;
    pub(crate) fn fd_seek(fd: u32, by: i64, whence: u32, to: At) -> u32;
    pub(crate) fn fd_close(fd: u32) -> u32;
    pub(crate) fn fd_fdstat_get(fd: u32, to: At) -> u32;
    pub(crate) fn environ_sizes_get(count: At, bytes: At) -> u32;
    pub(crate) fn environ_get(places: At, to: At) -> u32;
    pub(crate) fn args_sizes_get(count: At, bytes: At) -> u32;
    pub(crate) fn args_get(places: At, to: At) -> u32;
    pub(crate) fn clock_time_get(clock: u32, precision: u64, to: At) -> u32;
    pub(crate) fn random_get(to: At, len: usize) -> u32;
    pub(crate) fn proc_exit(code: u32);
}
