//! What the OpenRPC document says, as a printer of code wants it: methods by
//! their resource, every object and enumeration under a name, faults by name.

use serde_json::Value;

use super::names::Names;
use super::values::{list, text};
use super::words::{pascal, snake};

/// What the templates have: sessions are the packages' own business, and `call`
/// is for methods that they do not know.
const OWN_METHODS: [&str; 4] = ["login", "startSession", "endSession", "call"];
const SESSION_PARAM: &str = "session";
const SESSION_EXPIRED: i64 = 5;
/// A parameter of this name is a bag: its members stand in its place.
const OPTIONS_PARAM: &str = "options";
/// Methods that need another transport than HTTP POST say so under this key.
const TRANSPORT: &str = "x-transport";
/// What their notifications tell stands under this key.
const NOTIFICATION: &str = "x-notification";

/// The whole interface.
pub struct Model {
    pub version: String,
    /// By resource; the methods of none under the empty name.
    pub groups: Vec<Group>,
    pub types: Vec<TypeDef>,
    pub faults: Vec<Fault>,
}

/// The methods of a resource.
pub struct Group {
    pub name: String,
    pub methods: Vec<Method>,
    /// What its subscription does, if it has one and the package can subscribe.
    pub subscription: Option<String>,
}

/// A method as it is called from code.
pub struct Method {
    /// On the wire.
    pub name: String,
    /// What it does, and what it needs.
    pub docs: Vec<String>,
    pub required: Vec<Member>,
    /// What may be left out, those of the parameter `options` among them.
    pub optional: Vec<Optional>,
    /// A flag that the SDK always sets, so that the result has one shape.
    pub flag: Option<String>,
    pub result: Shape,
    /// Those that it may raise.
    pub faults: Vec<Fault>,
    pub paging: Option<Paging>,
}

/// A parameter that may be left out.
pub struct Optional {
    pub member: Member,
    /// Whether it travels in the parameter `options`.
    pub is_in_options: bool,
}

/// How a list is read page by page.
pub struct Paging {
    /// The option that says where to go on.
    pub cursor: String,
    /// The member of an item that says so.
    pub key: String,
    pub item: Shape,
}

/// A type with a name.
pub struct TypeDef {
    pub name: String,
    pub docs: String,
    pub kind: TypeKind,
    pub uses: Use,
}

/// What a type is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    None,
    /// Results.
    Given,
    /// Parameters, and perhaps results too.
    Taken,
}

pub enum TypeKind {
    Object(Vec<Member>),
    /// One of these texts.
    Enumeration(Vec<String>),
}

/// A member of an object, or a parameter.
pub struct Member {
    pub name: String,
    pub is_required: bool,
    pub shape: Shape,
    pub docs: String,
}

/// What a value may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Any,
    Null,
    Text,
    Integer,
    Number,
    Boolean,
    /// 0, 1, false or true.
    Flag,
    /// An object with members that nobody here knows.
    Object,
    Map(Box<Shape>),
    List(Box<Shape>),
    Named(String),
    Union(Vec<Shape>),
    /// Another constant, as JSON.
    Constant(Value),
}

/// A fault that a method may raise.
#[derive(Clone)]
pub struct Fault {
    pub number: i64,
    pub name: String,
    pub message: String,
}

impl Model {
    /// Reads a document that this server has made, for a package that can
    /// subscribe or can't.
    pub fn new(document: &Value, subscribes: bool) -> Self {
        let mut reader = Reader { document, names: Names::default() };
        reader.collect();
        let mut groups: Vec<Group> = Vec::new();
        for method in reader.methods() {
            let name = text(&method["tags"][0]["name"]);
            let method = reader.method(method);
            match groups.iter_mut().find(|group| group.name == name) {
                Some(group) => group.methods.push(method),
                None => groups.push(Group { name: name.to_owned(), methods: vec![method], subscription: None }),
            }
        }
        for method in reader.subscriptions().filter(|_| subscribes) {
            let group = groups.iter_mut().find(|group| group.name == text(&method["tags"][0]["name"]));
            group.into_iter().for_each(|group| group.subscription = Some(text(&method["summary"]).to_owned()));
        }
        let errors = document["components"]["errors"].as_object().into_iter().flatten();
        let faults = errors.map(|(name, error)| Fault::new(name, error)).filter(|fault| fault.number >= 0);
        let mut types = reader.types();
        for method in groups.iter().flat_map(|group| &group.methods) {
            let optional = method.optional.iter().map(|optional| &optional.member);
            method.required.iter().chain(optional).for_each(|member| mark(&member.shape, &mut types, Use::Taken));
            mark(&method.result, &mut types, Use::Given);
        }
        for method in reader.subscriptions().filter(|_| subscribes) {
            reader.told(method).iter().for_each(|shape| mark(shape, &mut types, Use::Given));
        }
        types.retain(|def| def.uses != Use::None);
        let version = text(&document["info"]["version"]).to_owned();
        Self { version, groups, types, faults: faults.collect() }
    }
}

/// Notes what the types in a shape, and in their members, are used for.
fn mark(shape: &Shape, types: &mut [TypeDef], uses: Use) {
    match shape {
        Shape::Map(of) | Shape::List(of) => mark(of, types, uses),
        Shape::Union(branches) => branches.iter().for_each(|branch| mark(branch, types, uses)),
        Shape::Named(name) => {
            let Some(def) = types.iter_mut().find(|def| def.name == *name && def.uses < uses) else { return };
            def.uses = uses;
            let TypeKind::Object(members) = &def.kind else { return };
            let inner: Vec<_> = members.iter().map(|member| member.shape.clone()).collect();
            inner.iter().for_each(|shape| mark(shape, types, uses));
        }
        _ => {}
    }
}

impl Method {
    /// The part after the dot.
    pub fn verb(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    /// A name for what goes with it: `EventPublish`.
    pub fn type_name(&self) -> String {
        pascal(&self.name)
    }

    /// True if some parameters travel in the parameter `options`.
    pub fn has_bag(&self) -> bool {
        self.optional.iter().any(|optional| optional.is_in_options)
    }
}

impl Fault {
    fn new(name: &str, error: &Value) -> Self {
        Self {
            number: error["code"].as_i64().unwrap_or_default(),
            name: name.to_owned(),
            message: text(&error["message"]).to_owned(),
        }
    }
}

/// A document, and the names given to what has none in it.
struct Reader<'a> {
    document: &'a Value,
    names: Names,
}

impl<'a> Reader<'a> {
    /// Those that can be called by HTTP POST.
    fn methods(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let methods = list(&self.document["methods"]);
        methods.filter(|method| method.get(TRANSPORT).is_none() && !OWN_METHODS.contains(&text(&method["name"])))
    }

    /// Those whose answer notifications follow.
    fn subscriptions(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        list(&self.document["methods"]).filter(|method| method.get(NOTIFICATION).is_some())
    }

    /// What the notifications of a method tell: each of its kinds, or what stands
    /// in its members.
    fn told(&self, method: &Value) -> Vec<Shape> {
        let schema = &method[NOTIFICATION]["schema"];
        let named = schema["$ref"].as_str().and_then(|path| self.document.pointer(path.trim_start_matches('#')));
        let mut shapes = Vec::new();
        for kind in list(&named.unwrap_or(schema)["anyOf"]) {
            match kind["properties"].as_object() {
                Some(members) => shapes.extend(members.values().map(|member| self.shape(member))),
                None => shapes.push(self.shape(kind)),
            }
        }
        shapes
    }

    fn schemas(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.document["components"]["schemas"].as_object().into_iter().flatten()
    }

    /// Finds every object and enumeration that needs a name.
    fn collect(&mut self) {
        for (name, schema) in self.schemas() {
            self.names.reserve(name);
            self.names.collect_members(schema, name);
        }
        for method in self.methods() {
            let path = pascal(text(&method["name"]));
            // Its options have this name in code.
            self.names.reserve(&format!("{path}Options"));
            for param in own_params(method) {
                let (name, schema) = (text(&param["name"]), &param["schema"]);
                match bag(param) {
                    Some(_) => self.names.collect_members(schema, &path),
                    None => self.names.collect(schema, &format!("{path}{}", pascal(name))),
                }
            }
            self.names.collect(&method["result"]["schema"], &format!("{path}Result"));
        }
    }

    fn types(&self) -> Vec<TypeDef> {
        let named = self.schemas().map(|(name, schema)| (name.clone(), schema.clone()));
        named.chain(self.names.all()).map(|(name, schema)| self.type_def(name, &schema)).collect()
    }

    fn type_def(&self, name: String, schema: &Value) -> TypeDef {
        let values: Vec<_> = list(&schema["enum"]).filter_map(Value::as_str).map(str::to_owned).collect();
        let kind =
            if values.is_empty() { TypeKind::Object(self.members(schema)) } else { TypeKind::Enumeration(values) };
        TypeDef { name, docs: text(&schema["description"]).to_owned(), kind, uses: Use::None }
    }

    fn members(&self, schema: &Value) -> Vec<Member> {
        let required: Vec<_> = list(&schema["required"]).map(text).collect();
        let members = schema["properties"].as_object().into_iter().flatten();
        members.map(|(name, schema)| self.member(name, required.contains(&name.as_str()), schema, schema)).collect()
    }

    fn member(&self, name: &str, is_required: bool, schema: &Value, described: &Value) -> Member {
        let docs = format!("{}{}", text(&described["description"]), bounds(schema));
        Member { name: name.to_owned(), is_required, shape: self.shape(schema), docs }
    }

    fn method(&self, method: &Value) -> Method {
        let (mut required, mut optional, mut flag) = (Vec::new(), Vec::new(), None);
        let mut result = self.shape(&method["result"]["schema"]);
        for param in own_params(method) {
            let name = text(&param["name"]);
            if let Some(narrowed) = chosen(name, &result) {
                (flag, result) = (Some(name.to_owned()), narrowed);
            } else if let Some(members) = bag(param) {
                let members = members.iter().map(|(name, schema)| self.member(name, false, schema, schema));
                optional.extend(members.map(|member| Optional { member, is_in_options: true }));
            } else {
                let member = self.member(name, param["required"] == true, &param["schema"], param);
                match member.is_required {
                    true => required.push(member),
                    false => optional.push(Optional { member, is_in_options: false }),
                }
            }
        }
        let docs = [text(&method["summary"]), text(&method["description"])];
        // The components have their names.
        let named = self.document["components"]["errors"].as_object();
        let faults = list(&method["errors"]).filter_map(|error| {
            let (name, named) = named?.iter().find(|(_, named)| named["code"] == error["code"])?;
            Some(Fault::new(name, named))
        });
        Method {
            name: text(&method["name"]).to_owned(),
            docs: docs.into_iter().filter(|text| !text.is_empty()).map(str::to_owned).collect(),
            required,
            // An expired session is renewed.
            faults: faults.filter(|fault| fault.number >= 0 && fault.number != SESSION_EXPIRED).collect(),
            paging: self.paging(method, &optional, &result),
            optional,
            flag,
            result,
        }
    }

    /// A method `….list` pages if it has an option `after_X`, and the items of
    /// its result a member X.
    fn paging(&self, method: &Value, optional: &[Optional], result: &Shape) -> Option<Paging> {
        let has_limit = optional.iter().any(|option| option.member.name == "limit");
        let Shape::List(item) = result else { return None };
        if !text(&method["name"]).ends_with(".list") || !has_limit {
            return None;
        }
        let Shape::Named(item_name) = item.as_ref() else { return None };
        let members = self.document["components"]["schemas"][item_name]["properties"].as_object()?;
        optional.iter().filter(|option| option.is_in_options).find_map(|option| {
            let key = option.member.name.strip_prefix("after_").filter(|key| members.contains_key(*key))?;
            Some(Paging { cursor: option.member.name.clone(), key: key.to_owned(), item: item.as_ref().clone() })
        })
    }

    fn shape(&self, schema: &Value) -> Shape {
        if let Some((_, name)) = text(&schema["$ref"]).rsplit_once('/') {
            return Shape::Named(name.to_owned());
        }
        if let Some(whole) = list(&schema["allOf"]).next() {
            return self.shape(whole);
        }
        if schema["anyOf"].is_array() {
            return union(list(&schema["anyOf"]).map(|branch| self.shape(branch)).collect());
        }
        let named = self.names.of(schema).map(|name| Shape::Named(name.to_owned()));
        let null = is_nullable(schema).then_some(Shape::Null);
        if let Some(named) = named {
            return union([named].into_iter().chain(null).collect());
        }
        if schema["enum"].is_array() {
            return constants(&schema["enum"]);
        }
        let types: Vec<_> = match &schema["type"] {
            Value::Array(types) => types.iter().map(text).collect(),
            single => single.as_str().into_iter().collect(),
        };
        if types.is_empty() {
            return Shape::Any;
        }
        union(types.into_iter().map(|name| self.plain(name, schema)).collect())
    }

    /// A value of a JSON type.
    fn plain(&self, name: &str, schema: &Value) -> Shape {
        match name {
            "null" => Shape::Null,
            "string" => Shape::Text,
            "integer" => Shape::Integer,
            "number" => Shape::Number,
            "boolean" => Shape::Boolean,
            "array" => Shape::List(Box::new(self.shape(&schema["items"]))),
            "object" if schema["additionalProperties"].is_object() => {
                Shape::Map(Box::new(self.shape(&schema["additionalProperties"])))
            }
            "object" => Shape::Object,
            other => unreachable!("JSON Schema has no type {other:?}"),
        }
    }
}

/// All but the session.
fn own_params(method: &Value) -> impl Iterator<Item = &Value> {
    list(&method["params"]).filter(|param| param["name"] != SESSION_PARAM)
}

/// The members of the parameter `options`, if none of them has to be there.
fn bag(param: &Value) -> Option<&serde_json::Map<String, Value>> {
    let is_bag = param["name"] == OPTIONS_PARAM && param["required"] != true;
    let members = param["schema"]["properties"].as_object()?;
    (is_bag && list(&param["schema"]["required"]).next().is_none()).then_some(members)
}

/// The type X of the result that a flag `return_x` asks for: the SDK sets the
/// flag, so that nobody has to tell two kinds of results apart.
fn chosen(param: &str, result: &Shape) -> Option<Shape> {
    let asked = param.strip_prefix("return_")?;
    let Shape::Union(branches) = result else { return None };
    branches.iter().find(|branch| matches!(branch, Shape::Named(name) if snake(name) == asked)).cloned()
}

fn constants(values: &Value) -> Shape {
    let values: Vec<_> = list(values).collect();
    let flags = [Value::from(0), 1.into(), false.into(), true.into()];
    let is_flag = flags.iter().all(|flag| values.contains(&flag));
    let others = values.into_iter().filter(|value| !(is_flag && flags.contains(value)));
    let others = others.map(|value| if value.is_null() { Shape::Null } else { Shape::Constant(value.clone()) });
    union(is_flag.then_some(Shape::Flag).into_iter().chain(others).collect())
}

/// Flat, each once, null at the end.
fn union(shapes: Vec<Shape>) -> Shape {
    let mut flat = Vec::new();
    for shape in shapes {
        let branches = if let Shape::Union(branches) = shape { branches } else { vec![shape] };
        for branch in branches {
            if !flat.contains(&branch) {
                flat.push(branch);
            }
        }
    }
    if flat.contains(&Shape::Any) {
        return Shape::Any;
    }
    flat.sort_by_key(|shape| *shape == Shape::Null);
    if flat.len() == 1 { flat.remove(0) } else { Shape::Union(flat) }
}

fn is_nullable(schema: &Value) -> bool {
    list(&schema["type"]).any(|name| name == "null") || list(&schema["enum"]).any(Value::is_null)
}

/// What no type says: ` 1 to 1000.`
fn bounds(schema: &Value) -> String {
    let range = |least: &Value, most: &Value, unit: &str| match (least.as_i64(), most.as_i64()) {
        (Some(least), Some(most)) => format!(" {least} to {most}{unit}."),
        // That numbers are positive goes without saying.
        (Some(least), None) if least > 1 => format!(" From {least}{unit}."),
        (None, Some(most)) if most > 0 => format!(" Up to {most}{unit}."),
        _ => String::new(),
    };
    range(&schema["minimum"], &schema["maximum"], "")
        + &range(&schema["minLength"], &schema["maxLength"], " characters")
        + &range(&schema["minItems"], &schema["maxItems"], " items")
}
