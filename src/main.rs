fn main() {
    print!("{}", component_lease::api::crd_yaml().unwrap());
}
