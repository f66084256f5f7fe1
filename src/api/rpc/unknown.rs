//! What is said of a path that no method has.

use super::method::Method;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::nearest::{nearest, shortened};

/// Why `call` can't call it: fault 4 for a resource by itself, else fault 3 with
/// what was probably meant.
pub fn no_such_path(path: &str, methods: &[Method]) -> Fault {
    let of_resources = || methods.iter().filter(|method| method.spec.resource().is_some());
    let methods_of = |resource: &str| {
        let own = of_resources().filter(|method| method.spec.resource() == Some(resource));
        own.map(|method| method.spec.name).collect::<Vec<_>>().join(", ")
    };
    let own = methods_of(path);
    if !own.is_empty() {
        return Fault::new(FaultCode::NotCallable).detail(format!("{path} is a resource; its methods are {own}."));
    }
    let nearest = nearest(path, of_resources().map(|method| method.spec.name));
    let others = match (nearest, path.split_once('.').map(|(resource, _)| methods_of(resource))) {
        (Some(nearest), _) => format!("Did you mean {nearest}?"),
        (None, Some(others)) if !others.is_empty() => format!("There are {others}."),
        _ => "\"resources\" lists all there are.".to_owned(),
    };
    let detail = format!("There is no method {:?}. {others}", shortened(path));
    Fault::new(FaultCode::InvalidPath).detail(detail).nearest(nearest)
}
