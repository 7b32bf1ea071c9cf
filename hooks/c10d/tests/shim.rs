//! The shim is compiled against stub headers of Gloo, which is right as long as it uses nothing of them.

use std::process::Command;

#[test]
fn shim_emits_nothing_of_gloo() {
    let output = Command::new("nm")
        .args(["--demangle", env!("HESSIAN_PROBE_C10D_SHIM")])
        .output()
        .expect("nm, which comes with the linker");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let symbols = String::from_utf8_lossy(&output.stdout);
    assert!(symbols.contains("hp_group_connect"), "not the shim");
    for line in symbols.lines() {
        let gloo_itself = line.contains(" gloo::") || line.contains("GlooStore");
        let defines_vtable = line.contains("vtable for c10d::ProcessGroupGloo") && !line.contains(" U ");
        assert!(!gloo_itself && !defines_vtable, "{line}");
    }
}
