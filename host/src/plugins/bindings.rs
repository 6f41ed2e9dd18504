//! The world `policy-plugin`, as it stands in `wit/`.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "policy-plugin",
    exports: { default: async },
});
