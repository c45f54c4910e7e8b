//! The committed generated code is what the `.proto` files say.
//!
//! `UPDATE=1 cargo test -p proto` rewrites it.

use std::{fs, path::Path};

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let protos = root.join("proto");
    let out = std::env::temp_dir().join(format!("berth-proto-{}", std::process::id()));
    fs::create_dir_all(&out).expect("temporary directory");
    let descriptors =
        protox::compile(["berth/v1/ipam.proto", "google/rpc/status.proto"], [&protos]).expect("valid proto");
    tonic_prost_build::configure()
        .out_dir(&out)
        .emit_rerun_if_changed(false)
        .compile_well_known_types(false)
        .compile_fds(descriptors)
        .expect("generated");
    for name in ["berth.v1.rs", "google.rpc.rs"] {
        let fresh = fs::read_to_string(out.join(name)).expect("generated file");
        let committed = root.join("src/gen").join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&committed, &fresh).expect("written");
        }
        let old = fs::read_to_string(&committed).unwrap_or_default();
        assert!(old == fresh, "{} is stale: run UPDATE=1 cargo test -p proto", committed.display());
    }
    fs::remove_dir_all(&out).expect("removed");
}
