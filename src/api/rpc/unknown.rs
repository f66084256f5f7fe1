//! What is said of a path that no method has.

use super::spec::Spec;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::nearest::{nearest, shortened};

/// Why `call` can't call it: fault 4 for a resource by itself, else fault 3 with
/// what was probably meant.
pub fn no_such_path<'a>(path: &str, specs: impl Iterator<Item = &'a Spec> + Clone) -> Fault {
    let of_resources = || specs.clone().filter(|spec| spec.resource().is_some());
    let methods_of = |resource: &str| {
        let own = of_resources().filter(|spec| spec.resource() == Some(resource));
        own.map(|spec| spec.name).collect::<Vec<_>>().join(", ")
    };
    let own = methods_of(path);
    if !own.is_empty() {
        return Fault::new(FaultCode::NotCallable).detail(format!("{path} is a resource; its methods are {own}."));
    }
    let nearest = nearest(path, of_resources().map(|spec| spec.name));
    let others = match (nearest, path.split_once('.').map(|(resource, _)| methods_of(resource))) {
        (Some(nearest), _) => format!("Did you mean {nearest}?"),
        (None, Some(others)) if !others.is_empty() => format!("There are {others}."),
        _ => "\"resources\" lists all there are.".to_owned(),
    };
    let detail = format!("There is no method {:?}. {others}", shortened(path));
    Fault::new(FaultCode::InvalidPath).detail(detail).nearest(nearest)
}
